import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.splits import SPLITS, SplitRule


@given(st.lists(st.text(max_size=9), unique=True, max_size=20), st.integers(0, 9))
def test_the_split_of_a_picture_follows_from_its_id_and_the_seed(names, seed):
    rule = SplitRule(seed=seed)
    assert all(0 <= rule.rank(name) < 1 for name in names)
    assert [rule.split(n) for n in names] == [SplitRule(seed=seed).split(n) for n in names]


def test_splits_have_about_the_shares_asked_for():
    rule = SplitRule(val=0.15, test=0.2)
    found = [rule.split(f"picture-{i}") for i in range(4000)]
    shares = [found.count(split) / 4000 for split in SPLITS]
    assert shares == pytest.approx([0.65, 0.15, 0.2], abs=0.025)


def test_another_seed_splits_otherwise():
    names = [f"picture-{i}" for i in range(50)]
    assert [SplitRule(seed=0).split(n) for n in names] != [
        SplitRule(seed=1).split(n) for n in names
    ]
