"""A latency table of a study's parent on this machine, and how well it predicts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from automl.files import write_json
from automl.ledger import read_rows
from automl.output import claim_output
from automl.progress import track
from automl.sam.reach import check_reachable, equal_worth
from automl.sam.workspace import Workspace
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.latency import Track, measure_table
from trainables.latency_check import check_table, random_subnets
from trainables.latency_memory import with_memory
from trainables.sam.encoder import elastic
from trainables.sam.models import load_sam

MEASURED, CHECKED = 4, 7
"""Widths of an MLP, and numbers of heads: those in the table; those of the subnets that check it,
half of which lie between the former."""
SUBNETS = 20


def measure_latency(
    workspace: Workspace, console: Console, threads: int | None = None
) -> dict[str, Any]:
    """Measure the parent with fresh weights, on the GPU where there is one; write `latency.json`.

    Args:
        workspace: of the study; its directory is claimed.
        console: where progress is shown.
        threads: of the CPU; None: as many as torch has.

    Returns:
        What the file holds: the table; `parent_ms` and `parent_peak_bytes`; `first_design`, what
        is predicted over the subnets of the design that is tried first; `check`, predictions for
        random subnets beside measurements; `front`, the same for each subnet of the study's front,
        if it has one.

    Raises:
        InputError: a constraint is no bound or out of reach, or the checkpoint can't be used.
    """
    config = workspace.config
    check_reachable(workspace, None)
    if config.checkpoint is not None:
        load_sam(config.model, config.checkpoint, config.image_size)
    encoder = elastic(workspace.encoder.build()).eval()
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")

    def shown(what: str) -> Track:
        return lambda passes: track(passes, len(passes), what, console)

    measured, checked = _space(workspace, MEASURED), _space(workspace, CHECKED)
    with _threads(threads):
        table = measure_table(
            encoder, measured.widths, measured.heads, model=config.model, track=shown("blocks")
        )
        table = with_memory(encoder, table)
        subnets = random_subnets(checked, SUBNETS, config.seed)
        check = check_table(encoder, table, subnets, track=shown("subnets"))
        front = [Subnet.from_dict(row) for row in read_rows(workspace.root / "front.parquet")]
        again = check_table(encoder, table, front, track=shown("front")) if front else None
    first = _space(workspace)
    least, most = table.bounds(first)
    value = {
        **table.to_dict(),
        "parent_ms": table.predict(table.parent),
        "first_design": {"subnets": first.size, "least_ms": least, "most_ms": most},
        "check": check.to_dict(),
        "parent_peak_bytes": table.predict_peak_bytes(table.parent),
        "front": [
            {"subnet": subnet.key, "predicted_ms": predicted, "measured_ms": measured}
            for subnet, predicted, measured in zip(
                front, again.predicted, again.measured, strict=True
            )
        ]
        if again
        else [],
    }
    claim_output(workspace)
    write_json(value, workspace.root / "latency.json")
    return value


def _space(workspace: Workspace, counts: int | None = None) -> SubnetSpace:
    """The design that is tried first; or, of so many widths, from the narrowest on offer to all."""
    offered = workspace.config.designs.space
    point = offered.first_points()[0]
    if counts is not None and max(offered.width_count) > 1:
        ratios = {
            name: min(getattr(offered, name)) for name in ("smallest_ratio", "smallest_heads")
        }
        point = {**point, **ratios, "width_count": counts, "spacing": "linear"}
    known = (workspace.root / "importance.parquet").is_file()
    worth = workspace.worth() if known else equal_worth(workspace)
    return workspace.draw_up(offered.design(point), worth)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def latency_table(value: dict[str, Any]) -> Table:
    """What the parts of the encoder take; heads and their milliseconds stand in the same order."""
    where = f"CPU threads: {value['threads']}" if value["device"] == "cpu" else value["device"]
    title = f"{value['model']} at {value['image_size']} px, one picture, {where}"
    table = Table(title=title, title_justify="left")
    for name in ("attention", "layers", "input"):
        table.add_column(name)
    for name in ("heads", "neurons", "ms"):
        table.add_column(name, justify="right")
    fixed = f"{value['fixed_ms']:,.2f}"
    table.add_row("what every subnet has", "", "", "", "", fixed, end_section=True)
    for kind in value["kinds"]:
        described = (
            kind["attention"],
            ", ".join(map(str, kind["layers"])),
            " × ".join(map(str, kind["tokens"])),
            " / ".join(map(str, kind["heads"])) or "all",
        )
        for place, width in enumerate(kind["widths"]):
            times = " / ".join(f"{row[place]:,.2f}" for row in kind["ms"])
            last = place == len(kind["widths"]) - 1
            table.add_row(
                *(described if place == 0 else [""] * 4), str(width), times, end_section=last
            )
    return table


def front_latency_table(value: dict[str, Any]) -> Table:
    """The study's front: what is predicted for each subnet, and what it took."""
    table = Table(title="The front", title_justify="left")
    table.add_column("subnet")
    for name in ("predicted", "measured"):
        table.add_column(name, justify="right")
    for row in value["front"]:
        times = (f"{row[name]:,.1f} ms" for name in ("predicted_ms", "measured_ms"))
        table.add_row(row["subnet"], *times)
    return table


def latency_notes(value: dict[str, Any]) -> str:
    """What follows from the table, and how far it can be trusted."""
    check, first, parent = value["check"], value["first_design"], value["parent_ms"]
    least, most = first["least_ms"], first["most_ms"]
    rank, noise = check["rank_correlation"], check["noise"]
    memory = value["parent_peak_bytes"] / 2**20
    return (
        f"The parent: {parent:,.1f} ms, {memory:,.0f} MiB beside its weights.\n"
        f"The design that is tried first: {least:,.1f} to "
        f"{most:,.1f} ms, {least / parent:.0%} to {most / parent:.0%} of the parent.\n"
        f"{check['subnets']} random subnets, predicted beside measured: mean error "
        f"{check['mean_error']:.1%}, worst {check['worst_error']:.1%}, bias {check['bias']:+.1%}"
        + ("." if rank is None else f", rank correlation {rank:.3f}.")
        + ("" if noise is None else f"\nThe same subnet measured twice differs by {noise:.1%}.")
    )
