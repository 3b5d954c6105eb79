"""Pages and tables that any family's study is shown by."""

import io

from rich.console import Console
from test_report import EVIL, Page, charts_of

from automl.cells import Cells
from automl.charts import whole_chart
from automl.pages import Part, family_page

CELLS = Cells(("plan", "what", "ms"), [("torch", "own", "1.5"), ("[b]ours", "", "2.5")], 2, 1)
CHART = whole_chart({"data": {"values": [{"a": EVIL}]}, "mark": "point", "encoding": {}})


def test_a_page_shows_its_parts_in_order_and_needs_nothing_else() -> None:
    parts = [Part("first", "words", CHART), Part("second", cells=CELLS), Part("third", "", CHART)]
    text = family_page("mine", "above", parts, "sqlite:///m.db")
    page = Page()
    page.feed(text)
    assert page.sources == []
    assert {*charts_of(text)} == {"chart-0", "chart-2"} == page.ids - {"charts"}
    order = [text.index(f"<h2>{part.title}</h2>") for part in parts]
    assert order == sorted(order)
    assert '<tr class="parent"><td class="name">torch</td><td class="name">own</td>' in text
    assert '<tr><td class="name">[b]ours</td>' in text
    assert "sqlite:///m.db" in text


def test_what_comes_from_the_user_is_text_on_the_page() -> None:
    def tags(evil: str) -> list[str]:
        cells = Cells((evil, "b"), [(evil, evil)])
        page = Page()
        page.feed(family_page(evil, evil, [Part(evil, evil, CHART, cells)], evil))
        return page.tags

    assert tags(EVIL) == tags("x")


def test_a_table_is_shown_on_a_terminal_as_it_is() -> None:
    text = io.StringIO()
    Console(width=60, file=text).print(CELLS.on_terminal("Plans"))
    shown = text.getvalue()
    assert "[b]ours" in shown
    assert shown.startswith("Plans")
