import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

from automl.sam.config import StudyConfig
from automl.sam.report import report_page

PARENT: dict[str, Any] = {
    "layers": [0, 1],
    "mlp_widths": [8, 8],
    "encoder_params": 200,
    "encoder_macs": 4000,
    "latency_ms": 2.0,
    "miou_val": 0.6,
    "miou_test": 0.62,
    "box_miou_test": 0.7,
    "full_heads": [2, 4],
}
FINAL = {"weights": "dddd@8", "stopped": False}
FRONT = [
    {**PARENT, **FINAL, "subnet": "aaaa", "encoder_macs": 3000, "miou_test": 0.6123},
    {**PARENT, **FINAL, "subnet": "bbbb", "layers": [1], "mlp_widths": [4], "encoder_macs": 1000},
]
EVALUATED = [
    FRONT[0],
    {**FRONT[0], "subnet": "cccc", "miou_val": 0.4},
    {**FRONT[0], "subnet": "eeee", "miou_val": 0.9, "stopped": True},
    FRONT[1],
]
IMPORTANCE = [
    {
        "layer": i,
        "attention": "global",
        "miou_lost": 0.1,
        "embedding_error": 0.2,
        "drop_probability": 0.25,
    }
    for i in range(2)
]
DESIGN = {
    "design": "dddd",
    "metric": "wanda",
    "expected_dropped": 1.0,
    "removable": 1,
    "temperature": 0.1,
    "cap": 0.5,
    "width_count": 2,
    "smallest_ratio": 0.5,
    "spacing": "linear",
    "smallest_heads": 1.0,
    "steps": 8,
    "hypervolume": 0.4321,
    "front_size": 2,
}
GALLERY = [
    {
        "subnet": "aaaa",
        "objects": 3,
        "miou_parent": 0.5,
        "miou_subnet": 0.75,
        "parent": b"parents",
        "masks": b"subnets",
    }
]


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href") and v]
        self.ids.update(v for k, v in attrs if k == "id" and v)


def page_of(front: list[dict[str, Any]] = FRONT, **config: Any) -> str:
    settings = StudyConfig(**config)
    return report_page(
        "mine", front, PARENT, [DESIGN], IMPORTANCE, EVALUATED, GALLERY, settings, "sqlite:///m.db"
    )


def charts_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)
    assert found is not None
    charts: dict[str, Any] = json.loads(found[1])
    return charts


def test_the_page_has_picture_and_figures_and_needs_nothing_else() -> None:
    text = page_of()
    page = Page()
    page.feed(text)
    assert {*charts_of(text)} == {"front", "hypervolume", "importance"} <= page.ids
    assert [source[:23] for source in page.sources] == ["data:image/jpeg;base64,"] * 2
    assert page.tags.count("script") == 3
    for shown in ("aaaa", "bbbb", "0.612", "0.4321", "dddd"):
        assert shown in text


def test_heads_are_shown_where_a_subnet_has_fewer() -> None:
    whole = [{**row, "heads": []} for row in FRONT]
    assert page_of(whole) == page_of()
    assert "mean heads" not in page_of()
    text = page_of([{**whole[0], "heads": [1, 3]}, whole[1]])
    shown = re.findall(r"<tr.*?</tr>", text.replace("\n", ""))
    assert "<th>mean heads</th>" in shown[0]
    assert "<td>100 %</td><td>100 %</td>" in shown[1]
    assert "<td>100 %</td><td>62 %</td>" in shown[2], "the mean of 1 of 2 and 3 of 4"
    assert "<td>50 %</td><td>100 %</td>" in shown[3]
    assert "<td>8 · 1</td><td>8 · 3</td>" in shown[5]
    assert "<td>–</td><td>4</td>" in shown[6]


def test_the_fewest_heads_of_designs_are_shown_where_they_were_searched() -> None:
    assert "<th>fewest heads</th>" not in page_of()
    assert "<th>fewest heads</th>" in page_of(designs={"space": {"smallest_heads": [1.0, 0.5]}})


def test_equal_results_make_equal_pages() -> None:
    assert page_of() == page_of()


def test_worth_that_was_not_measured_is_left_out() -> None:
    rows = [{**row, "miou_lost": None} for row in IMPORTANCE]
    settings = StudyConfig(prioritise={"worth": "embedding"})
    text = report_page(
        "mine", FRONT, PARENT, [DESIGN], rows, EVALUATED, GALLERY, settings, "sqlite:///m.db"
    )
    assert "follow from the embedding error" in text
    assert "None" not in text[: text.index("<script")]
    (chart,) = (c for name, c in charts_of(text).items() if name == "importance")
    assert len(chart["vconcat"]) == 2


def test_what_comes_from_the_user_is_escaped() -> None:
    text = page_of(data="<script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_the_page_says_how_many_subnets_were_evaluated_and_shows_the_whole_ones() -> None:
    text = page_of()
    assert "4 subnets of the final supernet were evaluated, 1 of them only until" in text
    cloud = charts_of(text)["front"]["vconcat"][0]["layer"][0]["data"]["values"]
    assert [point["subnet"] for point in cloud] == ["cccc"]


def test_pictures_are_shown_with_what_the_subnet_gains() -> None:
    text = page_of()
    for jpeg in (b"parents", b"subnets"):
        assert base64.b64encode(jpeg).decode() in text
    assert "(+0.250)" in text


def test_latency_has_a_chart_where_it_was_predicted() -> None:
    assert 'id="latency"' not in page_of()
    predicted = [{**row, "latency_predicted_ms": 2.5} for row in EVALUATED]
    settings = StudyConfig()
    text = report_page(
        "mine", FRONT, PARENT, [DESIGN], IMPORTANCE, predicted, [], settings, "sqlite:///m.db"
    )
    assert 'id="latency"' in text
    assert "latency" in charts_of(text)


EVIL = "</script><script>alert(1)</script><img src=x onerror='alert(1)'>\"&{{ 7 * 7 }}"


class Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.update(name for name, _ in attrs)


def test_what_comes_from_data_is_text_on_the_page() -> None:
    def page(evil: str) -> str:
        config = StudyConfig.model_validate(
            {"data": f"/data/{evil}", "tracking": {"experiment": evil, "uri": f"sqlite:///{evil}"}}
        )
        own = [(f"score{evil}", 0.5)]
        final = {"metrics_val": own, "metrics_test": own}
        front = [{**row, **final, "subnet": f"{row['subnet']}{evil}"} for row in FRONT]
        evaluated = [{**row, **final, "subnet": f"{row['subnet']}{evil}"} for row in EVALUATED]
        designs = [{**DESIGN, "design": evil, "metric": evil, "failure": evil or None}]
        importance = [{**row, "attention": evil} for row in IMPORTANCE]
        gallery = [{**row, "subnet": f"aaaa{evil}"} for row in GALLERY]
        parent = {**PARENT, **final}
        return report_page(
            f"study{evil}", front, parent, designs, importance, evaluated, gallery, config, evil
        )

    pages = [page(EVIL), page("")]
    seen = [(Page(), Attributes()), (Page(), Attributes())]
    for text, parsers in zip(pages, seen, strict=True):
        for parser in parsers:
            parser.feed(text)
    assert seen[0][0].tags == seen[1][0].tags
    assert seen[0][1].names == seen[1][1].names
    assert "{{ 7 * 7 }}" in pages[0].partition("</h1>")[0]
    # As JSON it comes back as it was.
    element = re.compile(r'<script type="application/json" id="charts">(.*?)</script>', re.S)
    charts = element.search(pages[0])
    assert charts is not None
    labels = {row["subnet"] for row in _rows(json.loads(charts[1])) if "subnet" in row}
    assert f"aaaa{EVIL}" in labels


def _rows(value: Any) -> list[dict[str, Any]]:
    """Every object within a value of JSON's kinds."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    own = [value] if isinstance(value, dict) else []
    return [*own, *(row for part in inner for row in _rows(part))]
