"""Faults in files: damage where it is read, and a disk that is full where it is written."""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from faults.outcome import Outcome
from faults.study import BrokenError, SmallStudy, check

from automl.failures import disk_full
from automl.ledger import Ledger, read_rows, write_rows
from automl.sam.ledger import SCHEMA, SUBNETS
from automl.sam.report import write_report
from automl.sam.workspace import Workspace
from search_spaces.errors import InputError
from trainables.data.pictures import Pictures
from trainables.supernet import make_optimiser, save_checkpoint, sound_checkpoint

BALLAST = "ballast"


def truncate(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


def flip_bit(path: Path, rng: random.Random) -> None:
    place = rng.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))


DAMAGE = {"truncated": truncate, "bit-flipped": flip_bit}


def each_time(name: str, times: int, act: Callable[[], float]) -> Outcome:
    """Act so many times; `act` says what was lost, and raises BrokenError."""
    lost, seconds, broken = 0.0, [], ""
    for _ in range(times):
        start = time.monotonic()
        try:
            lost += act()
        except BrokenError as error:
            broken = broken or str(error)
        seconds.append(time.monotonic() - start)
    return Outcome(name, times, evaluations=lost, seconds=seconds, broken=broken)


def damaged_ledger(
    study: SmallStudy, folder: Path, kind: str, times: int, rng: random.Random
) -> Outcome:
    """A part of the ledger, opened as a search does that goes on."""
    (whole,) = (study.output / "work" / "ledger").glob("*.parquet")
    rows = read_rows(whole)

    def act() -> float:
        said: list[str] = []
        for path in (whole, whole.with_suffix(".before")):
            shutil.copy(path, folder)
        path = folder / whole.name
        DAMAGE[kind](path, rng)
        found = Ledger(path, SUBNETS, said.append).rows()
        if found == rows:
            check(not said, f"said of a ledger that is whole: {said}")
        else:
            check(found == rows[:-1], f"{len(found)} rows of {len(rows)} were read")
            check("is damaged" in " ".join(said), "nothing was said of the damage")
            check(read_rows(path) == found, "the ledger was not written anew")
        return len(rows) - len(found)

    return each_time(f"a ledger part is {kind}", times, act)


def damaged_checkpoint(
    study: SmallStudy, folder: Path, kind: str, times: int, rng: random.Random
) -> Outcome:
    """A file of a training's last checkpoint, as a training finds it that goes on."""
    before, newest = sorted((study.output / "work" / "train").glob("*/checkpoint_*/"))[-2:]

    def act() -> float:
        said: list[str] = []
        for one in (before, newest):
            shutil.copytree(one, folder / one.name)
        taken = folder / newest.name
        DAMAGE[kind](rng.choice(sorted(taken.iterdir())), rng)
        found = sound_checkpoint(taken, said.append)
        check(found == folder / before.name, f"taken was {found}")
        check("is damaged" in " ".join(said), "nothing was said of the damage")
        for one in (before, newest):
            shutil.rmtree(folder / one.name)
        return 0.0

    found = each_time(f"a checkpoint is {kind}", times, act)
    steps = times * study.workspace.config.training.checkpoint_every
    return replace(found, steps=steps)


def damaged_shard(
    study: SmallStudy, folder: Path, kind: str, times: int, rng: random.Random
) -> Outcome:
    """A prepared split, read as an evaluation does."""
    whole = study.output / "data" / "val.parquet"

    def pictures_of(path: Path) -> list[Any]:
        pictures = Pictures(path)
        return [(p.id, p.pixels.tobytes(), p.objects) for p in map(pictures.__getitem__, range(4))]

    there = pictures_of(whole)

    def act() -> float:
        path = folder / whole.name
        shutil.copy(whole, path)
        DAMAGE[kind](path, rng)
        try:
            found = pictures_of(path)
        except InputError as error:
            check(str(path) in str(error), f"the damaged file is not named: {error}")
        else:
            check(found == there, "other pictures were read, and nothing was said")
        return 0.0

    return each_time(f"a picture shard is {kind}", times, act)


@contextmanager
def full_disk(folder: Path, room: int) -> Iterator[Path]:
    """A disk, which the folder must be the root of, filled up but for so many bytes."""
    ballast = folder / BALLAST
    size = shutil.disk_usage(folder).free - room
    try:
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        yield folder
    finally:
        ballast.unlink()


def writes(study: SmallStudy, disk: Path) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """By what is written: the file that must stay as it was, or a new folder, and how it is."""
    config, root = study.workspace.config, disk / "study"
    workspace = Workspace(config, root)
    rows = study.ledger()
    part, table = root / "part.parquet", root / "table.parquet"
    supernet = workspace.parent()
    design = config.designs.space.design(config.designs.space.first_points()[0])
    space = study.workspace.space(design)
    optimiser = make_optimiser(supernet, config.training)
    for p in supernet.sam.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimiser.step()

    def record() -> None:
        ledger = Ledger(part, SUBNETS)
        ledger.record({**rows[0], "subnet": f"{len(ledger)}"})

    def checkpoint() -> None:
        folder = root / "checkpoint"
        folder.mkdir(exist_ok=True)
        save_checkpoint(supernet, optimiser, space, 2, folder)

    return {
        "the ledger": (part, record),
        "a Parquet table": (
            table,
            lambda: write_rows(rows, table, SCHEMA),
        ),
        "a checkpoint": (root / "checkpoint", checkpoint),
        "the report": (root / "report.html", lambda: write_report(workspace)),
    }


def full_while_writing(
    name: str, path: Path, write: Callable[[], Any], disk: Path, times: int, rng: random.Random
) -> Outcome:
    """What is written finds room for less than a half, and says so; what was there stays.

    Nothing that it may write over is there: that would make room.
    """
    write()
    size = sum(map(len, contents(path).values()))

    def act() -> float:
        path.with_suffix(".before").unlink(missing_ok=True)  # of a ledger
        if path.is_dir():  # each checkpoint has a folder of its own
            shutil.rmtree(path)
        was = contents(path)
        try:
            with full_disk(disk, rng.randrange(size // 2)):
                write()
        except Exception as error:
            check(disk_full(error, disk) is not None, f"not known for a full disk: {error!r}")
        else:
            raise BrokenError("it was written all the same")
        check(path.is_dir() or contents(path) == was, "the file before is lost")
        check(not list(path.parent.glob(".*.part")), "a part of a file is left")
        write()
        return 0.0

    return each_time(f"the disk is full while {name} is written", times, act)


def contents(path: Path) -> dict[str, bytes]:
    """Of a file, or of a folder's files."""
    found = path.iterdir() if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in found if file.exists()}
