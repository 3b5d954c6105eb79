"""How the pages are built: `python -m sphinx -W docs build/docs`, without a network."""

import re
from typing import Any

from sphinx.application import Sphinx

project = "SuperSAM AutoML"
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
default_role = "code"  # docstrings write `name`, as Markdown does
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = project
html_show_copyright = False
html_copy_source = False


def _without_substitutions(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings write |x| for an absolute value; reStructuredText would look for a name in it."""
    lines[:] = [line.replace("|", r"\|") if "`" not in line else line for line in lines]


def _with_short_defaults(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """A section of the configuration whose default is a section: it stands on the page itself."""
    section = re.compile(r"\b(\w*(?:Config|Settings|Space|Distillation))\((?:[^()]|\(\))+\)")
    before = None
    while signature and signature != before:
        before, signature = signature, section.sub(r"\1()", signature)
    return signature, returned


def setup(app: Sphinx) -> None:
    """Sphinx calls this once."""
    app.connect("autodoc-process-signature", _with_short_defaults)
    app.connect("autodoc-process-docstring", _without_substitutions)
