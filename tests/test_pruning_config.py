"""What the command line says to mistakes in a pruning study, before anything is written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pruning_inputs import CLASSES, OWN, SMALL, config_of, write_network, write_pictures

from automl.channel_pruning.config import hyper_settings
from automl.cli import main
from search_spaces.errors import InputError
from search_spaces.pruner_design import PrunerDesign, PrunerSpace
from trainables.channel_pruning.hypernetwork import HyperSettings
from trainables.channel_pruning.weight_statistics import STATISTICS

# The stream of 8 channels is added to one of 1, which torch spreads over all of them.
MISMATCHED = """
from torch import nn


class Mismatched(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 1, 3)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc((self.wide(x) + self.narrow(x)).mean((2, 3)))


def small(classes):
    return Mismatched(classes)
"""
BROKEN = MISMATCHED.replace("nn.Conv2d(3, 1, 3)", "nn.Conv2d(3, 4, 3)")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), count=12)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*overrides: str) -> str:
        """The one line of a mistake that left nothing behind."""
        output, config = tmp_path / "out", tmp_path / "study.yaml"
        config.write_text("family: channel_pruning\n")
        status = main(["run", "--config", str(config), "--output", str(output), *overrides])
        captured = capsys.readouterr()
        assert status == 2, captured.err
        assert captured.out == ""
        assert not output.exists()
        (line,) = captured.err.strip().splitlines()
        assert line.startswith("supersam: ")
        return line.removeprefix("supersam: ")

    return run


def test_what_is_missing_is_named_with_what_to_give(refused: Callable[..., str]) -> None:
    assert refused().startswith("data: none is given; give data=PATH")
    assert refused("data=here").startswith("weights: none is given; give weights=PATH")
    assert "data: " in refused("data=nowhere", "weights=w.pth")
    assert "nowhere does not exist" in refused("data=nowhere", "weights=w.pth")


def test_an_architecture_whose_residual_shapes_do_not_match_its_masks(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    own = write_network(tmp_path / "mismatched", MISMATCHED)
    line = refused(*SMALL, *own, f"data={pictures}")
    assert "a residual stream must have the same ones throughout" in line
    own = write_network(tmp_path / "broken", BROKEN)
    line = refused(*SMALL, *own, f"data={pictures}")
    assert "can't be run on pictures of 16 pixels" in line
    assert "must match the size" in line


def test_a_budget_below_one_channel_a_group(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    own = write_network(tmp_path / "own")
    line = refused(*SMALL, *own, f"data={pictures}", "search.shares=[0.5,0.001]")
    assert "a share of 0.001 of the MACs is below one channel a group" in line


def test_a_class_folder_with_no_picture(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    own = write_network(tmp_path / "own")
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "yellow").mkdir()
    (folder / "yellow" / "notes.txt").write_text("none yet")
    assert "yellow" in refused(*SMALL, *own, f"data={folder}")


def test_weights_of_another_number_of_classes(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    own = write_network(tmp_path / "own", classes=10)
    line = refused(*SMALL, *own, f"data={pictures}")
    assert line.startswith("weights: ")
    assert f"trained for 10 classes, and the data have {len(CLASSES)}" in line
    assert "checkpoint: " not in line


def test_weights_of_another_network(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    other = OWN.replace("width=8", "width=4")
    own = write_network(tmp_path / "own", other)
    (tmp_path / "own.py").write_text(OWN)
    line = refused(*SMALL, own[1], f"network={tmp_path / 'own.py'}:small", f"data={pictures}")
    assert "conv1.weight has shape [4, 3, 3, 3], not [8, 3, 3, 3]" in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("designs.space.prompt_size=[9]", "prompt_size: a pad of 9 pixels doesn't fit a picture"),
        ("designs.space.statistics=[l2+l3]", "'l3' is no weight statistic"),
        ("designs.space.recurrence=[gru]", "recurrence"),
        ("search.shares=[0.5,0.5]", "search.shares: one is there twice"),
        ("search.shares=[1.5]", "search.shares"),
        ("final.steps=1", "less than designs.steps 2"),
        ("final.tuning_steps=1", "must be more than search.tuning_steps 1"),
        ("resources.train_workers=2", "a pruner is trained by one process"),
        ("network=resnet21", "resnet21 is none of resnet20, "),
        ("network=nowhere.py:small", "nowhere.py does not exist"),
        ("search.searcher=best", "'best' is unknown"),
        ("epochs=3", "unknown key epochs"),
    ],
)
def test_values_out_of_range_are_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        config_of(override)


def test_where_data_and_evaluation_come_from_is_no_part_of_what_resources_change() -> None:
    first, other = config_of(), config_of("resources.evaluators=3", "tracking.experiment=x")
    assert first.key == other.key
    assert first.key != config_of("search.tuning_steps=2").key


def test_the_first_design_is_the_reference() -> None:
    space = PrunerSpace()
    first, plain = (space.design(point) for point in space.first_points())
    assert hyper_settings(first) == HyperSettings()
    assert (plain.prompt, plain.recurrence, plain.statistics) == ("none", "none", ())
    assert PrunerDesign.from_dict(first.to_dict()) == first
    assert first.key != plain.key


def test_every_design_on_offer_has_a_hypernetwork_and_a_point() -> None:
    space = PrunerSpace(statistics=["+".join(STATISTICS), "none"])
    for form in space.prompt:
        for recurrence in space.recurrence:
            for statistics in space.statistics:
                flat = space.first_points()[0] | {
                    "prompt": form,
                    "recurrence": recurrence,
                    "statistics": statistics,
                }
                design = space.design(flat)
                assert space.design(space.flat(design)) == design
                assert hyper_settings(design).prompt.form == form


def test_designs_that_differ_in_the_size_of_no_prompt_are_one() -> None:
    space = PrunerSpace()
    flat = space.first_points()[0] | {"prompt": "full"}
    assert space.design(flat) == space.design(flat | {"prompt_size": 8})
