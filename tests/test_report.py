import re
from html.parser import HTMLParser
from typing import Any

from automl.config import StudyConfig
from automl.report import front_figure, importance_figure, inline_svg, report_page

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
FRONT = [
    {**PARENT, "subnet": "aaaa", "encoder_macs": 3000, "miou_test": 0.6123},
    {**PARENT, "subnet": "bbbb", "layers": [1], "mlp_widths": [4], "encoder_macs": 1000},
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


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href") and v]


def page_of(front: list[dict[str, Any]] = FRONT, **config: Any) -> str:
    settings = StudyConfig(**config)
    return report_page("mine", front, PARENT, [DESIGN], IMPORTANCE, settings, "sqlite:///m.db")


def test_the_page_has_picture_and_figures_and_needs_nothing_else() -> None:
    text = page_of()
    page = Page()
    page.feed(text)
    assert "svg" in page.tags
    assert not [s for s in page.sources if not s.startswith("#")]
    for shown in ("aaaa", "bbbb", "0.612", "0.4321", "dddd"):
        assert shown in text


def test_heads_are_shown_where_a_subnet_has_fewer() -> None:
    whole = [{**row, "heads": []} for row in FRONT]
    assert page_of(whole) == page_of()
    assert "heads" not in page_of()
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
    text = report_page("mine", FRONT, PARENT, [DESIGN], rows, settings, "sqlite:///m.db")
    assert "follow from the embedding error" in text
    assert "None" not in text
    assert len(importance_figure(rows).axes) == 2


def test_the_layers_picture_has_worth_and_probabilities() -> None:
    rows = [
        {**IMPORTANCE[0], "miou_lost": -0.01, "drop_probability": 0.5},
        {**IMPORTANCE[1], "attention": "windowed", "drop_probability": 0.0},
    ]
    axes = importance_figure(rows).axes
    drawn = {a.get_ylabel(): [bar.get_height() for bar in a.patches] for a in axes}
    assert drawn == {
        "mIoU lost": [-0.01, 0.1],
        "embedding error": [0.2, 0.2],
        "drop probability": [0.5, 0.0],
    }
    for panel in axes:
        assert len({bar.get_facecolor() for bar in panel.patches}) == 2


def test_two_pictures_in_a_page_share_no_clipping() -> None:
    texts = [inline_svg(importance_figure(IMPORTANCE), name) for name in ("a", "b")]
    clips = [set(re.findall(r'clipPath id="([^"]+)"', text)) for text in texts]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_what_comes_from_the_user_is_escaped() -> None:
    text = page_of(data="<script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_the_picture_shows_front_and_parent_on_both_splits() -> None:
    axes = front_figure(FRONT, PARENT).axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert drawn["front, test"] == [0.62, 0.6123]
    assert drawn["pretrained parent, val"] == [0.6]
    assert len(drawn) == 4
