"""A few of the cases of scripts/fuzz.py; every target reads what is sound."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
from fuzz import fuzz, place_of, shares
from fuzz_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_files_end_in_one_clear_line(name: str, tmp_path: Path) -> None:
    target = TARGETS[name](tmp_path)
    target.check(target.sound)
    outcome = fuzz(name, shares(800)[name], 7)
    assert outcome.findings == {}
    assert outcome.cases >= shares(800)[name]


def test_shares_add_up_and_errors_are_placed() -> None:
    assert sum(shares(1234).values()) == 1234
    with pytest.raises(ZeroDivisionError) as caught:
        shares(0)[1 // 0]  # type: ignore[index]
    assert place_of(caught.value).startswith("ZeroDivisionError at test_fuzz.py:")
