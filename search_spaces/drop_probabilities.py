"""From what each layer is worth to the probability that a subnet goes without it.

SuperSAM (arXiv 2501.08504) removes layers with probabilities that follow their importance, found by
few-shot removal; neither the paper nor its code gives the formula. Ours is

    p_l = min(cap, c · exp(−w_l / temperature)),   w_l = max(0, worth_l) / max_k worth_k

over the `removable` least worthy layers that are not protected, with c such that the probabilities
add up to the expected number of dropped layers. Layers are protected by name, or by their share w_l
of the worthiest layer's worth. Probabilities under `FLOOR` become 0, and what they held is shared
among the others. At a low temperature the `expected / cap` least worthy layers each get `cap`: the
paper's released space (five layers at 0.5) is such a point.
"""

import math
from collections.abc import Collection, Sequence

FLOOR = 0.05
"""Layers that would be dropped in fewer than one subnet of twenty are never dropped."""


def drop_probabilities(
    worth: Sequence[float],
    *,
    expected_dropped: float,
    removable: int,
    temperature: float,
    cap: float,
    protected: Collection[int] = (),
    protect_above: float | None = None,
) -> tuple[float, ...]:
    """Probabilities of removal, one for each layer.

    Args:
        worth: mIoU (or any other score) lost when the layer alone is removed.
        expected_dropped: how many layers a random subnet goes without on average; what cannot be
            placed under the cap is left out.
        removable: how many layers may go at most; the smallest subnet goes without them all.
        temperature: > 0; how sharply removal prefers layers of little worth.
        cap: in (0, 1); the highest probability a layer may get.
        protected: layers that always stay. The worthiest layer always stays as well.
        protect_above: layers whose share w_l is at least this always stay, too; None: no threshold.

    Returns:
        One probability a layer, 0 for those that always stay.

    Raises:
        ValueError: temperature, cap or expected_dropped is out of range.
    """
    if temperature <= 0 or not 0 < cap < 1 or expected_dropped < 0:
        raise ValueError(f"out of range: {temperature=}, {cap=}, {expected_dropped=}")
    highest = max(max(worth), 1e-12)
    relative = [max(0.0, w) / highest for w in worth]
    worthiest = max(range(len(worth)), key=lambda i: worth[i])
    stay = {worthiest, *protected}
    if protect_above is not None:
        stay.update(i for i, share in enumerate(relative) if share >= protect_above)
    candidates = [i for i in range(len(worth)) if i not in stay]
    open_layers = sorted(candidates, key=lambda i: (worth[i], i))[:removable]
    probabilities = [0.0] * len(worth)
    while open_layers:
        filled = _fill([relative[i] for i in open_layers], expected_dropped, temperature, cap)
        # Of equal probabilities the worthier layer's goes first.
        least = min(range(len(open_layers)), key=lambda i: (filled[i], -i))
        if filled[least] < FLOOR:
            del open_layers[least]
            continue
        for layer, p in zip(open_layers, filled, strict=True):
            probabilities[layer] = round(p, 6)
        break
    return tuple(probabilities)


def _fill(relative: list[float], total: float, temperature: float, cap: float) -> list[float]:
    """Solve for c by bisection on log c; the sum grows with c."""
    total = min(total, cap * len(relative))
    exponents = [-w / temperature for w in relative]
    low, high = math.log(1e-12) - max(exponents), math.log(cap) - min(exponents)
    for _ in range(200):
        middle = (low + high) / 2
        reached = sum(min(cap, math.exp(min(0.0, middle + e))) for e in exponents)
        low, high = (middle, high) if reached < total else (low, middle)
    return [min(cap, math.exp(min(0.0, high + e))) for e in exponents]
