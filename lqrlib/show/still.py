"""A still figure as a notebook shows it: an SVG with an opaque light face."""

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from lqrlib.show.style import RC, freeze


class Still:
    """A figure that a cell ends with; it is frozen here.

    Text becomes outlines, because an image on a page cannot use the page's fonts.

    Parameters
    ----------
    figure : matplotlib Figure
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        freeze(figure)

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        with mpl.rc_context(RC | {"svg.fonttype": "path"}):
            self.figure.savefig(
                buffer, format="svg", facecolor="white", metadata={"Date": None}
            )
        return buffer.getvalue()
