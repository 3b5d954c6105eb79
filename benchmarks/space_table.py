"""A table of every subnet of a trained supernet, for `benchmarks/searchers.py`.

    python benchmarks/space_table.py STUDY TABLE.parquet [--pictures N] [--widths 3] [--most 20000]

STUDY is the output directory of a study that has its final supernet. Each subnet of its space is
measured on val as searches measure it. With `--widths` the space is narrowed: only removable layers
are sliced, and only to so many of their widths; the others stay whole. Stopped and started again it
goes on with those that are missing. The space stands in the table's metadata.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from automl.ledger import Row, read_rows, write_rows
from automl.output import read_config
from automl.progress import track
from automl.sam.config import check_config
from automl.sam.measure import load_weights
from automl.sam.workspace import Workspace
from search_spaces import Subnet, SubnetSpace
from trainables.sam.evaluator import Evaluator
from trainables.supernet import STATE, WEIGHTS

EVERY = 50  # subnets between two times that the table is written
SCHEMA = pa.schema(
    [
        ("layers", pa.list_(pa.int64())),
        ("mlp_widths", pa.list_(pa.int64())),
        ("heads", pa.list_(pa.int64())),  # empty where every layer has all of the parent's
        ("encoder_macs", pa.int64()),
        ("miou_val", pa.float64()),
    ]
)


def subnets_of(space: SubnetSpace) -> Iterator[Subnet]:
    """Each once: the heads of a layer that is removed make no other subnet."""
    names = list(space.choices())
    points = itertools.product(*space.choices().values())
    flats = (dict(zip(names, point, strict=True)) for point in points)
    return iter(dict.fromkeys(space.from_flat(flat) for flat in flats))


def narrowed(space: SubnetSpace, count: int) -> SubnetSpace:
    """The part of a space where layers that always stay are whole, and others have fewer widths.

    Args:
        space: the whole.
        count: of widths, evenly from the narrowest to the parent's.
    """

    def fewer(widths: tuple[int, ...]) -> tuple[int, ...]:
        places = {round(i * (len(widths) - 1) / (count - 1)) for i in range(count)}
        return tuple(widths[place] for place in sorted(places))

    offered = (fewer(o.widths) if o.drop_probability else o.widths[-1:] for o in space.offers)
    return SubnetSpace(tuple(offered), space.drop_probabilities)


def main(options: argparse.Namespace) -> None:
    root = options.study.absolute()
    config = read_config(root, check_config)
    workspace = Workspace(config, root)
    state = json.loads((root / "supernet" / STATE).read_text())
    space = SubnetSpace.from_dict(state["space"])
    if options.widths:
        space = narrowed(space, options.widths)
    if space.size > options.most:
        raise SystemExit(f"{space.size:,} subnets are too many; --most is {options.most:,}")
    schema = SCHEMA.with_metadata({"space": json.dumps(space.to_dict())})
    rows: list[Row] = read_rows(options.table)
    there = {Subnet.from_dict(row) for row in rows}
    missing = [subnet for subnet in subnets_of(space) if subnet not in there]
    supernet = load_weights(workspace, root / "supernet" / WEIGHTS)
    # The last layers change most often: neighbours share all that comes before.
    evaluator = Evaluator(
        supernet, workspace.examples("val", options.pictures), config.evaluation.batch_size
    )
    for subnet in track(missing, len(missing), "subnets", Console()):
        miou = evaluator.evaluate(subnet).metrics.miou
        macs = workspace.costs(subnet)["encoder_macs"]
        rows.append({**subnet.to_dict(), "encoder_macs": macs, "miou_val": miou})
        if len(rows) % EVERY == 0:
            write_rows(rows, options.table, schema)
    write_rows(rows, options.table, schema)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--pictures", type=int, help="of val; by default as many as a search sees")
    parser.add_argument("--widths", type=int, choices=range(2, 9), metavar="N", help="narrow it")
    parser.add_argument("--most", type=int, default=20_000, help="subnets")
    main(parser.parse_args())
