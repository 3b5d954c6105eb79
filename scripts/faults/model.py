"""The small SAM that ships, with a note of each forward pass, and faults from inside.

A configuration names it as `model: scripts/faults/model.py:FAULTY`. The folder that FAULTS in the
environment names gets a line in `passes` for each pass through the encoder's neck: `train` or
`evaluate`, and the process. It may hold `nan` (the next training step's embedding is not finite) or
`memory` (the next evaluation asks for more memory than there is); the file says how many times.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trainables.sam.parents import PARENTS
from trainables.sam.vit import ViTConfig

PASSES = "passes"


def asked(path: Path) -> bool:
    """Whether a fault is asked for now; it then is once less."""
    if not path.exists():
        return False
    times = int(path.read_text())
    if times > 1:
        path.write_text(str(times - 1))
    else:
        path.unlink()
    return True


def fail(neck: nn.Module, inputs: tuple[Tensor]) -> Any:
    folder = os.environ.get("FAULTS")
    if folder is None:
        return None
    with (Path(folder) / PASSES).open("a") as passes:
        passes.write(f"{'train' if neck.training else 'evaluate'} {os.getpid()}\n")
    if neck.training and asked(Path(folder) / "nan"):
        return (inputs[0] * float("nan"),)
    if not neck.training and asked(Path(folder) / "memory"):
        bytearray(1 << 60)
    return None


@dataclass(frozen=True)
class FaultyConfig(ViTConfig):
    def build(self) -> nn.Module:
        encoder = super().build()
        encoder.neck.register_forward_pre_hook(fail)
        return encoder


FAULTY = FaultyConfig(**vars(PARENTS["vit_t"]))
