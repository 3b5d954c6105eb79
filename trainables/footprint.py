"""What a subnet takes to run here: time and memory of the encoder, measured in a fresh process.

A process of its own, since memory that earlier work has freed but kept would be counted as the
subnet's, or hide what it needs. The weights are fresh ones: neither figure depends on them.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from search_spaces.subnet import Subnet
from trainables.costs import latency_ms
from trainables.host_memory import release_freed_memory
from trainables.sam.encoder import elastic
from trainables.sam.parents import parent_encoder

BUDGET_S = 5.0
"""A subnet is run a few times, but no longer than this."""


@dataclass(frozen=True)
class Footprint:
    """What one picture takes.

    Args:
        latency_ms: median milliseconds of the encoder.
        peak_memory: bytes at most in use during a forward pass of the encoder, beyond its weights:
            of resident memory on a CPU (Linux; elsewhere None), of allocated memory on a GPU.
        device: where it was measured, `cpu` or the GPU's name.
        threads: of the CPU.
    """

    latency_ms: float
    peak_memory: int | None
    device: str
    threads: int


def measure_footprint(model: str, image_size: int, subnet: Subnet) -> Footprint:
    """Measure one subnet of a parent, with as many threads as torch has here.

    Args:
        model: as `parent_encoder` takes it.
        image_size: pixels.

    Raises:
        RuntimeError: the process failed; the message is its own.
    """
    asked = {
        "model": model,
        "image_size": image_size,
        "subnet": subnet.to_dict(),
        "threads": torch.get_num_threads(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "trainables.footprint"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )
    if done.returncode:
        raise RuntimeError(f"measuring subnet {subnet.key} failed:\n{done.stderr}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _measure_here(model: str, image_size: int, subnet: Subnet) -> Footprint:
    cuda = torch.cuda.is_available()
    encoder = elastic(parent_encoder(model, image_size).build())
    encoder.to("cuda" if cuda else "cpu").eval()
    memory: GpuMemory | ResidentMemory
    for runs in (0, 5):
        memory = GpuMemory() if cuda else ResidentMemory()
        latency = latency_ms(encoder, subnet, runs, BUDGET_S)
        grown = memory.grown()
        # A first run also loads code, which is not what the subnet needs; beside what a slow one
        # needs it is little.
        if latency > 1000 * BUDGET_S / 5:
            break
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return Footprint(latency, grown, device, torch.get_num_threads())


class GpuMemory:
    """Growth of this process's allocated GPU memory, at its peak since this was made."""

    def __init__(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def grown(self) -> int:
        """Bytes."""
        return torch.cuda.max_memory_allocated() - self._before


class ResidentMemory:
    """Growth of this process's resident memory, at its peak since this was made."""

    def __init__(self) -> None:
        self._before: int | None = None
        # Otherwise what was freed would be used again, uncounted.
        if release_freed_memory():
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
                self._before = _status("VmRSS")

    def grown(self) -> int | None:
        """Bytes; None where the system doesn't say."""
        return None if self._before is None else max(0, _status("VmHWM") - self._before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    footprint = _measure_here(
        asked["model"], asked["image_size"], Subnet.from_dict(asked["subnet"])
    )
    print(json.dumps(asdict(footprint)))


if __name__ == "__main__":
    _main()
