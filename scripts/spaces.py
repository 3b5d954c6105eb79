"""Does designing the space pay? Equal training steps for a designed space and for three given ones.

    python scripts/spaces.py [KEY=VALUE ...] --output runs/spaces [--seeds 0 1 2] [--steps 400]
        [--evaluations 100] [--floors 0.6]
    python scripts/spaces.py data=vnc_em checkpoint=mobile_sam.pt --output runs/spaces-em \
        --config configs/results/em.yaml --seeds 0

Every space is a study of its own, with the same seed, data, training steps in all and evaluations
in all. The designed one spends its steps on several designs, with and without removed layers and
sliced heads, of which the best goes on, as `supersam run` does; each of the others is one design:

- released: the layers and widths that SuperSAM's authors drew by hand;
- widths: every layer stays, its MLP has any of the widths, as in AutoFormer (arXiv 2107.00651);
- layers: MLPs stay whole, layers go with measured probabilities.

What counts is the hypervolume of each final front on test. A space gains by merely reaching smaller
subnets; so beside it stand the hypervolume above each of `--floors`, and the best mIoU on test at
half the parent's MACs or less.
A study that is done is not repeated, and one that was cut off goes on.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from automl.pareto import hypervolume, objectives
from automl.sam.config import StudyConfig, load_config
from automl.sam.designs import study_rungs
from automl.sam.study import Study
from search_spaces.design import FORMULA, RELEASED_LAYERS, DesignSpace

QUICK_START = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
DESIGNS, SHARE = 4, 0.1
"""The designed space tries so many designs, and gives each this share of all steps and evaluations;
the best goes on with what is left."""
HALF = 0.5
"""Of the parent's MACs."""
SPACES: dict[str, dict[str, Any]] = {
    "designed": {
        "removable": [5, 0, 6],
        "smallest_ratio": [0.25, 0.125, 0.5],
        "smallest_heads": [1.0, 0.25, 0.5],
    },
    "released": {
        "probabilities": dict(RELEASED_LAYERS),
        "width_count": [4],
        "smallest_ratio": [0.25],
        "spacing": ["linear"],
    },
    "widths": {"removable": [0], "expected_dropped": [0]},
    "layers": {"width_count": [1], "smallest_ratio": [1.0]},
}


def config_of(
    base: StudyConfig, space: str, seed: int, steps: int, evaluations: int
) -> StudyConfig:
    """The study of a space, with as many steps and evaluations in all as any other."""
    values = base.model_dump(mode="json")
    offered = SPACES[space]
    designs = DESIGNS if space == "designed" else 1
    if designs == 1:
        first = DesignSpace().first_points()[0]
        # The formula's parameters say nothing where probabilities are given.
        left_out = FORMULA if "probabilities" in offered else ()
        offered = {n: [value] for n, value in first.items() if n not in left_out} | offered
    each = {"steps": steps, "evaluations": evaluations}
    last = dict(each)
    if designs > 1:
        each = {name: round(SHARE * amount) for name, amount in each.items()}
        # Training goes on from the first rung, evaluations are made anew.
        last["steps"] -= (designs - 1) * each["steps"]
        last["evaluations"] -= designs * each["evaluations"]
    rung = {"trials": designs, "reduction": max(2, designs), **each}
    values["designs"] = {**values["designs"], **rung, "space": offered}
    values["seed"] = seed
    values["final"] = last
    return StudyConfig.model_validate(values)


def spent(config: StudyConfig) -> tuple[int, int]:
    """Training steps and evaluations of a study in all."""
    steps = evaluations = trained = 0
    for rung in study_rungs(config):
        steps += rung.designs * (rung.budget.steps - trained)
        evaluations += rung.designs * rung.budget.evaluations
        trained = rung.budget.steps
    return steps, evaluations


def run(config: StudyConfig, output: Path) -> dict[str, Any]:
    """Run a study; its front as points of (MACs saved, mIoU), on val and on test."""
    result = Study(config, output, Console(stderr=True)).run()
    macs = result.parent["encoder_macs"]
    return {
        "front": {
            split: [
                objectives(row["encoder_macs"], row[f"miou_{split}"], macs) for row in result.front
            ]
            for split in ("val", "test")
        },
        "steps": spent(config)[0],
        "evaluations": spent(config)[1],
    }


def figures(found: dict[str, Any], floors: Sequence[float]) -> dict[str, float | None]:
    """What a front is worth, by the table's columns; None where it does not reach so far."""
    val, test = (found["front"][split] for split in ("val", "test"))
    above = {f"test above {f}": [(s, miou - f) for s, miou in test] for f in floors}
    return {
        "hypervolume val": hypervolume(val),
        "hypervolume test": hypervolume(test),
        **{name: hypervolume(points) for name, points in above.items()},
        "smallest, MACs": 1 - max(saved for saved, _ in test),
        "best mIoU": max(miou for _, miou in test),
        "at half the MACs": max((miou for saved, miou in test if saved >= HALF), default=None),
    }


def table(folder: Path, floors: Sequence[float]) -> Table:
    """Means over seeds, and the spread where there are several."""
    shown = Table(title="Fronts on test, hypervolume of (MACs saved, mIoU)", title_justify="left")
    rows = {}
    for space in SPACES:
        found = [json.loads(p.read_text()) for p in sorted(folder.glob(f"{space}-*.json"))]
        if found:
            rows[space] = found
    columns = [*figures(next(iter(rows.values()))[0], floors)] if rows else []
    shown.add_column("space")
    for name in ("seeds", "steps", "evaluations", "front", *columns):
        shown.add_column(name, justify="right")
    for space, found in rows.items():
        cells = [
            ", ".join(map(str, sorted({row[n] for row in found}))) for n in ("steps", "evaluations")
        ]
        cells.append(f"{statistics.fmean(len(row['front']['test']) for row in found):.0f}")
        worth = [figures(row, floors) for row in found]
        for name in columns:
            values = [value for each in worth if (value := each[name]) is not None]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.4f}{spread}" if values else "–")
        shown.add_row(space, str(len(found)), *cells)
    return shown


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=QUICK_START)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400, help="of each study in all")
    parser.add_argument("--evaluations", type=int, default=100, help="likewise")
    parser.add_argument("--floors", type=float, nargs="*", default=[], help="of mIoU: see above")
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=[*SPACES])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    base = load_config(options.config, options.overrides)
    folder: Path = options.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for space in options.spaces:
            path = folder / f"{space}-{seed}.json"
            if not path.exists():
                config = config_of(base, space, seed, options.steps, options.evaluations)
                found = run(config, folder / f"{space}-{seed}")
                path.write_text(json.dumps({"space": space, "seed": seed, **found}))
    Console(width=160).print(table(folder, options.floors))


if __name__ == "__main__":
    main()
