"""One look for all figures: sizes, and the table of names and colours.

A figure here has one axes and is used at its own size, so that its text is as large on
a phone as on a desk. Figures are made without pyplot: nothing global to clean up.
"""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Text
from numpy.typing import ArrayLike

from lqrlib._validate import Array

# Each at least 3:1 against white and against the dark theme's background (tested).
COLOURS = {
    "state": "#2f7fc1",
    "optimum": "#c75000",
    "gain": "#b0389c",
    "border": "#808080",
    "cost": "#2f7fc1",
    "peer": "#128a5e",
}


class Look(NamedTuple):
    """How an expression is called and drawn, through the whole book.

    Parameters
    ----------
    name : str
    colour : str
    """

    name: str
    colour: str


EXPRESSIONS = {
    "hack": Look("Gaussian hack", "#d1405e"),
    "dpg": Look("deterministic gradient", "#2f7fc1"),
    "pathwise": Look("pathwise gradient", "#8a63c7"),
    "model": Look("model gradient", "#128a5e"),
    "soft": Look("soft update", "#a0741a"),
}

# The luminance at which text has a contrast of 4.5 to white.
_LEGIBLE = 1.05 / 4.5 - 0.05

RC: Any = {
    "font.family": "sans-serif",
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "lqrlib",
}


def figure(
    xlabel: str, ylabel: str, *, size: tuple[float, float] = (4.7, 3.5), **axes: Any
) -> tuple[Figure, Axes]:
    """A figure with one axes in the book's style.

    Parameters
    ----------
    xlabel, ylabel : str
        Names of the axes, with units.
    size : tuple of float
        Width and height in inches at 72 points an inch.
    **axes
        Properties of the axes: ``xlim``, ``yscale``, ``title``, …

    Returns
    -------
    figure, axes
    """
    with mpl.rc_context(RC):
        fig = Figure(figsize=size, dpi=72, layout="constrained")
        FigureCanvasAgg(fig)
        ax = fig.add_subplot(xlabel=xlabel, ylabel=ylabel, **axes)
    return fig, ax


def freeze(fig: Figure) -> None:
    """Fix the layout of a finished figure; darken what could not be read on white.

    Parameters
    ----------
    fig : matplotlib Figure
    """
    for text in fig.findobj(Text):
        text.set_color(legible(text.get_color()))
    fig.canvas.draw()
    fig.set_layout_engine("none")


def legible(colour: Any) -> Any:
    """The colour, or a darker one of its hue, in which text can be read on white.

    Parameters
    ----------
    colour : any colour of matplotlib

    Returns
    -------
    The same, or a string: at least 4.5 : 1, the contrast that WCAG 2.2 asks of text.
    """
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    if luminance <= _LEGIBLE:
        return colour
    linear *= _LEGIBLE / luminance
    rgb = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return mpl.colors.to_hex(np.floor(255 * rgb) / 255)


def percent(share: float) -> str:
    """A share in per cent, in two digits, without an exponent or long rows of zeros.

    Parameters
    ----------
    share : float

    Returns
    -------
    str
    """
    if 0.0 < share < 1e-6:
        return "less than 0.0001\N{NO-BREAK SPACE}%"
    digits = np.format_float_positional(
        100.0 * share, precision=2, fractional=False, trim="-"
    )
    return f"{digits}\N{NO-BREAK SPACE}%"


def band(
    ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, **look: Any
) -> Polygon:
    """A filled band between two curves, as one polygon that `set_band` can move.

    Parameters
    ----------
    ax : matplotlib Axes
    x, low, high : array, shape [N]
    **look
        Properties of the polygon.

    Returns
    -------
    matplotlib.patches.Polygon
    """
    polygon = Polygon(_outline(x, low, high), closed=True, linewidth=0, **look)
    ax.add_patch(polygon)
    return polygon


def set_band(polygon: Polygon, x: ArrayLike, low: ArrayLike, high: ArrayLike) -> None:
    """Move a `band` to new curves of the same length.

    Parameters
    ----------
    polygon : matplotlib.patches.Polygon
    x, low, high : array, shape [N]
    """
    polygon.set_xy(_outline(x, low, high))


def _outline(x: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    there, back = np.column_stack([x, low]), np.column_stack([x, high])[::-1]
    return np.concatenate([there, back])
