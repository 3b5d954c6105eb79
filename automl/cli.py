"""The command `supersam`: thin commands over `automl.study`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from automl.best import best_subnet, parse_bound
from automl.config import StudyConfig, config_keys, load_config
from automl.export import check_format, export_subnet, export_summary
from automl.latency import front_latency_table, latency_notes, latency_table
from automl.output import CONFIG, read_config
from automl.preparing import prepare_to
from automl.study import Study
from automl.tables import (
    designs_table,
    evaluation_tables,
    front_table,
    importance_table,
    left_out_table,
    profile_notes,
    profile_table,
    reach_table,
    splits_table,
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


def _begun(incomplete: str) -> list[str]:
    """The configuration's keys that begin so, for shells to complete."""
    return [f"{key}=" for key in config_keys() if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Such as seed=1.", autocompletion=_begun),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _existing(config: Path) -> Path:
    path = config if config.is_file() or config.is_absolute() else PROJECT / config
    if not path.is_file():
        raise InputError(f"--config: {config} does not exist; give the path of a YAML file")
    return path


def _study(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    path = _existing(config)
    return Study(load_config(path, overrides or []), output or Path("runs") / path.stem)


def _looking(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    """As `_study`, for commands that only look.

    Where no directory is named and the default one is another configuration's, this one gets a
    directory of its own; it is made when something has to be written.
    """
    try:
        return _study(config, output, overrides)
    except InputError:
        path = _existing(config)
        settings = load_config(path, overrides or [])
        if output is not None:
            raise
        return _apart(path, settings)


def _leaving(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    """As `_looking`, for a command that leaves a file.

    A default directory that is no study's yet stays free: it would be this configuration's from
    then on.
    """
    study = _looking(config, output, overrides)
    if output is not None or (study.output / CONFIG).exists():
        return study
    return _apart(_existing(config), study.config)


def _apart(path: Path, settings: StudyConfig) -> Study:
    return Study(settings, Path("runs") / f"{path.stem}-{settings.key}")


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
    _show(as_json, value, front_table(result.front, result.parent), where_to_look(study))


def where_to_look(study: Study) -> str:
    """Where the result of a study is to be seen, a line each."""
    lines = [f"Report: {study.output / 'report.html'}"]
    if not study.tracking_uri.startswith("http"):
        lines.append(f"Compare: mlflow ui --backend-store-uri {study.tracking_uri}")
    if link := study.subnets_link():
        lines.append(f"Subnets: {link}")
    return "\n".join(lines)


@app.command(epilog="Example: supersam prepare --output runs/mine data=pictures/ prepare.test=0.3")
def prepare(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    layout: Annotated[
        str | None,
        typer.Option("--format", help="The data set's layout; recognised by what is there if not."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that can't be used.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Any folder, such as s3://bucket/mine, instead of a study's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a data set's train, val and test splits as Parquet."""
    given = [f"prepare.format={layout}"] if layout else []
    given += ["prepare.strict=true"] if strict else []
    if to is not None:
        if output is not None:
            raise InputError("--to: give it or --output, not both")
        summary = prepare_to(load_config(_existing(config), [*(overrides or []), *given]), to)
    else:
        study = _study(config, output, [*(overrides or []), *given])
        study.run_until("data")
        to, summary = str(study.output), study.prepared()
    shown: list[Any] = [splits_table(summary)]
    if summary.left_out():
        shown.append(left_out_table(summary))
    if summary.pictures_per_second is not None:
        shown.append(f"{summary.pictures_per_second:.1f} pictures per second")
    _show(as_json, {"output": to, **summary.to_dict()}, *shown)


@app.command(epilog="Example: supersam profile model=vit_b image_size=1024")
def profile(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Sizes, speed, memory and what constraints can reach, before any training; writes nothing."""
    study = _looking(config, output, overrides)
    value = study.profile()
    _show(as_json, value, profile_table(value), reach_table(value), profile_notes(value))


@app.command(epilog="Example: supersam latency model=mobile_sam image_size=512 --threads 1")
def latency(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU; as many as it has if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what the encoder's parts take on this machine, to predict any subnet's latency.

    Needs neither data nor weights. Leaves latency.json in the study's directory, or in one of its
    own where there is no study yet.
    """
    study = _leaving(config, output, overrides)
    value = study.latency(threads)
    where = f"The table: {study.output / 'latency.json'}"
    value = {"output": str(study.output), **value}
    front = [front_latency_table(value)] if value["front"] else []
    _show(as_json, value, latency_table(value), *front, latency_notes(value), where)


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
        str | None,
        typer.Option(help="The key of a subnet, one of subnets/ or any of the final supernet."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The folder of a standalone subnet, anywhere.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test, or all of them.")] = "val",
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="box, point, centre or mixed, once or more; box and point by default."),
    ] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="Objects in a picture; the configuration's if not.")
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(min=1, help="Pixels of an object; the configuration's if not.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the parent, or a subnet, on a split: mIoU by prompt and size, and COCO's mask AP."""
    kinds: tuple[PromptKind, ...] = ("box", "point", "centre", "mixed")
    unknown = [name for name in prompts or () if name not in kinds]
    if unknown:
        raise InputError(f"--prompts: {unknown[0]!r} is unknown; choose from {', '.join(kinds)}")
    asked = tuple(kind for kind in kinds if kind in prompts) if prompts else kinds[:2]
    study = (_study if subnet else _looking)(config, output, overrides)
    value = study.evaluate(
        subnet,
        model=model,
        split=split,
        prompts=asked,
        pictures=pictures,
        max_objects=max_objects,
        min_area=min_area,
    )
    _show(as_json, value, *evaluation_tables(value))


@app.command(epilog="Example: supersam export --best 'encoder_params<=50%' --to onnx")
def export(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUBNET|KEY=VALUE",
            help="The key of a subnet; keys of the configuration, such as seed=1.",
        ),
    ] = None,
    config: Config = QUICK_START,
    output: Output = None,
    subnet: Annotated[
        str | None, typer.Option(help="The key, one of subnets/ or any of the final supernet.")
    ] = None,
    best: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COST<=BOUND",
            help="Instead of a key, once or more: the front's best subnet that keeps these bounds, "
            "counts or shares of the parent, such as encoder_params<=50% or latency_ms<=40.",
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="safetensors, onnx, or torch (torch.export's .pt2).")
    ] = "safetensors",
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit weights, for onnx; measures what mIoU they cost.")
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="The folder to write to; one in subnets/KEY of the study if not given."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a subnet as a model of its own, in a form that runs elsewhere.

    Any subnet that was evaluated on the final supernet is there as safetensors. As onnx or torch,
    it is checked against the model itself on a picture.
    """
    keys = [word for word in words or () if "=" not in word]
    overrides = [word for word in words or () if "=" in word]
    check_format(to, int8)
    study = _there(config, output, overrides)
    key = _one_subnet(study, keys + ([subnet] if subnet else []), best or [])
    if not (study.output / "subnets" / key).is_dir():
        study.export(key)
    value = export_subnet(
        study.workspace,
        key,
        to=to,
        int8=int8,
        into=into,
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    _show(as_json, value, export_summary(value))


def _there(config: Path, output: Path | None, overrides: list[str]) -> Study:
    """As `_study`; a directory that alone is named says what its study's configuration is."""
    if output is None or overrides or config != QUICK_START or not (output / CONFIG).is_file():
        return _study(config, output, overrides)
    return Study(read_config(output), output)


def _one_subnet(study: Study, keys: list[str], best: list[str]) -> str:
    """The key that is given, or that of the front's best subnet within bounds."""
    if len(keys) + bool(best) != 1:
        raise InputError("--best: give it or the key of one subnet, and not both")
    if keys:
        return keys[0]
    bounds = [parse_bound(expression) for expression in best]
    found = study.result()
    key: str = best_subnet(found.front, found.parent, bounds)["subnet"]
    return key


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


STOPPED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 the user's mistake, 130 stopped."""
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
    if status == STOPPED:  # what typer makes of KeyboardInterrupt
        print("supersam: stopped; the same command goes on where it was", file=sys.stderr)
    return status if isinstance(status, int) else 0
