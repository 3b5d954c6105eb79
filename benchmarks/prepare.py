"""How fast a data set is prepared, and in how much memory.

    python benchmarks/prepare.py [COUNT ...]

For each COUNT (500 and 2,000 by default) it prepares so many pictures of 1024 px with label maps,
and prints pictures per second, and the most memory that all processes of the job took together
(Linux's proportional set size, in which what processes share counts once).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIDE, OBJECTS, DISTINCT = 1024, 40, 40
EVERY_S = 0.25


def write_pictures(folder: Path, count: int) -> float:
    """Pictures of some texture, with discs for objects; returns MB a picture.

    A few are drawn, the others are links to them: reading can't tell.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(count):
        paths = [folder / kind / f"{number:06d}.png" for kind in ("images", "labels")]
        if number >= DISTINCT:
            for path in paths:
                path.hardlink_to(path.with_name(f"{number % DISTINCT:06d}.png"))
            continue
        rng = np.random.default_rng(number)
        noise = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        pixels = np.array(noise.filter(ImageFilter.GaussianBlur(2)))
        labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for n in range(1, OBJECTS + 1):
            cy, cx, radius = rng.integers(SIDE), rng.integers(SIDE), rng.integers(15, 70)
            disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            labels[disc] = n
            pixels[disc] //= 2
        for path, values in zip(paths, (pixels, labels), strict=True):
            Image.fromarray(values).save(path)
    images = [path.stat().st_size for path in (folder / "images").iterdir()]
    return sum(images) / len(images) / 1e6


def memory_of_all(root: int) -> int:
    """Bytes of a process and all that came from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has just ended
                continue
            parents[int(entry.name)] = int(fields[1])
    family = {root}
    while new := {child for child, parent in parents.items() if parent in family} - family:
        family |= new
    total = 0
    for process in family:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def main(counts: list[int]) -> None:
    cores = os.cpu_count() or 1
    for count in counts:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            size = write_pictures(Path(folder) / "source", count)
            target = Path(folder) / "prepared"
            code = "import sys; from automl.cli import main; sys.exit(main(sys.argv[1:]))"
            command = [sys.executable, "-c", code, "prepare", "--json", "--to", str(target)]
            load = os.getloadavg()[0]
            started = time.monotonic()
            with subprocess.Popen(
                [*command, f"data={folder}/source"],
                stdout=subprocess.PIPE,
                env={**os.environ, "RAY_ADDRESS": "local"},
                cwd=Path(__file__).parent.parent,
            ) as job:
                most = 0
                while job.poll() is None:
                    most = max(most, memory_of_all(job.pid))
                    time.sleep(EVERY_S)
                whole = time.monotonic() - started
                assert job.stdout is not None
                summary = json.loads(job.stdout.read())
            written = sum(split["pictures"] for split in summary["splits"].values())
            rate = summary["pictures_per_second"]
            print(
                f"{written} pictures of {SIDE} px, {size:.1f} MB each: {rate:.1f} pictures/s, "
                f"{rate / cores:.1f} per core ({cores} cores, load {load:.1f} before); "
                f"{whole:.0f} s with all starts; at most {most / 2**30:.2f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [500, 2000])
