"""The command `supersam`: thin commands over `automl.study`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from automl.config import load_config
from automl.study import Study
from automl.tables import (
    designs_table,
    evaluation_table,
    front_table,
    importance_table,
    profile_table,
)
from search_spaces.errors import InputError
from trainables.data.prompts import PromptKind

PROJECT = Path(__file__).resolve().parent.parent
QUICK_START = Path("configs/quickstart.yaml")

app = typer.Typer(
    name="supersam",
    help="Turn a Segment Anything Model into a family of smaller ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path, typer.Option("--config", help="A YAML file; the quick start's by default.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="The study's directory; runs/NAME of the configuration's file."),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as seed=1.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _study(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    path = config if config.is_file() or config.is_absolute() else PROJECT / config
    if not path.is_file():
        raise InputError(f"--config: {config} does not exist; give the path of a YAML file")
    return Study(load_config(path, overrides or []), output or Path("runs") / path.stem)


def _show(as_json: bool, value: Any, *tables: Any) -> None:
    if as_json:
        print(json.dumps(value))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str), highlight=False)


@app.command(epilog="Example: supersam run --config configs/quickstart.yaml --output runs/a seed=1")
def run(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Run a whole study, or go on with one that was cut off."""
    study = _study(config, output, overrides)
    result = study.run()
    value = {"output": str(study.output), "parent": result.parent, "front": result.front}
    where = (
        f"Report: {study.output / 'report.html'}\n"
        f"Compare: mlflow ui --backend-store-uri {study.tracking_uri}"
    )
    _show(as_json, value, front_table(result.front, result.parent), where)


@app.command(epilog="Example: supersam prepare --output runs/mine data=pictures/ prepare.test=0.3")
def prepare(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Write a data set's train, val and test splits as Parquet."""
    study = _study(config, output, overrides)
    study.run_until("data")
    counts = study.picture_counts()
    text = "\n".join(
        f"{split}: {count['pictures']} pictures, {count['objects']} objects"
        for split, count in counts.items()
    )
    _show(as_json, {"output": str(study.output), "splits": counts}, text)


@app.command(epilog="Example: supersam profile --output runs/a 'constraints={encoder_params: 50%}'")
def profile(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Sizes before any training: largest, middle and smallest subnet of the first designs."""
    study = _study(config, output, overrides)
    study.run_until("prioritise")
    rows = study.profile()
    _show(as_json, {"output": str(study.output), "subnets": rows}, profile_table(rows))


@app.command(epilog="Example: supersam prioritise --output runs/a")
def prioritise(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Score the parent's neurons and measure what each layer is worth."""
    study = _study(config, output, overrides)
    study.run_until("prioritise")
    rows = study.layer_worth()
    _show(as_json, {"output": str(study.output), "layers": rows}, importance_table(rows))


@app.command(epilog="Example: supersam search --output runs/a designs.trials=20")
def search(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Search over designs: each trains its supernet and searches its subnets."""
    study = _study(config, output, overrides)
    study.run_until("designs")
    rows = study.designs()
    _show(as_json, {"output": str(study.output), "designs": rows}, designs_table(rows))


@app.command(epilog="Example: supersam train --output runs/a")
def train(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Train the best design's supernet on to the final number of steps, and search it again."""
    study = _study(config, output, overrides)
    study.run_until("final")
    best = study.best_design()
    value = {"output": str(study.output), "design": best.key, **best.to_dict()}
    _show(as_json, value, f"design {best.key}: the supernet is in {study.output / 'supernet'}")


@app.command(epilog="Example: supersam evaluate --output runs/a --subnet KEY --split test")
def evaluate(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    subnet: Annotated[
        str | None, typer.Option(help="The key of a standalone subnet; the parent by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    prompts: Annotated[
        str | None, typer.Option(help="box, point or mixed; the configuration's by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the parent or a standalone subnet on all of a split."""
    study = _study(config, output, overrides)
    kinds: tuple[PromptKind, ...] = ("box", "point", "mixed")
    kind = next((k for k in kinds if k == (prompts or study.config.prompts)), None)
    if kind is None:
        raise InputError(f"--prompts: {prompts!r} is unknown; choose from {', '.join(kinds)}")
    study.run_until("data")
    row = study.evaluate(subnet, split, kind)
    _show(as_json, row, evaluation_table(row))


@app.command(epilog="Example: supersam export --output runs/a --subnet KEY")
def export(
    subnet: Annotated[str, typer.Option(help="The key of a subnet of the final supernet.")],
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Write any evaluated subnet of the final supernet as a model of its own."""
    study = _study(config, output, overrides)
    folder = study.export(subnet)
    _show(as_json, {"subnet": subnet, "folder": str(folder)}, f"{folder}")


@app.command(epilog="Example: supersam report --output runs/a")
def report(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study that has a front anew, and show the front."""
    study = _study(config, output, overrides)
    path = study.write_report()
    result = study.result()
    value = {"report": str(path), "front": result.front}
    _show(as_json, value, front_table(result.front, result.parent), f"Report: {path}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 the user's mistake."""
    try:
        status = app(arguments, standalone_mode=False)
    except InputError as error:
        print(f"supersam: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Exception as error:
        # Typer brings a click of its own in some versions: its errors are known by this method.
        if not hasattr(error, "format_message"):
            raise
        print(f"supersam: {error.format_message()}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0
