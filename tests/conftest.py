import copy
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny import SPACE, random_tensor, tiny_sam, write_label_maps
from torch import Tensor

from search_spaces import SubnetSpace
from trainables.data.batches import AugmentSettings, Batch, training_batch
from trainables.data.pictures import Pictures
from trainables.data.prepare import prepare
from trainables.data.splits import SplitRule
from trainables.sam.scores import visual_prompt
from trainables.sam.segment_anything_import import Sam
from trainables.sam.supernet import Supernet

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")
torch.set_num_threads(1)
# Tests start several clusters from one process, which Ray's tokens are not made for;
# test_cluster_access.py is about them.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


# Whole studies, on processes of their own. Files are shared out among workers in this order: the
# longest at once, the next ones when the many short ones are through.
LONGEST = ("test_study.py",)
LONG = (
    "test_examples.py",
    "test_search_faults.py",
    "test_cluster_nodes.py",
    "test_pruning_study.py",
    "test_conv_study.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path.name in LONG) - (item.path.name in LONGEST))


@pytest.fixture(autouse=True)
def _few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """PASS's score learns as little as shows that it does."""
    monkeypatch.setattr(visual_prompt, "STEPS", 3)


@pytest.fixture(scope="session")
def _built() -> Sam:
    return tiny_sam()


@pytest.fixture
def sam(_built: Sam) -> Sam:
    return copy.deepcopy(_built)


@pytest.fixture
def supernet(sam: Sam) -> Supernet:
    return Supernet(sam)


@pytest.fixture
def space() -> SubnetSpace:
    return SPACE


@pytest.fixture
def images() -> Tensor:
    return random_tensor(4, 3, 64, 64, seed=1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_label_maps(folder, [f"picture-{i:02d}" for i in range(14)])
    return folder


@pytest.fixture(scope="session")
def splits(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    prepare(dataset, folder, rule=SplitRule(val=0.25, test=0.25))
    return folder


@pytest.fixture(scope="session")
def train_pictures(splits: Path) -> Pictures:
    return Pictures(splits / "train.parquet")


@pytest.fixture
def batch(train_pictures: Pictures) -> Batch:
    return training_batch(
        train_pictures,
        0,
        seed=3,
        batch_size=4,
        image_size=64,
        max_objects=4,
        prompts="mixed",
        augment=AugmentSettings(),
    )
