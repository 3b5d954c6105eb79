"""A subnet in a form that runs elsewhere: its weights, ONNX, or programs of torch."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from automl.files import write_json
from automl.ledger import write_rows
from automl.progress import track
from automl.sam.workspace import Workspace
from search_spaces.errors import InputError
from trainables.data.pictures import Picture
from trainables.sam.export import export_programs, write_onnx, write_torch
from trainables.sam.export_check import TOLERANCE, differences
from trainables.sam.exported import measure_exported, run_onnx, run_torch
from trainables.sam.model_json import describe
from trainables.sam.quantise import quantise
from trainables.sam.segment_anything_import import Sam
from trainables.sam.standalone import load_subnet

WEIGHTS = ("model.safetensors", "subnet.json")
SUFFIXES = {"onnx": "onnx", "torch": "pt2"}
FORMATS = ("safetensors", *SUFFIXES)
DESCRIPTION = "model.json"


def check_format(to: str, int8: bool) -> None:
    """Refuse a format that there is not.

    Raises:
        InputError: it is unknown, or has no int8 weights.
    """
    if to not in FORMATS:
        raise InputError(f"--to: {to!r} is unknown; choose from {', '.join(FORMATS)}")
    if int8 and to != "onnx":
        raise InputError(f"--int8: {to} has no int8 weights; give --to onnx with it")


def export_subnet(
    workspace: Workspace,
    key: str,
    *,
    to: str,
    int8: bool = False,
    into: Path | None = None,
    overwrite: bool = False,
    console: Console,
) -> dict[str, Any]:
    """Write a standalone subnet in another format, checked on a picture of the val split.

    Args:
        workspace: of the study.
        key: of a subnet in `subnets/`.
        to: one of `FORMATS`.
        int8: 8-bit weights; the mIoU that they cost is measured on the val split.
        into: the folder to write to; None: one in the subnet's own folder, named after the format.
        overwrite: whether files of an earlier export may be replaced.
        console: where progress is shown.

    Returns:
        `subnet`, `to`, `weights`, `folder`, `files` with their bytes; where it was checked,
        `largest_differences` by output; with int8 `miou`, see `_with_int8`.

    Raises:
        InputError: there is no such subnet or format, or files would be overwritten.
        RuntimeError: what was exported differs from the model.
    """
    check_format(to, int8)
    source = workspace.subnet_folder(key)
    weights = "int8" if int8 else "float32"
    about = {"subnet": key, "to": to, "weights": weights}
    sam = load_subnet(source)
    if to == "safetensors" and into is None:
        return about | {"folder": str(source), "files": _sizes(source, WEIGHTS)}
    target = (into or source / (f"{to}-int8" if int8 else to)).resolve()
    _check_free(target, to, overwrite)
    picture = workspace.pictures("val")[0]
    target.mkdir(parents=True, exist_ok=True)
    # On the same disk, so that files are moved into their place whole.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target) as made:
        part = Path(made)
        if to == "safetensors":
            for name in WEIGHTS:
                shutil.copyfile(source / name, part / name)
            found: dict[str, Any] = {}
        else:
            found = _write_programs(sam, part, to, picture)
            if int8:
                found = _with_int8(workspace, sam, part, console)
            write_json({**describe(sam, SUFFIXES[to]), **about, **found}, part / DESCRIPTION)
        files = _sizes(part, sorted(path.name for path in part.iterdir()))
        # The description goes first and comes last: where it is, the others belong to it.
        if DESCRIPTION in files:
            (target / DESCRIPTION).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == DESCRIPTION):
            (part / name).replace(target / name)
    if to == "onnx" and not int8 and target.is_relative_to(workspace.root):
        _note_in_front(workspace, key, target / "encoder.onnx")
    return about | {"folder": str(target), "files": files} | found


def _sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """How many bytes files of a folder have."""
    return {name: (folder / name).stat().st_size for name in names}


def _check_free(target: Path, to: str, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"--into: {target} is a file; give a folder")
    suffix = SUFFIXES.get(to)
    names = (DESCRIPTION, f"encoder.{suffix}", f"decoder.{suffix}") if suffix else WEIGHTS
    there = [name for name in names if (target / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"--into: {target} has {there[0]} already; give another folder, or --overwrite"
        )


def _write_programs(sam: Sam, folder: Path, to: str, picture: Picture) -> dict[str, Any]:
    """Write both programs and check them; returns how far they are from the model, by output."""
    programs = export_programs(sam)
    if to == "onnx":
        write_onnx(programs, sam.image_encoder.img_size, folder)
    else:
        write_torch(programs, folder)
    run = (run_onnx if to == "onnx" else run_torch)(folder)
    found = differences(run, sam, picture.pixels)
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= TOLERANCE:
        raise RuntimeError(
            f"exported to {to}, {worst} differs by {found[worst]:.2g} from the model's on picture "
            f"{picture.id}, more than {TOLERANCE:g}"
        )
    return {"largest_differences": found}


def _with_int8(workspace: Workspace, sam: Sam, folder: Path, console: Console) -> dict[str, Any]:
    """Put int8 weights in the place of float32, and measure what that costs.

    Returns:
        `miou`: of `float32` and of `int8` in onnxruntime, and what it falls by, `cost`; with the
        `split`, `pictures`, `prompts` and `objects` that it was measured on.
    """
    examples = workspace.examples("val")
    metrics = {}
    for weights in ("float32", "int8"):
        if weights == "int8":
            quantise(folder)
        metrics[weights] = measure_exported(
            run_onnx(folder),
            sam,
            track(examples.examples, len(examples.examples), f"{weights} on val", console),
            examples.prompts,
        )
    mious = {weights: found.miou for weights, found in metrics.items()}
    return {
        "miou": {
            "split": "val",
            "pictures": len(examples),
            "prompts": examples.prompts,
            "objects": metrics["int8"].objects,
            **mious,
            "cost": mious["float32"] - mious["int8"],
        }
    }


def _note_in_front(workspace: Workspace, key: str, encoder: Path) -> None:
    """Put where the encoder is, seen from the study's directory, into `front.parquet`."""
    path = workspace.root / "front.parquet"
    if not path.exists():
        return
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["subnet"] == key:
            row["onnx"] = encoder.relative_to(workspace.root).as_posix()
    write_rows(rows, path, table.schema)


def export_summary(value: dict[str, Any]) -> str:
    """What `export_subnet` did, for people."""
    lines = [f"{value['folder']}: " + ", ".join(value["files"])]
    if "largest_differences" in value:
        worst = max(value["largest_differences"].values())
        lines.append(f"Checked on a picture: at most {worst:.1e} from the model itself.")
    if "miou" in value:
        miou = value["miou"]
        lines.append(
            f"mIoU on {miou['split']} ({miou['prompts']} prompts, {miou['objects']:,} objects): "
            f"{miou['float32']:.4f} with float32 weights, {miou['int8']:.4f} with int8: "
            f"{miou['cost']:+.4f} is the cost."
        )
    return "\n".join(lines)
