"""The cost of a world over the plane of its gains, when a gain has two entries."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lqrlib import _validate, exact
from lqrlib._validate import Array
from lqrlib.lyapunov import spectral_radius
from lqrlib.problem import LQR
from lqrlib.show.style import COLOURS, EXPRESSIONS, RC, figure

_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Shares of J* that a claimed cost lies below it, where no cost can lie.
_IMPOSSIBLE = (-1.0, -0.7, -0.4, -0.1, 0.0)
_NAMED = {0.1: "10 %", 1.0: "100 %", 10.0: "1000 %"}
_HALF_NAME = 20.0  # pixels, along its line
_BENT = 4.0  # how many pixels away from a name one pixel of a bend is worth


def gain_plane(
    lqr: LQR, xlim: tuple[float, float], ylim: tuple[float, float], points: int = 161
) -> Array:
    """A grid of gains over the plane, for one call of a function of K.

    Parameters
    ----------
    lqr : LQR
        With one action and two states.
    xlim, ylim : tuple of two floats
        Ranges of the first and second entry of K.
    points : int
        Grid points along each side.

    Returns
    -------
    array, shape [points, points, 1, 2]
        First axis: the second entry of K; second axis: the first entry.

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix.
    """
    if (lqr.m, lqr.n) != (1, 2):
        raise _validate.error("lqr", "gains of shape (1, 2)", (lqr.m, lqr.n))
    first, second = np.linspace(*xlim, points), np.linspace(*ylim, points)
    return np.stack(np.meshgrid(first, second), axis=-1)[..., None, :]


def landscape(
    lqr: LQR,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    cov: ArrayLike = 0.0,
    size: tuple[float, float] = (4.7, 3.9),
) -> tuple[Figure, Axes]:
    """Draw J over the gains: excess over J*, both borders, and the optimum.

    Parameters
    ----------
    lqr : LQR
        With one action and two states.
    xlim, ylim : tuple of two floats
        Ranges of the first and second entry of K.
    cov : float or array, shape [m, m]
        Covariance Σ of the policy; a number σ² means σ²I.
    size : tuple of float
        Width and height in inches.

    Returns
    -------
    figure, axes

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix.
    """
    K = gain_plane(lqr, xlim, ylim)
    best = exact.optimal_gain(lqr)
    J = exact.cost(lqr, K, cov)
    excess = np.where(np.isfinite(J), J / exact.cost(lqr, best, cov) - 1.0, np.nan)
    radius = spectral_radius(lqr.closed_loop(K))
    fig, ax = figure(
        "k₁, gain on position", "k₂, gain on velocity", size=size, xlim=xlim, ylim=ylim
    )
    plane = K[..., 0, 0], K[..., 0, 1]
    shades = [(*_rgb(COLOURS["cost"]), 0.06 + 0.05 * i) for i in range(len(_LEVELS))]
    ax.contourf(*plane, excess, levels=(0.0, *_LEVELS), colors=shades[::-1])
    lines = ax.contour(
        *plane, excess, levels=_LEVELS, colors=COLOURS["cost"], linewidths=0.8
    )
    lines.clabel([*_NAMED], fmt=_NAMED, fontsize=9, colors="black")
    ax.plot(*best[0], marker="*", markersize=11, ls="", color=COLOURS["optimum"])
    ax.annotate("K*", best[0], (6, 5), textcoords="offset points")
    taken = np.array([*lines.labelXYs, *ax.transData.transform(best)])
    taken = _border(ax, plane, radius, (1.0, "ρ = 1", "--"), taken)
    _border(ax, plane, radius, (1 / np.sqrt(lqr.gamma), "J = ∞", "-"), taken)
    return fig, ax


def claims(
    lqr: LQR,
    K: Array,
    costs: Mapping[str, Array],
    *,
    optimum: float,
    size: tuple[float, float] = (5.2, 3.4),
) -> tuple[Figure, list[Axes]]:
    """Draw costs that are claimed of gains side by side, against one optimum.

    Blue where a cost lies above it, with the levels of `landscape`; red where it lies
    below, and cannot be true.

    Parameters
    ----------
    lqr : LQR
        With one action and two states.
    K : array, shape [points, points, 1, 2]
        A `gain_plane`.
    costs : mapping of str to array, shape [points, points]
        Title of each panel, and what it claims.
    optimum : float
        The least cost of the same kind that there is.
    size : tuple of float
        Width and height in inches.

    Returns
    -------
    figure, list of axes
    """
    best = exact.optimal_gain(lqr)
    plane = K[..., 0, 0], K[..., 0, 1]
    with mpl.rc_context(RC):
        fig = Figure(figsize=size, dpi=72, layout="constrained")
        FigureCanvasAgg(fig)
        axes = list(np.atleast_1d(fig.subplots(1, len(costs), sharey=True)))
        for ax, (title, cost) in zip(axes, costs.items(), strict=True):
            ax.set(title=title, xlabel="k₁", xlim=plane[0][0, [0, -1]])
            _claim(ax, plane, np.where(np.isfinite(cost), cost / optimum - 1.0, np.nan))
            ax.plot(*best[0], marker="*", markersize=11, color=COLOURS["optimum"])
        axes[0].set(ylabel="k₂", ylim=plane[1][[0, -1], 0])
    return fig, axes


def _claim(ax: Axes, plane: tuple[Array, Array], excess: Array) -> None:
    above, below = _rgb(COLOURS["cost"]), _rgb(EXPRESSIONS["hack"].colour)
    shades = [(*above, 0.06 + 0.05 * i) for i in range(len(_LEVELS))]
    ax.contourf(*plane, excess, levels=(0.0, *_LEVELS), colors=shades[::-1])
    deep = [(*below, 0.75 - 0.16 * i) for i in range(len(_IMPOSSIBLE) - 1)]
    ax.contourf(*plane, excess, levels=_IMPOSSIBLE, colors=deep)
    ax.contour(*plane, excess, levels=_LEVELS, colors=COLOURS["cost"], linewidths=0.6)
    ax.contour(
        *plane,
        excess,
        levels=_IMPOSSIBLE[1:],
        colors=EXPRESSIONS["hack"].colour,
        linewidths=0.6,
        linestyles="-",
    )


def _border(
    ax: Axes,
    plane: tuple[Array, Array],
    radius: Array,
    look: tuple[float, str, str],
    taken: Array,
) -> Array:
    """Draw and name a border; names of other lines, and then its own, in pixels.

    Matplotlib keeps names apart that belong to one set of lines, and no others.
    """
    level, name, style = look
    line: Any = ax.contour(
        *plane,
        radius,
        [level],
        colors=COLOURS["border"],
        linewidths=1.6,
        linestyles=style,
    )
    spot = _spot(
        ax, [ax.transData.transform(piece) for piece in line.allsegs[0]], taken
    )
    at = ax.transData.inverted().transform(spot)
    line.clabel(fmt={level: name}, manual=at, fontsize=9, colors="black")
    return np.concatenate([taken, spot])


def _spot(ax: Axes, line: Sequence[Array], taken: Array) -> Array:
    """Where it is straight, far from names and the edge: pixels, [1, 2] or [0, 2]."""
    found = [_straight(piece) for piece in line]
    points = np.concatenate([np.empty((0, 2)), *(point for point, _ in found)])
    bend = np.concatenate([[], *(bend for _, bend in found)])
    away = np.linalg.norm(points[:, None] - taken, axis=-1).min(axis=-1)
    inside = np.minimum(points - ax.bbox.min, ax.bbox.max - points).min(axis=-1)
    room = np.minimum(away, 2 * inside) - _BENT * bend
    best = np.argsort(-room)[:1]
    return points[best[room[best] > 0]]


def _straight(line: Array) -> tuple[Array, Array]:
    """Where a name fits on a line, [N, 2], and how much the line bends under it."""
    along = np.append(0.0, np.linalg.norm(np.diff(line, axis=0), axis=-1).cumsum())
    fits = (along >= _HALF_NAME) & (along <= along[-1] - _HALF_NAME)
    name = along[fits] + _HALF_NAME * np.array([[-1.0], [1.0]])  # its two ends
    span = [np.subtract(*np.interp(name, along, part)) for part in line.T]
    return line[fits], 2 * _HALF_NAME - np.hypot(*span)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
