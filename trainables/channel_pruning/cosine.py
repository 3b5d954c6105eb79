"""The course of a learning rate."""

import math


def cosine(peak: float, step: int, horizon: int) -> float:
    """Half a cosine from the peak at step 0 down to 0 at `horizon`, and 0 from there on."""
    return peak * (1 + math.cos(math.pi * min(1, step / max(1, horizon)))) / 2
