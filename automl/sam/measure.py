"""What is measured outside the searches: the calibration, the parent, the final front on test.

Each function runs as one Ray task and yields as it goes on, so that progress can be seen.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from automl.ledger import Row
from automl.sam.gallery import draw_gallery
from automl.sam.workspace import Workspace
from search_spaces.subnet import Subnet
from trainables.sam.layer_worth import layer_worth
from trainables.sam.models import read_state_dict
from trainables.sam.scores import score_units
from trainables.sam.standalone import extract, save_subnet
from trainables.sam.supernet import Supernet
from trainables.subnet import score_subnet

GALLERY_PICTURES = 24
"""The first so many of test, of which the gallery shows a few."""


def prioritise(workspace: Workspace) -> Iterator[int]:
    """Score neurons and heads, measure layers, write `importance.parquet`.

    Yields:
        Steps done, of `prioritise_steps`.
    """
    config, metrics = workspace.config, workspace.metrics
    supernet = workspace.parent()
    scores = {}
    for done, name in enumerate(metrics, start=1):
        scored = workspace.scored(supernet.encoder, name)
        units = list(chain.from_iterable(scored.values()))
        found = iter(score_units(name, supernet, workspace.calibration(), config.seed, units))
        scores.update({column: list(islice(found, len(part))) for column, part in scored.items()})
        yield done
    worth = []
    removal = workspace.examples("train", config.prioritise.worth_pictures)
    for item in layer_worth(supernet, removal, config.prioritise.worth):
        worth.append(item)
        yield len(metrics) + len(worth)
    space = config.designs.space
    workspace.write_importance(worth, scores, space.design(space.first_points()[0]))


def prioritise_steps(workspace: Workspace) -> int:
    """How many steps `prioritise` takes."""
    return len(workspace.metrics) + workspace.encoder.depth


def measure_parent(workspace: Workspace) -> Iterator[Row]:
    """The parent's own figures, and what the objects' boxes would score as masks.

    Yields:
        A row on val, then one on test; with `full_heads`, the heads of each layer where a subnet
        can have fewer.
    """
    supernet = workspace.parent()
    full_heads = list(workspace.encoder.full_heads)
    for split in ("val", "test"):
        examples = workspace.examples(split)
        batch_size = workspace.config.evaluation.batch_size
        row = score_subnet(
            supernet, supernet.largest, examples, split, batch_size, workspace.objective
        )
        yield {**row, "full_heads": full_heads, f"box_miou_{split}": examples.box_miou()}


def measure_on_test(workspace: Workspace, weights: Path, front: list[Row]) -> Iterator[Row]:
    """Measure a front on test and write each subnet as a model of its own.

    Args:
        workspace: of the study.
        weights: the trained supernet's file.
        front: ledger rows on val.

    Yields:
        The ledger row on test of each.
    """
    supernet = load_weights(workspace, weights)
    examples = workspace.examples("test")
    for row in front:
        subnet = Subnet.from_dict(row)
        write_standalone(workspace, supernet, subnet)
        batch_size = workspace.config.evaluation.batch_size
        measured = score_subnet(supernet, subnet, examples, "test", batch_size, workspace.objective)
        yield {**measured, "design": row["design"], "weights": row["weights"]}


def draw_front_gallery(workspace: Workspace, weights: Path, row: Row) -> Iterator[dict[str, Any]]:
    """Draw masks of the parent and of a front subnet side by side.

    Args:
        workspace: of the study.
        weights: the trained supernet's file.
        row: the subnet's.

    Yields:
        Rows of `gallery.parquet`.
    """
    limit = min(GALLERY_PICTURES, workspace.picture_limit("test") or GALLERY_PICTURES)
    examples = workspace.examples("test", limit)
    batch_size = workspace.config.evaluation.batch_size or examples.batch_size
    supernet, subnet = load_weights(workspace, weights), Subnet.from_dict(row)
    yield from draw_gallery(workspace.parent(), supernet, subnet, examples, batch_size)


def write_standalone(workspace: Workspace, supernet: Supernet, subnet: Subnet) -> Path:
    """Write a subnet as a model of its own; returns its folder, `subnets/KEY`."""
    folder = workspace.subnet_folder(subnet.key)
    alone = extract(supernet.sam, workspace.encoder, subnet)
    save_subnet(alone, workspace.encoder, subnet, folder)
    return folder


def load_weights(workspace: Workspace, weights: Path) -> Supernet:
    """A trained supernet from its file; the neurons stand in the order of its training."""
    supernet = workspace.parent()
    supernet.sam.load_state_dict(read_state_dict(weights))
    return supernet
