"""The command `supersam`: its words. What they do is in `automl.commands`."""

import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from automl.asked import QUICK_START, Asked
from automl.failures import DiskFullError
from search_spaces import addresses
from search_spaces.errors import InputError

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
    from automl.config_reading import config_keys
    from automl.sam.config import StudyConfig

    return [f"{key}=" for key in config_keys(StudyConfig) if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Such as seed=1.", autocompletion=_begun),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _commands() -> ModuleType:
    """Imported only when a command runs: it brings torch, Ray and MLflow, and help needs none."""
    from automl import commands

    return commands


@app.command(epilog="Example: supersam run --config configs/quickstart.yaml --output runs/a seed=1")
def run(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Run a whole study, or go on with one that was cut off."""
    _commands().run(Asked(overrides, config, output, as_json))


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
    _commands().prepare(Asked(overrides, config, output, as_json), layout, strict, to)


@app.command(epilog="Example: supersam profile model=vit_b image_size=1024")
def profile(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Sizes, speed, memory and what constraints can reach, before any training; writes nothing."""
    _commands().profile(Asked(overrides, config, output, as_json))


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
    _commands().latency(Asked(overrides, config, output, as_json), threads)


@app.command(epilog="Example: supersam prioritise --output runs/a")
def prioritise(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Score the parent's neurons and measure what each layer is worth."""
    _commands().prioritise(Asked(overrides, config, output, as_json))


@app.command(epilog="Example: supersam search --output runs/a designs.trials=20")
def search(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Search over designs: each trains its supernet and searches its subnets."""
    _commands().search(Asked(overrides, config, output, as_json))


@app.command(epilog="Example: supersam train --output runs/a")
def train(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Train the best design's supernet on to the final number of steps, and search it again."""
    _commands().train(Asked(overrides, config, output, as_json))


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
    _commands().evaluate(
        Asked(overrides, config, output, as_json),
        subnet,
        model,
        split,
        prompts,
        pictures,
        max_objects,
        min_area,
    )


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
    _commands().export(
        Asked(overrides, config, output, as_json),
        keys + ([subnet] if subnet else []),
        best or [],
        to=to,
        int8=int8,
        into=into,
        overwrite=overwrite,
    )


@app.command(epilog="Example: supersam report --output runs/a")
def report(
    overrides: Overrides = None,
    config: Config = QUICK_START,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study that has a front anew, and show the front."""
    _commands().report(Asked(overrides, config, output, as_json))


STOPPED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done, 2 the user's mistake, 130 stopped, 1 anything else.
    """
    try:
        status = app(arguments, standalone_mode=False)
    except InputError as error:
        print(f"supersam: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except DiskFullError as error:
        print(f"supersam: {error.strerror}", file=sys.stderr)
        return 1
    except Exception as error:
        # Typer brings a click of its own in some versions: its errors are known by this method.
        if not hasattr(error, "format_message"):
            # Errors of libraries quote the address that they were given.
            print(addresses.without_secrets(traceback.format_exc()), end="", file=sys.stderr)
            return 1
        print(f"supersam: {InputError(error.format_message())}", file=sys.stderr)
        return 2
    if status == STOPPED:  # what typer makes of KeyboardInterrupt
        print("supersam: stopped; the same command goes on where it was", file=sys.stderr)
    return status if isinstance(status, int) else 0
