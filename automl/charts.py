"""Charts as Vega-Lite specifications: what those of all families have in common.

The report shows them with what a pointer can do; `as_png` draws them for places that can't.
"""

from typing import Any

import vl_convert

Chart = dict[str, Any]
"""A Vega-Lite specification, whole: its data are in it."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridOpacity": 0.35},
    "legend": {"orient": "top", "labelFontSize": 12, "labelLimit": 320},
    "view": {"stroke": None},
}
WIDTH, HEIGHT = 640, 300
VAL, TEST, OTHER = "#1f77b4", "#d95f02", "#8a8a8a"


def as_png(chart: Chart, scale: float = 2) -> bytes:
    """The chart as a picture on white.

    Args:
        chart: in Vega-Lite.
        scale: pixels of the picture for each of the chart.
    """
    config = {**chart["config"], "background": "white"}
    picture: bytes = vl_convert.vegalite_to_png({**chart, "config": config}, scale=scale)
    return picture


def as_svg(chart: Chart) -> str:
    """The chart as a drawing on white."""
    config = {**chart["config"], "background": "white"}
    drawing: str = vl_convert.vegalite_to_svg({**chart, "config": config})
    return drawing


def browser_code() -> str:
    """The JavaScript that shows charts: `vegaEmbed` and all that it needs."""
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code


def whole_chart(chart: Chart) -> Chart:
    """A chart with what all of them share: schema, fonts, a background that is the page's."""
    return {"$schema": SCHEMA, "config": CONFIG, **chart}
