"""Which device something was measured on."""

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch


@cache
def device_name(device: torch.device) -> str:
    """The GPU's name or the processor's, as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    with suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "cpu"
