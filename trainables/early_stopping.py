"""Evaluations that end early: after which pictures to ask, and when a subnet has lost already.

An evaluation goes over its pictures in rungs. After each rung but the last, a subnet is compared
with those that were evaluated whole, on the same objects: differences within pairs have far less
noise than the two means. Objects of one picture are not independent of each other (one picture is
harder, or one subnet copes better with its kind), so pictures are what is counted: with dₚ the sum,
over the nₚ objects of picture p, of the rival's IoU minus the subnet's,

    mean difference   D  = Σ dₚ / Σ nₚ
    standard error    SE = √((1 − f) · P / (P − 1) · Σ (dₚ − D · nₚ)²) / Σ nₚ

which is the linearised error of a ratio of sums over P clusters (Cochran, Sampling Techniques,
chapter 6). What counts is the mean over these pictures and no others, so 1 − f is the correction
for finite populations, with f the share of all objects that were seen: the later it gets, the less
is left that could turn the result. A subnet is stopped by a rival that costs no more where P is
large enough and D > z · SE.

What this assumes: the pictures so far are like a random sample of all of them. The splits that
`prepare` writes stand in random order, but tiles of one section stand side by side and are alike:
with them SE is too small, and a larger `min_pictures` is called for.

How often it errs: where both are equally good on all pictures, one comparison stops the subnet
with probability 1 − Φ(3) = 0.13% for z = 3 and many pictures. With P of them it is Student's t with
P − 1 degrees of freedom: 1.0% for 8 pictures, 0.4% for 16; pictures with very unequal numbers of
objects count as fewer. Where the subnet is truly better it is less, and falls fast with its lead.
Comparisons add up: with R rivals and three rungs to ask after it is at most 3 · R times that, and
far less since rivals are alike. What is lost by a mistake is little: the subnet is about as good as
a rival that costs no more, and to be on the front it would have to be better than all of those.
With a front alone as rivals R is small; with all subnets that were evaluated whole more is stopped,
as one that differs little from a subnet says more about it than a better one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

RUNGS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the pictures after which an evaluation may end; the last is all of them."""


@dataclass(frozen=True, eq=False)
class ObjectIous:
    """What is known of a subnet after some pictures.

    Args:
        ious: float32, one for each object, picture by picture.
        objects: how many of these each picture has; at least one.
    """

    ious: NDArray[np.float32]
    objects: NDArray[np.int64]

    @property
    def pictures(self) -> int:
        """How many pictures that is."""
        return len(self.objects)


@dataclass(frozen=True, eq=False)
class Rival:
    """A subnet that was evaluated whole, on the same objects in the same order.

    Args:
        encoder_macs: what it costs.
        object_ious: float32, one for each object.
    """

    encoder_macs: int
    object_ious: NDArray[np.float32]


@dataclass(frozen=True)
class StoppingRule:
    """When a subnet has lost; it follows from its arguments alone. See the head of this file.

    Args:
        z: how many standard errors it takes.
        min_pictures: fewer pictures never stop a subnet; at least 2.
    """

    z: float = 3.0
    min_pictures: int = 8

    def __post_init__(self) -> None:
        if self.z < 0 or self.min_pictures < 2:
            raise ValueError(f"out of range: {self}")

    def beaten_by(
        self, encoder_macs: int, so_far: ObjectIous, rivals: Sequence[Rival]
    ) -> Rival | None:
        """The rival that stops a subnet, the one that leads most clearly; None: it goes on.

        Args:
            encoder_macs: what the subnet costs; rivals that cost more say nothing.
            so_far: what is known of it.
            rivals: evaluated whole.

        Raises:
            ValueError: a rival was evaluated on fewer objects.
        """
        if so_far.pictures < self.min_pictures:
            return None
        clearest, most = None, 0.0
        for rival in rivals:
            if rival.encoder_macs <= encoder_macs:
                lead, error = paired_lead(rival, so_far)
                if lead - self.z * error > most:
                    clearest, most = rival, lead - self.z * error
        return clearest


STOPPING = StoppingRule()
"""The rule, unless told otherwise."""


def paired_lead(rival: Rival, so_far: ObjectIous) -> tuple[float, float]:
    """By how much a rival's mean IoU is higher on the same objects, and the standard error of that.

    The error is that of an estimate of the lead on all of the rival's objects: 0 once all are seen.

    Args:
        rival: evaluated on these objects and those that are left.
        so_far: of two pictures or more.

    Raises:
        ValueError: the rival was evaluated on fewer objects.
    """
    seen, pictures = len(so_far.ious), so_far.pictures
    if len(rival.object_ious) < seen:
        raise ValueError(f"a rival has {len(rival.object_ious)} objects, {seen} were seen")
    leads = rival.object_ious[:seen].astype(np.float64) - so_far.ious
    starts = np.cumsum(so_far.objects) - so_far.objects
    by_picture = np.add.reduceat(leads, starts)
    mean = float(by_picture.sum()) / seen
    residuals = by_picture - mean * so_far.objects
    left = 1 - seen / len(rival.object_ious)
    error = sqrt(left * pictures / (pictures - 1) * float(residuals @ residuals)) / seen
    return mean, error


def expected_miou(rival: Rival, so_far: ObjectIous) -> float:
    """What a subnet would score on all objects: the rival's mIoU less its lead so far.

    It says more than the mean so far, which also tells how hard the pictures were.
    """
    return float(rival.object_ious.mean(dtype=np.float64)) - paired_lead(rival, so_far)[0]


def rung_ends(rungs: Sequence[float], batches: Sequence[int]) -> list[int]:
    """After how many batches each rung ends: so many that they hold its share of the pictures.

    Batches stay whole, so that results are those of an evaluation without rungs to the bit; rungs
    that end together are one.

    Args:
        rungs: shares in (0, 1], ascending; the last is 1.
        batches: how many pictures each batch has.

    Raises:
        ValueError: the shares are none such.
    """
    if not rungs or rungs[0] <= 0 or rungs[-1] != 1 or any(a >= b for a, b in pairwise(rungs)):
        raise ValueError(f"rungs are ascending shares in (0, 1], the last is 1: {rungs}")
    held = list(accumulate(batches))
    # A share such as 0.1 · 30 lies above 3 by rounding; the picture that this adds is none.
    wanted = [ceil(share * held[-1] - 1e-9) for share in rungs]
    ends = [1 + next(i for i, count in enumerate(held) if count >= want) for want in wanted]
    return list(dict.fromkeys(ends))


def rung_correlations(mious: Sequence[Sequence[float]]) -> list[float]:
    """How well each rung ranks subnets: Spearman's correlation with the mIoU on all pictures.

    Args:
        mious: of subnets that were evaluated whole, the mIoU after each rung; the last is whole.

    Returns:
        One for each rung, the last is 1; NaN where all subnets score the same, or there is but one.
    """
    table = np.asarray(mious, dtype=np.float64)
    from scipy import stats  # half a second that processes which only evaluate do not need

    ranks = stats.rankdata(table, axis=0)  # of equal scores the mean of their ranks
    centred = ranks - ranks.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore"):
        found = centred.T @ centred[:, -1] / (lengths * lengths[-1])
    return [float(value) for value in found]
