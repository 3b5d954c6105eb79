"""Which searcher finds the front with the fewest evaluations, on a space that is known whole.

    python benchmarks/searchers.py TABLE.parquet [--evaluations 100] [--seeds 20]
        [--searchers hyperopt nsga2 tpe random] [--plot searchers.svg]

TABLE has a row for every subnet of a space: layers, mlp_widths, encoder_macs, miou_val, and heads
where they are elastic; `benchmarks/space_table.py` makes one. `benchmarks/vit_t_space.parquet` has
1,024 subnets of a supernet of `vit_t` after 50 steps: five removable layers, each with three
widths, on the quick start's pictures. Searches are replayed on it in this process, one subnet at a
time, each searcher behind the same driver as in a study. FILE.py:NAME names a searcher of your own.

It prints, as mean ± standard deviation over the seeds, the share of the whole table's hypervolume
after some numbers of evaluations; and for ten budgets of MACs how much mIoU the best subnet that
was found within the budget lacks of the best that there is. The plot shows the former.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from automl.charts import CONFIG, as_svg
from automl.pareto import hypervolume, objectives
from automl.sam.proposals import SubnetProposals
from automl.searchers.protocol import MakeSearcher
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces import Subnet, SubnetSpace

BUDGETS = 10
LEAST = 1e-4  # missing of the hypervolume: the plot shows no less
SHOWN = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the evaluations


class Measured(NamedTuple):
    macs: float
    miou: float


class Table(NamedTuple):
    """A space and what each of its subnets costs and scores."""

    space: SubnetSpace
    rows: dict[Subnet, Measured]

    @property
    def parent_macs(self) -> float:
        return self.rows[self.space.largest].macs

    def hypervolume(self, found: Sequence[Subnet]) -> float:
        rows = [self.rows[subnet] for subnet in found]
        return hypervolume([objectives(row.macs, row.miou, self.parent_macs) for row in rows])

    def budgets(self) -> list[float]:
        """Evenly from the smallest subnet's MACs, left out, to the parent's."""
        least, most = self.rows[self.space.smallest].macs, self.parent_macs
        return [least + (most - least) * (i + 1) / BUDGETS for i in range(BUDGETS)]

    def best_within(self, budget: float, found: Sequence[Subnet]) -> float:
        """The highest mIoU within a budget; 0 where nothing is."""
        rows = [self.rows[subnet] for subnet in found]
        return max((row.miou for row in rows if row.macs <= budget), default=0.0)


def read_table(path: Path) -> Table:
    table = pq.read_table(path)
    rows = {
        Subnet.from_dict(row): Measured(row["encoder_macs"], row["miou_val"])
        for row in table.to_pylist()
    }
    metadata = (table.schema.metadata or {}).get(b"space")
    space = SubnetSpace.from_dict(json.loads(metadata)) if metadata else space_of(list(rows))
    if len(rows) != space.size or not all(map(space.contains, rows)):
        raise SystemExit(f"{path}: {len(rows)} subnets of a space of {space.size}; all are needed")
    return Table(space, rows)


def space_of(subnets: Sequence[Subnet]) -> SubnetSpace:
    """The space that these subnets are all of, without heads; what may go, goes half the time."""
    widths: dict[int, set[int]] = {}
    for subnet in subnets:
        for layer, size in subnet.sizes(()).items():
            widths.setdefault(layer, set()).add(size.mlp_width)
    there = Counter(layer for subnet in subnets for layer in subnet.layers)
    depth = max(widths) + 1
    return SubnetSpace(
        tuple(tuple(sorted(widths[layer])) for layer in range(depth)),
        tuple(0.5 * (there[layer] < len(subnets)) for layer in range(depth)),
    )


def replay(table: Table, make: MakeSearcher, seed: int, evaluations: int) -> list[Subnet]:
    """Subnets in the order in which a search evaluates them."""
    found: list[Subnet] = []
    proposals = SubnetProposals(
        table.space,
        lambda subnet: {"encoder_macs": table.rows[subnet].macs},
        table.parent_macs,
        [],
        lambda subnet: None,
        seed,
        make,
    )
    for number in range(evaluations):
        proposed = proposals.suggest(str(number))
        if not isinstance(proposed, dict):
            break
        found.append(Subnet.from_dict(proposed))
        miou = table.rows[found[-1]].miou
        proposals.on_trial_complete(str(number), {"quality": miou})
    return found


class Runs(NamedTuple):
    """A searcher's replays: for each seed, a figure after each evaluation and for each budget."""

    share: list[list[float]]
    lacking: list[list[float]]
    seconds: float


def run(table: Table, name: str, seeds: int, evaluations: int) -> Runs:
    start, make, everything = time.perf_counter(), find_searcher(name), list(table.rows)
    whole = table.hypervolume(everything)
    best = {budget: table.best_within(budget, everything) for budget in table.budgets()}
    share, lacking = [], []
    for seed in range(seeds):
        found = replay(table, make, seed, evaluations)
        share.append([table.hypervolume(found[: i + 1]) / whole for i in range(len(found))])
        lacking.append([most - table.best_within(at, found) for at, most in best.items()])
    return Runs(share, lacking, time.perf_counter() - start)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.4f} ± {statistics.pstdev(values):.4f}"


def print_rows(head: str, names: Sequence[str], columns: dict[str, list[list[float]]]) -> None:
    """A row for each name, a column for each searcher, over its seeds."""
    print(f"\n{head:>14}" + "".join(f"{column:>20}" for column in columns))
    for i, name in enumerate(names):
        cells = (spread([seed[i] for seed in runs]) for runs in columns.values())
        print(f"{name:>14}" + "".join(f"{cell:>20}" for cell in cells))


def plot(runs: dict[str, Runs], path: Path) -> None:
    """What is missing of the hypervolume, on a logarithmic scale: median and quartiles of seeds."""
    points = []
    for name, found in runs.items():
        for number, shares in enumerate(zip(*found.share, strict=True), start=1):
            missing = [max(LEAST, 1 - share) for share in shares]
            low, median, high = statistics.quantiles(missing, n=4)
            points.append(
                {
                    "searcher": name,
                    "evaluations": number,
                    "median": median,
                    "low": max(LEAST, low),
                    "high": high,
                }
            )
    shared = {
        "x": {"field": "evaluations", "type": "quantitative"},
        "color": {
            "field": "searcher",
            "type": "nominal",
            "sort": list(runs),
            "legend": {"symbolOpacity": 1, "symbolType": "stroke", "symbolStrokeWidth": 3},
        },
    }
    y = {
        "type": "quantitative",
        "scale": {"type": "log", "domain": [LEAST, 1], "clamp": True},
        "axis": {"values": [1, 0.1, 0.01, 1e-3, 1e-4], "format": "~%"},
        "title": "missing of the space's hypervolume",
    }
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    chart = {
        "width": 560,
        "height": 340,
        "data": {"values": points},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15}, "encoding": {**shared, **band}},
            {"mark": "line", "encoding": {**shared, "y": {**y, "field": "median"}}},
        ],
        "config": CONFIG,
    }
    path.write_text(as_svg(chart))


def main(options: argparse.Namespace) -> None:
    table = read_table(options.table)
    evaluations = min(options.evaluations, table.space.size)
    print(f"{table.space.size:,} subnets, {evaluations} evaluations, {options.seeds} seeds")
    runs = {name: run(table, name, options.seeds, evaluations) for name in options.searchers}
    done = min(len(seed) for found in runs.values() for seed in found.share)
    at = sorted({max(1, round(part * done)) for part in SHOWN})
    shares = {
        name: [[seed[i - 1] for i in at] for seed in found.share] for name, found in runs.items()
    }
    print_rows("evaluations", [str(i) for i in at], shares)
    within = [f"{budget / table.parent_macs:.1%} of MACs" for budget in table.budgets()]
    print_rows("mIoU lacking", within, {name: found.lacking for name, found in runs.items()})
    print("\n" + ", ".join(f"{name} {found.seconds:.1f} s" for name, found in runs.items()))
    if options.plot:
        shorter = {n: f._replace(share=[seed[:done] for seed in f.share]) for n, f in runs.items()}
        plot(shorter, options.plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS))
    parser.add_argument("--plot", type=Path)
    main(parser.parse_args())
