"""Where plans are measured, and by which method they compute there."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from automl.convolution.config import ConvolutionConfig, Method
from search_spaces.errors import InputError
from trainables.convolution.kernel_launch import triton_missing
from trainables.device_name import device_name


@dataclass(frozen=True)
class Site:
    """The device of the processes that measure, as one of them finds it.

    Args:
        device: its name.
        method: of the plans that are searched there.
        shared_memory: bytes that a program may have on a GPU; None on a CPU.
        torch: its version.
        note: what somebody should know of the method; None: nothing.
    """

    device: str
    method: Method
    shared_memory: int | None
    torch: str
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def own_device() -> torch.device:
    """The GPU that this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_site(config: ConvolutionConfig) -> Iterator[Site]:
    """A task: the one site, found where an evaluator runs.

    Raises:
        InputError: the method that the configuration names, or its clock, can't be used there.
    """
    device = own_device()
    if config.measure.cpu_time and device.type != "cpu":
        raise InputError("measure.cpu_time: plans are measured on a GPU, whose time it leaves out")
    missing, note = triton_missing(device), None
    method = config.method
    if method == "triton" and missing:
        raise InputError(f"method: triton can't be searched here: {missing}")
    if method is None:
        method = "slices" if missing or device.type == "cpu" else "triton"
        if device.type == "cuda" and missing:
            note = f"{missing}; the slices are searched"
    memory = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = getattr(properties, "shared_memory_per_block_optin", None)
    yield Site(device_name(device), method, memory, torch.__version__, note)
