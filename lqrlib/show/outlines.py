"""Levels of a function on a grid, and rays, as outlines that can move.

What moves on a page keeps its number of points. A region has any number of parts, some
with holes: here they hang on strings of no width from a corner of the grid, and points
that are left over rest in that corner. Lines are one curve with gaps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator  # Matplotlib's own

from lqrlib._validate import Array

# In lengths of the grid. Curves of fewer tolerances across are left out.
_FINEST, _SMALLEST = 0.0025, 6.0
_APART = 1e-9  # of points that shall not coincide: a polygon would drop the second


def region(x: Array, y: Array, z: Array, low: float, high: float, size: int) -> Array:
    """Where low < z < high, as one closed outline for the non-zero rule of filling.

    Parameters
    ----------
    x : array, shape [X]
    y : array, shape [Y]
    z : array, shape [Y, X]
        Finite.
    low, high : float
    size : int
        Points of the outline; if they do not suffice, it gets coarser.

    Returns
    -------
    array, shape [size, 2]
    """
    grid: Any = contour_generator(x, y, z, fill_type=FillType.OuterOffset)
    found = zip(*grid.filled(low, high), strict=True)
    rings = [r for points, at in found for r in np.split(points, at[1:-1])]
    points = _fitting(x, y, rings, size - 2, np.zeros((1, 2)), _FINEST)
    points = np.pad(points, ((1, size - 1 - len(points)), (0, 0)))
    points[-1] = _APART
    return _corner(x, y) + points * _lengths(x, y)


def lines(
    x: Array,
    y: Array,
    z: Array,
    levels: Sequence[float],
    size: int,
    *,
    tolerance: float = _FINEST,
) -> Array:
    """Where z is at one of the levels, as one curve with gaps.

    Parameters
    ----------
    x : array, shape [X]
    y : array, shape [Y]
    z : array, shape [Y, X]
        No line is drawn next to nan.
    levels : sequence of float
    size : int
        Points of the curve; if they do not suffice, it gets coarser.
    tolerance : float
        How far the curve may run from the line, in lengths of the grid.

    Returns
    -------
    array, shape [size, 2]
        Its first two points lie in the corner of the grid, so that there is always
        something to draw.
    """
    grid: Any = contour_generator(x, y, np.ma.masked_invalid(z))
    found = [line for level in levels for line in grid.lines(level)]
    gap = np.full((1, 2), np.nan)
    points = _fitting(x, y, found, size - 3, gap, tolerance)
    dot = np.array([[0.0, 0.0], [_APART, _APART], [np.nan, np.nan]])
    rest = np.full((size - 3 - len(points), 2), np.nan)
    return _corner(x, y) + np.concatenate([dot, points, rest]) * _lengths(x, y)


def rays(count: int) -> Array:
    """Unit vectors all around.

    Parameters
    ----------
    count : int

    Returns
    -------
    array, shape [count, 2]
        The first one points to the right.
    """
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def room(
    first: Array, rays: Array, xlim: tuple[float, float], ylim: tuple[float, float]
) -> Array:
    """How far rays lead before they are as far out of view as an artist may be.

    Parameters
    ----------
    first : array, shape [1, 2]
        Where they start, in view.
    rays : array, shape [N, 2]
    xlim, ylim : tuple of two floats
        Of the view; an artist may be one more view away from it.

    Returns
    -------
    array, shape [N]
        In lengths of each ray.
    """
    view = np.array([xlim, ylim])
    low, high = view.T + np.outer([-1, 1], view[:, 1] - view[:, 0])
    with np.errstate(divide="ignore"):
        return np.maximum((low - first) / rays, (high - first) / rays).min(axis=-1)


def simplified(curve: Array, tolerance: float) -> Array:
    """Some of the points of a curve, such that no other is farther from it than that.

    Parameters
    ----------
    curve : array, shape [N, 2]
    tolerance : float

    Returns
    -------
    array, shape [M, 2]
        With the first and the last point.

    Notes
    -----
    Ramer (1972), "An iterative procedure for the polygonal approximation of plane
    curves"; Douglas & Peucker (1973).
    """
    keep = np.zeros(len(curve), dtype=bool)
    keep[[0, -1]] = True
    spans = [(0, len(curve) - 1)]
    while spans:
        i, j = spans.pop()
        away = _distance(curve[i + 1 : j], curve[i], curve[j])
        if away.size and away.max() > tolerance:
            k = i + 1 + int(away.argmax())
            keep[k] = True
            spans += [(i, k), (k, j)]
    return curve[keep]


def _fitting(
    x: Array,
    y: Array,
    curves: Sequence[Array],
    size: int,
    end: Array,
    tolerance: float,
) -> Array:
    """At most so many points, in lengths of the grid; ``end`` follows each curve."""
    curves = [(curve - _corner(x, y)) / _lengths(x, y) for curve in curves]
    while True:
        large = [c for c in curves if np.ptp(c, axis=0).max() > _SMALLEST * tolerance]
        parts = [part for c in large for part in (simplified(c, tolerance), end)]
        points = np.concatenate([np.empty((0, 2)), *parts])
        if len(points) <= size:
            return points
        tolerance *= 1.5


def _distance(points: Array, start: Array, end: Array) -> Array:
    """Of each point from the segment between start and end."""
    way, to = end - start, points - start
    share = np.clip(to @ way / np.maximum(way @ way, np.finfo(float).tiny), 0, 1)
    return np.hypot(*(to - share[:, None] * way).T)


def _corner(x: Array, y: Array) -> Array:
    return np.array([x[0], y[0]])


def _lengths(x: Array, y: Array) -> Array:
    return np.array([np.ptp(x), np.ptp(y)])
