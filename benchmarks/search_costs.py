"""What the processes that steer a search do for one evaluation, by how many there were before.

    python benchmarks/search_costs.py [--lengths 100 1000 4000]

For ledgers of so many rows, in CPU milliseconds: a proposal of each searcher; the row's way to the
ledger on disk; an evaluator reading the ledger for rivals; the front and its hypervolume; MLflow
being told of them (a SQLite file). Rows are as long as those of 64 pictures with 400 objects, and
made up; costs and spaces are those of vit_t.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scaling import made_up, simulated

from automl.ledger import Ledger, Row, read_rows, write_rows
from automl.sam.ledger import SCHEMA, SUBNETS
from automl.sam.proposals import RUNGS, SubnetProposals
from automl.sam.search import search_state
from automl.sam.subnet_trial import rivals_of
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces import Subnet, SubnetSpace
from trainables.sam.layer_worth import LayerWorth


def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(simulated(1, 1), Path(folder) / "out")
        workspace.root.mkdir()
        offered = workspace.config.designs.space
        design = offered.design(offered.first_points()[0])
        worth = [LayerWorth(i, 0.01 * (1 + i % 5), 0.1) for i in range(workspace.encoder.depth)]
        workspace.write_importance(worth, {}, design)
        space = workspace.space(design)
        rng = random.Random(0)
        subnets: dict[Subnet, None] = {}
        while len(subnets) < max(options.lengths) + options.each:
            subnets[space.sample(rng)] = None
        identity = {"design": design.key, "weights": f"{design.key}@1"}
        rows = [{**made_up(workspace, subnet), **identity} for subnet in subnets]
        found = {
            length: costs_at(workspace, space, rows[: length + options.each], options.each)
            for length in options.lengths
        }
    print(f"{'CPU ms for one evaluation, after':36}", *(f"{n:>7}" for n in found))
    for name in next(iter(found.values())):
        print(f"{name:36}", *(f"{found[length][name]:7.1f}" for length in found))


def costs_at(
    workspace: Workspace, space: SubnetSpace, rows: list[Row], each: int
) -> dict[str, float]:
    """Of the last `each` rows, the mean."""
    before, new = rows[:-each], rows[-each:]
    part = workspace.root / f"{len(before)}.parquet"
    write_rows(before, part, SCHEMA)
    ledger = Ledger(part, SUBNETS)
    tracking = Tracking(workspace.config, workspace.root)
    reached = {"hypervolume": 0.5, "front_size": 3.0}
    tracking.log_search("made@1", [(1, reached)])
    steps = iter(range(2, 2 + each))
    found = {
        f"proposal, {name}": proposals(workspace, space, before, name, each) for name in SEARCHERS
    }
    fresh = iter(new)
    found["row into the ledger"] = cpu_ms(lambda: ledger.record(next(fresh)), each)
    found["ledger read by an evaluator"] = cpu_ms(lambda: rivals_of(read_rows(part)), each)
    found["front and hypervolume"] = cpu_ms(lambda: search_state(workspace, ledger.rows()), each)
    found["MLflow told of them"] = cpu_ms(
        lambda: tracking.log_search("made@1", [(next(steps), reached)]), each
    )
    found["the ledger's size in MB"] = part.stat().st_size / 1e6
    return found


def proposals(
    workspace: Workspace, space: SubnetSpace, before: list[Row], name: str, each: int
) -> float:
    """Suggest and tell, after the searcher was told of these rows."""
    proposed = SubnetProposals(
        space,
        workspace.costs,
        workspace.parent_costs["encoder_macs"],
        [],
        lambda subnet: None,
        0,
        find_searcher(name),
    )
    for row in before:
        proposed._tell(Subnet.from_dict(row), row["expected"])
    numbers = iter(range(RUNGS + each))

    def one() -> None:
        number = str(next(numbers))
        if isinstance(proposed.suggest(number), dict):
            proposed.on_trial_complete(number, {"quality": 0.7})

    for _ in range(RUNGS):  # each search starts with them
        one()
    return cpu_ms(one, each)


def cpu_ms(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return 1000 * (time.process_time() - start) / times


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 1000, 4000])
    parser.add_argument("--each", type=int, default=10, help="times that each is done")
    main(parser.parse_args())
