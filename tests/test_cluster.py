import signal

import pytest

from automl import cluster, placement
from automl.base_config import ResourcesConfig
from automl.cluster import check_resources, fitting_designs, process_slots
from automl.placement import evaluators_of, training_of
from search_spaces import InputError

MACHINE = {"CPU": 8.0, "GPU": 2.0}
PLAIN = {"CPU": 4.0}


@pytest.mark.parametrize(
    ("named", "started", "address"),
    [
        (None, False, "local"),
        (None, True, "auto"),
        ("", True, "auto"),
        ("10.0.0.1:6379", False, "10.0.0.1:6379"),
        ("local", True, "local"),
    ],
)
def test_a_cluster_is_joined_only_where_ray_start_ran(
    named, started, address, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "STARTED", tmp_path / "ray_current_cluster")
    if started:
        cluster.STARTED.write_text("10.0.0.1:6379")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named is not None:
        monkeypatch.setenv("RAY_ADDRESS", named)
    assert cluster.cluster_address() == address


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "slots"),
    [
        ([PLAIN], 2, 0, 2),
        ([PLAIN], 0.1, 0, 40),
        ([PLAIN, PLAIN], 3, 0, 2),
        ([MACHINE, PLAIN], 2, 1, 2),
        ([MACHINE], 1, 0.5, 4),
        ([MACHINE], 1, 0.6, 2),
        ([MACHINE], 1, 2, 1),
        ([PLAIN], 1, 1, 0),
        ([], 1, 0, 0),
    ],
)
def test_a_process_is_placed_on_one_node(nodes, cpus, gpus, slots):
    assert process_slots(nodes, cpus, gpus) == slots


@pytest.mark.parametrize(
    ("nodes", "settings", "parts"),
    [
        ([PLAIN], {"train_cpus": 5}, ["resources.train_cpus", "5 CPU", "has 4", "=4 or less"]),
        ([PLAIN], {"evaluator_gpus": 1}, ["resources.evaluator_gpus", "1 GPU", "has 0"]),
        (
            [MACHINE, {"CPU": 32.0}],
            {"train_cpus": 9, "train_gpus": 1},
            ["9 CPU and 1 GPU of one node", "no node"],
        ),
        (
            [MACHINE],
            {"train_workers": 3, "train_gpus": 1},
            ["room for 2", "set resources.train_workers=2 or less, or resources.train_gpus=0"],
        ),
        (
            [PLAIN, PLAIN],
            {"train_workers": 3, "train_cpus": 3},
            ["resources.train_workers: 3", "room for 2", "=2 or less"],
        ),
    ],
)
def test_what_can_never_be_placed_is_refused_in_one_line(nodes, settings, parts):
    with pytest.raises(InputError) as caught:
        check_resources(ResourcesConfig(**settings), nodes)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_what_fits_is_taken_and_evaluators_may_take_turns():
    check_resources(ResourcesConfig(), [PLAIN])
    check_resources(ResourcesConfig(train_workers=2, evaluators=9), [PLAIN])
    check_resources(ResourcesConfig(train_workers=2, train_gpus=1), [MACHINE])


@pytest.mark.parametrize(
    ("nodes", "settings", "asked", "fitting"),
    [
        ([PLAIN], {}, 1, 1),
        ([PLAIN], {}, 8, 2),
        ([MACHINE], {}, 3, 3),
        ([MACHINE], {"train_gpus": 1}, 3, 2),
        ([MACHINE], {"train_workers": 2}, 8, 2),
        ([MACHINE], {"evaluators": 4}, 8, 1),
        ([PLAIN], {"evaluators": 4}, 8, 1),
    ],
)
def test_as_many_designs_run_at_once_as_fit(nodes, settings, asked, fitting):
    assert fitting_designs(ResourcesConfig(**settings), asked, nodes) == fitting


@pytest.mark.parametrize(
    ("nodes", "settings", "train", "evaluator"),
    [
        ([PLAIN], {}, 0, 0),
        ([{"CPU": 8.0, "GPU": 1.0}], {}, 1, 1),
        ([{"CPU": 8.0, "GPU": 1.0}], {"evaluators": 4}, 1, 0.25),
        ([{"CPU": 64.0, "GPU": 8.0}], {"train_workers": 8, "evaluators": 8}, 1, 1),
        ([{"CPU": 64.0, "GPU": 8.0}], {"evaluators": 12}, 1, 0.5),
        ([PLAIN, MACHINE, MACHINE], {"evaluators": 5}, 1, 0.5),
        ([{"CPU": 1.0, "GPU": 1.0}, PLAIN], {}, 0, 0),
        ([{"CPU": 8.0, "GPU": 1.0}], {"evaluators": 7, "evaluator_cpus": 1}, 1, 0.1428),
        ([MACHINE], {"train_gpus": 0, "evaluator_gpus": 0.3}, 0, 0.3),
        ([MACHINE], {"train_gpus": 2}, 2, 1),
    ],
)
def test_gpus_are_used_where_there_are_any(nodes, settings, train, evaluator, monkeypatch):
    monkeypatch.setattr(placement, "GPU_BUILD", True)
    resources = ResourcesConfig(**settings)
    evaluators = evaluators_of(resources, nodes)
    assert (training_of(resources, nodes).gpus, evaluators.gpus) == (train, evaluator)
    check_resources(resources, nodes)
    if not settings.keys() & {"evaluator_gpus"}:
        assert process_slots(nodes, evaluators.cpus, evaluators.gpus) >= evaluators.processes
    monkeypatch.setattr(placement, "GPU_BUILD", False)
    without = {**settings, "train_gpus": None, "evaluator_gpus": None}
    assert training_of(ResourcesConfig(**without), nodes).gpus == 0
    assert evaluators_of(ResourcesConfig(**without), nodes).gpus == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_ended_a_study_is_named_where_a_library_raises_its_own(name):
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(KeyboardInterrupt, match=name), cluster.ended_by_signals():
        try:
            signal.raise_signal(signal.Signals[name])
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
    assert signal.getsignal(signal.Signals[name]) is before
