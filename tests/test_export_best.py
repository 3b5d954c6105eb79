"""Which subnet of a front is taken within bounds."""

import pytest

from automl.sam.best import best_subnet, parse_bound
from search_spaces.errors import InputError

PARENT = {"encoder_params": 1000, "params": 5000, "encoder_macs": 200_000, "latency_ms": 40.0}
FRONT = [
    {
        "subnet": key,
        "encoder_params": params,
        "params": params + 4000,
        "encoder_macs": macs,
        "latency_ms": latency,
        "miou_val": miou,
    }
    for key, params, macs, latency, miou in (
        ("small", 300, 60_000, 12.0, 0.60),
        ("deep", 500, 120_000, 25.0, 0.70),
        ("wide", 510, 90_000, 18.0, 0.70),
        ("large", 800, 160_000, 30.0, 0.75),
    )
]


def chosen(*expressions: str) -> str:
    return best_subnet(FRONT, PARENT, map(parse_bound, expressions))["subnet"]


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        ((), "large"),
        (["encoder_params<=50%"], "deep"),
        (["encoder_params <= 500"], "deep"),
        (["encoder_params<=499.9"], "small"),
        (["encoder_params<=51%"], "wide"),  # of equal mIoU the one of fewer MACs
        (["latency_ms<=20"], "wide"),
        (["latency_ms<=30%"], "small"),
        (["latency_ms<=20", "encoder_params<=50%"], "small"),
        (["encoder_params=40%..60%", "encoder_macs>=110000"], "deep"),
        (["encoder_params<=60%", "encoder_params>=51%"], "wide"),
        (["params=90%"], "deep"),
    ],
)
def test_the_best_that_keeps_all_bounds(expressions: list[str], expected: str) -> None:
    assert chosen(*expressions) == expected


def test_numbers_are_bounds_too() -> None:
    assert best_subnet(FRONT, PARENT, {"latency_ms": 20, "params": "91%"}.items()) == FRONT[2]


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("encoder_params", ["'encoder_params' is no bound", "encoder_params<=50%"]),
        ("encoder_params<50%", ["'encoder_params<50%' is no bound"]),
        ("encoder_params==50%", ["encoder_params", "'=50%' is no bound", "30%..50%"]),
        ("encoder_params<=", ["encoder_params", "'<=' is no bound"]),
        ("encoder_params=60%..40%", ["floor 600 above its ceiling 400"]),
        ("weight<=50%", ["weight: unknown; choose from", "encoder_params", "latency_ms"]),
        (
            "latency_ms<=5",
            ["none of the front's 4 subnets", "latency_ms is 12 to 30 there, 30% to 75%"],
        ),
    ],
)
def test_what_cannot_be_kept_is_one_line(expression: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        chosen(expression)
    message = str(caught.value)
    assert message.startswith("--best: ")
    assert "\n" not in message
    assert "constraints." not in message
    for part in parts:
        assert part in message


def test_bounds_that_only_together_leave_nothing_name_both() -> None:
    with pytest.raises(InputError, match=r"encoder_params is 300 to 800.*; latency_ms is 12 to 30"):
        chosen("encoder_params>=500", "latency_ms<=15")
