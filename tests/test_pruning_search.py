"""Budgets as a search proposes them, and files that it leaves, without Ray."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pruning_inputs import config_of
from small_networks import coloured_images, network_of, random_kept

from automl import trial_reports
from automl.channel_pruning import trial
from automl.channel_pruning.front import front_rows, hypervolume_history
from automl.channel_pruning.images import read_split, write_images
from automl.channel_pruning.measure import masked_difference
from automl.channel_pruning.proposals import FAILED, BudgetProposals
from automl.channel_pruning.workspace import PruningWorkspace, network_key
from automl.halving import Budget
from automl.searchers.base_proposals import FINISHED
from automl.searchers.protocol import Values
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces.errors import InputError
from search_spaces.pruning_budget import BudgetSpace, PruningBudget
from trainables.channel_pruning.dependencies import prunable_groups
from trainables.channel_pruning.export import TOLERANCE, onnx_difference, write_onnx
from trainables.channel_pruning.latency import latencies
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.standalone import load_slimmed, save_slimmed
from trainables.data.splits import SPLITS
from trainables.own_code import named_function

SPACE = BudgetSpace((0.7, 0.5, 0.3), ("global", "uniform"))


def proposals(known=None, most=6, retries=1, searcher="hyperopt"):
    known = known or {}
    made = find_searcher(searcher)
    return BudgetProposals(SPACE, known.get, 0, made, most, retries)


def run(search):
    """What is proposed, each answered at once."""
    came = []
    while (flat := search.suggest(str(len(came)))) != FINISHED:
        came.append(PruningBudget(**flat))
        search.on_trial_complete(
            str(len(came) - 1), {"saved": 1 - flat["share"], "quality": flat["share"]}
        )
    return came


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_every_budget_comes_once_whatever_searcher_proposes(searcher):
    came = run(proposals(searcher=searcher, most=20))
    assert sorted(came) == sorted(SPACE.budgets())


def test_a_search_begins_with_the_whole_range():
    came = run(proposals(most=3))
    assert came == [PruningBudget(share, "global") for share in (0.7, 0.5, 0.3)]


def test_a_search_that_starts_again_goes_on_where_it_was():
    whole = run(proposals())
    known = {budget: Values(1 - budget.share, budget.share) for budget in whole[:4]}
    assert run(proposals(known, most=2)) == whole[4:]


def test_what_fails_is_tried_again_and_then_answered():
    search = proposals(most=1)
    first = search.suggest("a")
    search.on_trial_complete("a", error=True)
    assert search.is_tried_again(first)
    assert search.suggest("b") == first
    search.on_trial_complete("b", error=True)
    assert not search.is_tried_again(first)
    assert search.suggest("c") == FINISHED
    assert search._told == {PruningBudget(**first): FAILED}


def test_keys_tell_networks_apart():
    keys = {network_key(w, budget) for w in ("a@1", "a@2", "b@1") for budget in SPACE.budgets()}
    assert len(keys) == 18


def test_the_ladder_goes_evenly_from_the_largest_share_to_the_smallest():
    shares = tuple(i / 10 for i in range(1, 10))
    space = BudgetSpace(shares, ("uniform",))
    assert [budget.share for budget in space.ladder(3)] == [0.9, 0.5, 0.1]
    assert len(space.ladder(20)) == 9
    assert space.ladder(1) == (PruningBudget(0.9, "uniform"),)


def test_fronts_leave_out_what_failed():
    def row(macs, accuracy, failure=None, weights="a@1"):
        return {"macs": macs, "accuracy_val": accuracy, "failure": failure, "weights": weights}

    rows = [row(80, 0.5), row(None, None, "it died"), row(40, 0.4), row(90, 0.5)]
    assert front_rows(rows, 100) == [rows[2], rows[0]]
    more = [row(40, 0.3, weights="b@1"), row(20, 0.4, weights="b@1")]
    growth = hypervolume_history([*rows, *more], 100)
    assert growth == pytest.approx([0.1, 0.1, 0.26, 0.26, 0.26, 0.32])


def test_pictures_are_written_once_and_read_as_they_were(tmp_path):
    images = coloured_images(40, size=20)
    splits = {"train": images.subset(range(24)), "val": images.subset(range(24, 32))}
    splits["test"] = images.subset(range(32, 40))
    assert list(write_images(splits, 16, tmp_path)) == list(range(1, 41))
    for split, given in splits.items():
        found = read_split(tmp_path, split)
        assert found.classes == given.classes
        assert sorted(found.names) == sorted(given.names)
        assert found.names != given.names, "in an order by chance"
        small = given.in_memory(16)
        for i, name in enumerate(found.names):
            place = small.names.index(name)
            assert found.labels[i] == small.labels[place]
            assert np.array_equal(found.read(i), small.read(place))
    assert read_split(tmp_path, "val", 3).names == read_split(tmp_path, "val").names[:3]


@pytest.mark.parametrize("name", ["cifar", "bottleneck", "vgg_bn"])
def test_onnx_gives_the_networks_logits(name, tmp_path):
    network, path = network_of(name), tmp_path / "model.onnx"
    write_onnx(network, 32, path)
    some = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert onnx_difference(path, network, some) <= TOLERANCE
    assert onnx_difference(path, network_of(name, seed=1), some) > TOLERANCE


def test_latencies_are_of_each_network_alone():
    small, large = network_of("cifar"), network_of("resnet50")
    first, second, third = latencies([small, large, small], 64, rounds=5)
    assert 0 < first < second > third


def test_a_standalone_network_of_ones_own_runs_no_code_by_itself(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from pathlib import Path\n"
        "from trainables.channel_pruning.networks import NETWORKS\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "small = NETWORKS['resnet20']\n"
    )
    folder, network = tmp_path / "network", network_of("resnet20")
    folder.mkdir()
    kept = {}
    save_slimmed(network, f"{own}:small", tuple("abcde"), 32, kept, folder)
    with pytest.raises(InputError, match="give the function that makes it as `build`"):
        load_slimmed(folder)
    assert not (tmp_path / "ran").exists()
    described = json.loads((folder / "network.json").read_text())
    described["kept"] = {
        group: list(range(count)) for group, count in zip(*_groups(network), strict=True)
    }
    (folder / "network.json").write_text(json.dumps(described))
    found = load_slimmed(folder, named_function(f"{own}:small", "network", ()))
    assert all(torch.equal(t, found.state_dict()[k]) for k, t in network.state_dict().items())


def _groups(network):
    groups = prunable_groups(network, 32)
    return [group.name for group in groups], [group.channels for group in groups]


def test_budgets_are_what_the_configuration_offers():
    config = config_of("search.shares=[0.9,0.2]", "search.allocations=[uniform]")
    assert config.budgets == BudgetSpace((0.9, 0.2), ("uniform",))
    assert config.budgets.smallest == 0.2
    assert config.budgets.size == 2


@pytest.mark.parametrize("name", ["cifar", "bottleneck"])
def test_a_slimmed_network_is_the_masked_one_or_is_refused(name, tmp_path, monkeypatch):
    workspace = PruningWorkspace(config_of(), tmp_path)
    images = coloured_images(30, size=16)
    splits = {split: images.subset(range(10 * i, 10 * i + 10)) for i, split in enumerate(SPLITS)}
    assert len(list(write_images(splits, 16, workspace.data))) == 30
    prunable = Prunable.of(network_of(name), 16)
    kept, other = (random_kept(prunable.groups, seed=seed) for seed in (0, 1))
    assert masked_difference(workspace, prunable, kept) < 1e-12
    assert next(prunable.network.parameters()).dtype == torch.float32
    slim = Prunable.slimmed
    monkeypatch.setattr(Prunable, "slimmed", lambda self, kept: slim(self, other))
    with pytest.raises(RuntimeError, match="away from the masked one"):
        masked_difference(workspace, prunable, kept)


def test_two_points_of_one_design_are_one_training(tmp_path, monkeypatch):
    workspace = PruningWorkspace(config_of(), tmp_path)
    trained, reported = [], []

    def train_and_search(design, workspace, budget):
        trained.append(design)
        time.sleep(0.3)
        return {"design": design.key, "hypervolume": 0.5}

    monkeypatch.setattr(trial, "_train_and_search", train_and_search)
    monkeypatch.setattr(trial_reports.tune, "report", reported.append)
    flat = workspace.config.designs.space.first_points()[0] | {"prompt": "full"}
    points = [flat | {"prompt_size": size} for size in (2, 4, 8)]
    with ThreadPoolExecutor() as threads:
        each = [threads.submit(trial.score_design, p, workspace, Budget(2, 3)) for p in points]
        for done in each:
            done.result()
    assert len(trained) == 1
    assert [report["record"]["design"] for report in reported] == [trained[0].key] * 3
    trial.score_design(flat, workspace, Budget(4, 3))
    assert len(trained) == 2, "with another budget it goes on"


def test_random_budgets_are_on_offer():
    drawn = {SPACE.sample(random.Random(i)) for i in range(60)}
    assert drawn == set(SPACE.budgets())
    assert all(SPACE.contains(budget) for budget in drawn)
    assert not SPACE.contains(PruningBudget(0.6, "global"))
