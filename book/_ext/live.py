"""A button on every page with code that makes the page live.

What it starts is `assets/live.js`, which needs the server of `make live`, and says so
where there is none.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

BUTTON = {
    "type": "javascript",
    "javascript": "lqrLive()",
    "text": "Live",
    "tooltip": "Run the cells of this page",
    "icon": "fas fa-play",
    "label": "live",
    "classes": "pst-navbar-icon",
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # After the theme has made its list of buttons.
    app.connect("html-page-context", add_button, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def has_cells(doctree: nodes.document | None) -> bool:
    """Whether a page shows code that was run for it."""
    inputs = (
        node
        for node in (doctree.findall(nodes.container) if doctree else ())
        if node.get("nb_element") == "cell_code_source"
    )
    return any(inputs)


def add_button(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Put the button and its script on a page with cells, and on no other."""
    if has_cells(doctree):
        context["header_buttons"].insert(0, dict(BUTTON))
        app.add_js_file("live.js", loading_method="defer")
        app.add_css_file("live.css")
