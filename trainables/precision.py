"""In which precision a network's passes run."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products and convolutions run in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
