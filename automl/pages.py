"""Self-contained pages: text, tables and charts of any family's study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from automl.cells import Cells
from automl.charts import Chart, browser_code
from search_spaces.addresses import shown


@dataclass(frozen=True)
class Part:
    """A part of a page, in this order.

    Args:
        title: above it.
        text: a paragraph; none where it is empty.
        chart: with the data in it.
        cells: a table.
    """

    title: str
    text: str = ""
    chart: Chart | None = None
    cells: Cells | None = None


def family_page(title: str, text: str, parts: Sequence[Part], uri: str) -> str:
    """The report of a family that needs no template of its own.

    Args:
        title: of the page.
        text: a paragraph below it.
        parts: what was found.
        uri: where MLflow keeps the study's runs.
    """
    charts = {f"chart-{n}": part.chart for n, part in enumerate(parts) if part.chart}
    return render_page(
        "family.html.j2", charts, title=title, text=text, parts=parts, tracking_uri=shown(uri)
    )


def render_page(template: str, charts: Mapping[str, Chart], **values: Any) -> str:
    """A page that needs nothing but itself.

    Args:
        template: of `templates/`; it extends `page.html.j2`.
        charts: by the id of the element that shows each.
        values: what the template names.
    """
    environment = Environment(
        loader=PackageLoader("automl"), autoescape=select_autoescape(["html", "j2"])
    )
    # Code of ours; "</script" within it would end the element that holds it.
    code = Markup(browser_code().replace("</script", "<\\/script"))  # noqa: S704
    page: str = environment.get_template(template).render(
        charts=dict(charts), browser_code=code, **values
    )
    return page
