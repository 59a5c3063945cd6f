"""Where a moving artist is: its points in data, and as pixels of its figure.

Two kinds of artist move: a `Line2D` (a curve, or markers without a curve) and a
`Polygon` (a band, a region).
"""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from lqrlib import _validate
from lqrlib._validate import Array

Movable = Line2D | Polygon


def kind(artist: Artist) -> str:
    """``"curve"``, ``"markers"`` or ``"area"``: how the page moves the artist.

    Parameters
    ----------
    artist : matplotlib Artist

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the artist is of another kind, or a curve with markers (two artists then).
    """
    if isinstance(artist, Polygon):
        return "area"
    if isinstance(artist, Line2D):
        curve = artist.get_linestyle() not in ("None", "", " ")
        markers = artist.get_marker() not in ("None", None, "", " ")
        if curve != markers:
            return "curve" if curve else "markers"
    raise _validate.error(
        "moving", "a Line2D (curve or markers, not both) or a Polygon", artist
    )


def clip(artist: Movable) -> None:
    """Bring infinite and far-off points to just outside the axes, on their own side.

    Must happen in data space: on a log axis the transform of an infinite value turns
    the point's other coordinate into nan, and a diverged curve would look converged.

    Parameters
    ----------
    artist : Line2D or Polygon
        Moved in place.
    """
    ax, points = _axes(artist), _points(artist)
    in_data = artist.get_transform().contains_branch_seperately(ax.transData)
    for column, axis in enumerate((ax.xaxis, ax.yaxis)):
        if in_data[column]:
            points[:, column] = _clipped(points[:, column], axis)
    if isinstance(artist, Polygon):
        artist.set_xy(points)
    else:
        artist.set_data(*points.T)


def pixels(artist: Movable) -> Array:
    """The artist's points in pixels of its figure, y downwards as in SVG.

    Parameters
    ----------
    artist : Line2D or Polygon

    Returns
    -------
    array, shape [N, 2]
        nan where a curve has a gap.
    """
    points = artist.get_transform().transform(_points(artist))
    points[:, 1] = _axes(artist).get_figure().bbox.height - points[:, 1]
    return points


def _axes(artist: Movable) -> Any:
    if artist.axes is None:
        raise _validate.error("moving", "artists on axes", artist)
    return artist.axes


def _points(artist: Movable) -> Array:
    """The points as given; a polygon without the closing one that it adds itself."""
    if isinstance(artist, Polygon):
        return np.array(artist.get_xy(), dtype=float)[:-1]
    return np.array(artist.get_xydata(), dtype=float)


def _clipped(values: Array, axis: Axis) -> Array:
    """Within one length of the axis beyond either end, measured in its own scale."""
    scale = axis.get_transform()
    low, high = np.sort(scale.transform(np.asarray(axis.get_view_interval())))
    length = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = scale.transform(values)
    # A log axis maps what is not positive to nothing: that is below everything.
    scaled = np.where(np.isnan(scaled) & (values <= 0), -np.inf, scaled)
    inside = np.clip(scaled, low - length, high + length)
    result = scale.inverted().transform(inside)
    return np.where(np.isnan(values), np.nan, result)
