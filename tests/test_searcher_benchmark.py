"""The replay of searchers on a space that is known whole."""

import argparse
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_proposals import costs, quality, subnets_of
from tiny import HEADED_SPACE, SPACE

from benchmarks import searchers, space_table
from search_spaces import SubnetSpace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Every subnet of the tests' space, in no order, as a table without metadata."""
    return write(tmp_path / "table.parquet", SPACE, {})


def write(path: Path, space: SubnetSpace, metadata: dict[str, str]) -> Path:
    subnets = sorted(subnets_of(space), key=lambda subnet: subnet.key)
    rows = [
        {**s.to_dict(), "encoder_macs": costs(s)["encoder_macs"], "miou_val": quality(s) / 2}
        for s in subnets
    ]
    schema = space_table.SCHEMA.with_metadata(metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_the_space_follows_from_its_subnets_or_stands_beside_them(path: Path) -> None:
    space = searchers.read_table(path).space
    assert space.widths == SPACE.widths
    assert space.removable == SPACE.removable
    for given in (SPACE, HEADED_SPACE):
        write(path, given, {"space": json.dumps(given.to_dict())})
        assert searchers.read_table(path).space == given


def test_every_subnet_is_enumerated_once() -> None:
    for space in (SPACE, HEADED_SPACE):
        subnets = list(space_table.subnets_of(space))
        assert len(subnets) == len(set(subnets)) == space.size


def test_a_narrowed_space_slices_removable_layers_alone() -> None:
    space = space_table.narrowed(SPACE, 2)
    assert space.drop_probabilities == SPACE.drop_probabilities
    for narrow, whole in zip(space.offers, SPACE.offers, strict=True):
        ends = tuple(dict.fromkeys((whole.widths[0], whole.widths[-1])))
        assert narrow.widths == (ends if whole.drop_probability else whole.widths[-1:])
    assert all(map(SPACE.contains, space_table.subnets_of(space)))


def test_a_table_that_lacks_a_subnet_is_refused(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(SystemExit, match="47 subnets of a space of 48"):
        searchers.read_table(path)


def test_a_replay_of_random_search_draws_the_spaces_subnets_in_turn(path: Path) -> None:
    table = searchers.read_table(path)
    rng = random.Random(5)
    drawn = list(dict.fromkeys(table.space.sample(rng) for _ in range(90)))
    found = searchers.replay(table, searchers.find_searcher("random"), 5, 12)
    assert found == drawn[:12]


def test_all_evaluated_nothing_is_lacking(path: Path) -> None:
    table = searchers.read_table(path)
    runs = searchers.run(table, "random", 2, table.space.size)
    assert [len(share) for share in runs.share] == [table.space.size] * 2
    assert all(share == sorted(share) and share[-1] == 1 for share in runs.share)
    assert runs.lacking == [[0.0] * 10] * 2
    few = searchers.run(table, "random", 2, 3)
    assert all(share[-1] < 1 for share in few.share)
    assert all(max(lacking) > 0 for lacking in few.lacking)


def test_it_prints_and_plots_all_searchers(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.svg"
    names = ["hyperopt", "nsga2", "tpe", "random"]
    searchers.main(
        argparse.Namespace(table=path, evaluations=8, seeds=2, searchers=names, plot=plot)
    )
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert "100.0% of MACs" in shown
    assert plot.read_text().count("</svg>") == 1
