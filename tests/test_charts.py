"""What the charts show; each is drawn, which refuses a specification that says nothing."""

import io
from typing import Any

import pytest
from PIL import Image
from test_report import EVALUATED, FRONT, IMPORTANCE, PARENT

from automl.charts import Chart, as_png, as_svg
from automl.pareto import objectives
from automl.sam.charts import (
    front_chart,
    front_explorer,
    hypervolume_chart,
    importance_chart,
    latency_chart,
)

PREDICTED = [{**row, "latency_predicted_ms": 2.5 + i} for i, row in enumerate(EVALUATED)]
CHARTS = {
    "front": front_explorer(FRONT, PARENT, EVALUATED[1:2]),
    "picture": front_chart(FRONT, PARENT),
    "hypervolume": hypervolume_chart(EVALUATED, PARENT, 0.0),
    "importance": importance_chart(IMPORTANCE),
    "latency": latency_chart(PREDICTED),
}


def values(chart: Chart) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chart["data"]["values"]
    return found


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_can_be_drawn(name: str) -> None:
    chart = CHARTS[name]
    assert chart is not None
    picture = Image.open(io.BytesIO(as_png(chart)))
    assert picture.width > 1000
    assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
    assert as_svg(chart).count("</svg>") == 1


def test_the_front_has_each_subnet_on_both_splits_beside_the_parent_and_the_others() -> None:
    cloud, lines, star, dots = CHARTS["front"]["vconcat"][0]["layer"]
    shown = {(p["subnet"], p["split"]): p["quality"] for p in values(dots)}
    assert shown == {
        ("aaaa", "front, val"): 0.6,
        ("aaaa", "front, test"): 0.6123,
        ("bbbb", "front, val"): 0.6,
        ("bbbb", "front, test"): 0.62,
    }
    assert values(lines) == values(dots)
    assert [p["quality"] for p in values(star)] == [0.6, 0.62]
    assert [p["quality"] for p in values(cloud)] == [0.4]
    alone = CHARTS["picture"]["layer"]
    assert [values(layer) for layer in alone] == [values(lines), values(star), values(dots)]


def test_the_layers_of_the_chosen_subnet_are_shares_of_the_parents() -> None:
    front, layers = CHARTS["front"]["vconcat"]
    shares = {(bar["subnet"], bar["layer"]): bar["share"] for bar in values(layers)}
    assert shares == {("aaaa", 0): 1, ("aaaa", 1): 1, ("bbbb", 0): 0, ("bbbb", 1): 0.5}
    assert [bar["what"] for bar in values(layers)][:2] == ["removed", "4 of 8 neurons"]
    (choice,) = front["layer"][-1]["params"]
    assert choice["value"] == [{"subnet": "aaaa"}]
    assert layers["transform"] == [{"filter": {"param": "chosen", "empty": False}}]
    other = front_explorer(FRONT, PARENT, chosen="bbbb")["vconcat"][0]["layer"][-1]["params"]
    assert other[0]["value"] == [{"subnet": "bbbb"}]


def test_hypervolume_grows_with_what_was_evaluated_whole() -> None:
    rows = [*EVALUATED, {**FRONT[1], "weights": "dddd@4"}]
    points = values(hypervolume_chart(rows, PARENT, 0.0))
    saved, miou = objectives(3000, 0.6, 4000)
    least, _ = objectives(1000, 0.6, 4000)
    expected = [saved * miou] * 3 + [least * miou]
    assert [p["hypervolume"] for p in points[:4]] == pytest.approx(expected)
    assert [p["evaluations"] for p in points] == [1, 2, 3, 4, 1]
    assert {p["supernet"] for p in points} == {"dddd@8", "dddd@4"}


def test_layers_have_worth_and_probabilities_by_their_attention() -> None:
    chart = importance_chart(IMPORTANCE)
    titles = [panel["encoding"]["y"]["title"] for panel in chart["vconcat"]]
    assert titles == ["mIoU lost", "embedding error", "drop probability"]
    assert [row["drop_probability"] for row in values(chart)] == [0.25, 0.25]


def test_without_predictions_latency_has_no_chart() -> None:
    assert latency_chart(EVALUATED) is None
    stopped = [{**row, "latency_ms": None} for row in PREDICTED]
    assert latency_chart(stopped) is None
