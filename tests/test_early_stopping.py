import pickle

import numpy as np
import pytest
from scipy import stats

from trainables.early_stopping import (
    RUNGS,
    ObjectIous,
    Rival,
    StoppingRule,
    expected_miou,
    paired_lead,
    rung_correlations,
    rung_ends,
)

RULE = StoppingRule()


def seen(ious, objects):
    return ObjectIous(np.asarray(ious, dtype=np.float32), np.asarray(objects))


def rival(ious, macs=100, left=3):
    """With so many more objects for each, of the same IoUs."""
    return Rival(macs, np.tile(np.asarray(ious, dtype=np.float32), 1 + left))


def drawn(rng, pictures, lead=0.0, left=3):
    """A rival and what was seen of a subnet, whose IoUs go together, in a picture above all.

    Args:
        pictures: that were seen.
        lead: of the rival, on average over all objects.
        left: as many more pictures for each that was seen.
    """
    count = round(pictures * (1 + left))
    objects = rng.integers(1, 9, count)
    harder = rng.normal(0, 0.15, count).repeat(objects)
    ours = harder + rng.normal(0, 0.05, count).repeat(objects) + rng.normal(0, 0.03, len(harder))
    theirs = harder + rng.normal(0, 0.05, count).repeat(objects)
    theirs += rng.normal(0, 0.03, len(harder))
    theirs += lead + (ours - theirs).mean()
    first = objects[:pictures]
    return rival(0.6 + theirs, left=0), seen(0.6 + ours[: first.sum()], first)


def test_a_clear_loser_is_stopped_by_whom_it_loses_to_most_clearly():
    better, subnet = drawn(np.random.default_rng(0), 16, lead=0.15)
    best = rival(better.object_ious + 0.01, left=0)
    assert RULE.beaten_by(100, subnet, [better]) is better
    assert RULE.beaten_by(100, subnet, [better, best, better]) is best
    assert RULE.beaten_by(100, subnet, []) is None


def test_a_rival_that_costs_more_says_nothing():
    better, subnet = drawn(np.random.default_rng(0), 16, lead=0.15)
    assert RULE.beaten_by(99, subnet, [better]) is None
    assert RULE.beaten_by(10**12, subnet, [better]) is better


def test_what_is_equal_or_better_is_never_stopped():
    rng = np.random.default_rng(1)
    for _ in range(200):
        _, subnet = drawn(rng, 8)
        assert RULE.beaten_by(100, subnet, [rival(subnet.ious)]) is None
        worse = subnet.ious - rng.random(len(subnet.ious)) * 0.1
        assert RULE.beaten_by(100, subnet, [rival(worse)]) is None
        # As good on the whole, each better on half of the pictures.
        turned = subnet.ious + 0.2 * (-1.0) ** np.arange(8).repeat(subnet.objects)
        level = rival(turned - (turned.mean() - subnet.ious.mean()))
        assert RULE.beaten_by(100, subnet, [level]) is None


def test_few_pictures_never_stop_a_subnet():
    better, subnet = drawn(np.random.default_rng(0), 7, lead=5.0)
    assert RULE.beaten_by(100, subnet, [better]) is None
    assert StoppingRule(min_pictures=7).beaten_by(100, subnet, [better]) is better


def test_a_lead_that_is_the_same_everywhere_has_no_noise():
    ious = np.linspace(0.25, 0.75, 16)
    lead, error = paired_lead(rival(ious + 0.125), seen(ious, [2] * 8))
    assert lead == pytest.approx(0.125)
    assert error == pytest.approx(0, abs=1e-7)


def test_the_error_is_that_of_means_over_pictures():
    """Where all have as many objects: the textbook's, of the pictures' own means."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.random((2, 12, 5))
    means = (theirs - ours).mean(axis=1)
    for left in range(4):
        found = paired_lead(rival(theirs.ravel(), left=left), seen(ours.ravel(), [5] * 12))
        error = means.std(ddof=1) / np.sqrt(12) * np.sqrt(left / (1 + left))
        assert found == pytest.approx((means.mean(), error), abs=1e-7)


def test_objects_of_one_picture_do_not_count_as_many():
    """A hundred copies of each object tell no more than one."""
    rng = np.random.default_rng(3)
    ours, theirs = rng.random((2, 10))
    once = paired_lead(rival(theirs), seen(ours, [1] * 10))
    often = paired_lead(rival(theirs.repeat(100)), seen(ours.repeat(100), [100] * 10))
    assert often == pytest.approx(once)


def test_only_the_objects_that_were_seen_are_compared():
    better, subnet = drawn(np.random.default_rng(0), 16, lead=0.15)
    other = better.object_ious.copy()
    other[len(subnet.ious) :] = 0
    assert paired_lead(rival(other, left=0), subnet) == paired_lead(better, subnet)
    with pytest.raises(ValueError, match="a rival has 3 objects"):
        RULE.beaten_by(100, subnet, [rival(other[:3], left=0)])


@pytest.mark.parametrize("left", [0.25, 1, 3])
@pytest.mark.parametrize(("pictures", "at_most"), [(8, 0.02), (16, 0.01), (64, 0.004)])
def test_subnets_that_are_equally_good_are_seldom_stopped(pictures, left, at_most):
    """Little more than Student's t has beyond 3, which counts pictures of as many objects each."""
    rng = np.random.default_rng(4)
    stopped = 0
    for _ in range(6000):
        equal, subnet = drawn(rng, pictures, left=left)
        stopped += RULE.beaten_by(100, subnet, [equal]) is not None
    assert stats.t.sf(3, pictures - 1) / 2 < stopped / 6000 < at_most


def test_a_true_lead_makes_a_false_stop_rarer_and_a_true_lag_a_stop_likely():
    rng = np.random.default_rng(5)
    stops = {}
    for lead in (-0.05, 0.0, 0.05, 0.1):
        found = [drawn(rng, 16, lead) for _ in range(2000)]
        stops[lead] = sum(RULE.beaten_by(100, s, [r]) is not None for r, s in found) / 2000
    assert stops[-0.05] == 0 < stops[0.0] < 0.01 < 0.1 < stops[0.05] < 0.9 < stops[0.1]


def test_the_rule_follows_from_its_arguments_alone():
    found = [drawn(np.random.default_rng(6), 16, lead=0.15) for _ in range(2)]
    rivals = pickle.loads(pickle.dumps([found[0][0]]))
    answers = [paired_lead(rivals[0], subnet) for _, subnet in found]
    assert answers[0] == answers[1] == paired_lead(found[0][0], found[0][1])
    assert len(pickle.dumps(rival(np.zeros(1000), left=0))) < 4500


@pytest.mark.parametrize("wrong", [{"z": -1}, {"min_pictures": 1}])
def test_a_rule_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="out of range"):
        StoppingRule(**wrong)


def test_the_expected_miou_is_the_rivals_less_its_lead():
    easy, hard = [0.9] * 8, [0.5] * 8
    assert expected_miou(rival(easy + hard), seen([0.8] * 8, [1] * 8)) == pytest.approx(0.6)


def test_rungs_end_with_batches_and_hold_their_share():
    assert rung_ends(RUNGS, [8, 8, 8, 8]) == [1, 2, 3, 4]
    assert rung_ends((0.25, 0.5, 1.0), [8, 8, 8, 8]) == [1, 2, 4]
    assert rung_ends((0.25, 0.5, 1.0), [8, 4]) == [1, 2]
    assert rung_ends((0.25, 0.5, 1.0), [1] * 10) == [3, 5, 10]
    assert rung_ends((0.1, 1.0), [1] * 30) == [3, 30]
    assert rung_ends((0.25, 0.5, 1.0), [5]) == rung_ends((1.0,), [5]) == [1]


@pytest.mark.parametrize("wrong", [(), (0.5,), (0.0, 1.0), (0.5, 0.25, 1.0), (0.5, 0.5, 1.0)])
def test_rungs_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="ascending shares"):
        rung_ends(wrong, [8, 8])


def test_rank_correlations_are_spearmans():
    mious = [[0.1, 0.30, 0.3], [0.2, 0.25, 0.4], [0.9, 0.20, 0.5], [0.3, 0.10, 0.6]]
    # Ranks 1 2 4 3 and 4 3 2 1 beside 1 2 3 4: 1 − 6 · 2 / 60, and opposite.
    assert rung_correlations(mious) == pytest.approx([0.8, -1.0, 1.0])
    ties = [[0.5, 1.0], [0.5, 2.0], [0.7, 3.0]]
    assert rung_correlations(ties) == pytest.approx([3**0.5 / 2, 1.0])
    assert np.isnan(rung_correlations([[0.5, 1.0], [0.5, 2.0]])[0])
    assert np.isnan(rung_correlations([[0.5, 1.0]])).all()
