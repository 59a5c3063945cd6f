"""The explorer of `book/importance_weights.md`: where a weight has a second moment."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, weights
from lqrlib._validate import Array
from lqrlib.lyapunov import spectral_radius
from lqrlib.problem import LQR
from lqrlib.show.controls import Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.landscape import landscape
from lqrlib.show.outlines import rays, room
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band

_COVS = (0.01, 0.022, 0.046, 0.1, 0.22, 0.46, 1, 2.2, 4.6, 10, 22, 46, 100)
_HORIZONS = (1, 2, 5, 10, 20, 50, 100)
_TURNS = rays(72)
# Shares of the way up to its end, denser at both: there the curve is steep.
_APPROACH = np.sin(np.linspace(0, np.pi / 2, 65)) ** 2
_ERROR = 0.1  # of the mean of the weights, which is 1
_FEWEST, _MOST = 1.0, 1e7  # trajectories on the axis
_COUNTLESS = 1_000_000_000
_PERCENT = "\N{NO-BREAK SPACE}%"
_MARGIN = 0.65  # of the plane around the way, in lengths of the way
_GONE = np.full((1, 2), -np.inf)  # out of sight, beyond the left margin
_RED = EXPRESSIONS["hack"].colour
_CALL = "weights.breakdown(lqr, K0, K_star - K0, {cov}, round({horizon}))"


class _Answer(NamedTuple):
    """What is known in one state; the way is the first ray."""

    reach: Array  # along each ray, in lengths of the way
    shares: Array  # of the way; the last one is half of the one before
    needed: Array  # trajectories at each share
    alpha: float  # tail index at K*


def weight_explorer(lqr: LQR, K0: ArrayLike) -> Explorer:
    """Covariance × horizon: the gains whose weights have a second moment on K0's data.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world with one action and two states.
    K0 : array, shape [m, n]
        The gain of the policy that makes the data.

    Returns
    -------
    Explorer
        Opens at σ² = 1 and T = 50.

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix, K0 is not one gain with
        ρ(A + BK0) < 1 (else a ray may enter the region again), or is K* itself.
    """
    first = _validate.stack("K0", K0, (lqr.m, lqr.n))
    best = exact.optimal_gain(lqr)
    if first.ndim > 2 or spectral_radius(lqr.closed_loop(first)) >= 1:
        raise _validate.error("K0", "one gain with ρ(A + BK0) < 1", K0)
    if np.allclose(first, best):
        raise _validate.error("K0", "a gain other than the optimal one", K0)
    plane, region, edge = _plane(lqr, first, best)
    (ax,), ways = plane.axes, _around(best - first)
    farthest = room(first, ways, ax.get_xlim(), ax.get_ylim())
    numbers, wall, curve, foot = _numbers()

    @functools.cache  # a reader comes back to a state more often than not
    def answers(covs: tuple[float, ...], T: int) -> list[_Answer]:
        return _answers(lqr, first, ways, covs, T)

    def update(cov: float, horizon: float) -> str:
        T = round(horizon)
        covs = _COVS if cov in _COVS else (cov,)  # all together cost little more
        reach, shares, needed, alpha = answers(covs, T)[covs.index(cov)]
        end = float(reach[0])
        region.set_xy(first + np.minimum(reach, farthest)[:, None] * ways)
        edge.set_data(*(first + end * ways[:1] if end <= 1 else _GONE).T)
        curve.set_data(shares[:-1], needed[:-1])
        set_band(wall, [end, np.inf], [0, 0], [np.inf, np.inf])
        foot.set_data([end if end <= 1 else -np.inf], [_FEWEST])
        return f"σ² = {cov:.3g}, T = {T}: {_verdict(end, needed[-2:], alpha)}"

    return Explorer(
        "weights",
        title="Choose a covariance and a horizon",
        panels=[
            Panel(
                plane,
                "The gains whose weights have a second moment, a region around K0 "
                "over the contours of the cost, and the way from K0 to K*.",
            ),
            Panel(
                numbers,
                "Trajectories needed on the way from K0 to K*, up to the breakdown.",
            ),
        ],
        moving=[region, edge, wall, curve, foot],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", _COVS, 1.0, log=True),
            Slider("horizon", "horizon T, steps", _HORIZONS, 50.0, log=True),
        ],
        call=_CALL,
        slow=True,
    )


def _answers(
    lqr: LQR, first: Array, ways: Array, covs: Sequence[float], T: int
) -> list[_Answer]:
    """What is known for each covariance."""
    each = np.reshape(covs, (-1, 1, 1))
    reach = weights.breakdown(lqr, first, ways[:, None, :], each[:, None], T)
    shares = np.minimum(reach[:, :1], 1.0) * np.append(_APPROACH, 0.5)
    K = first + shares[:, :, None, None] * ways[0]
    with np.errstate(over="ignore"):
        logs = weights.log_moment(lqr, K, first, each[:, None], T)
        needed = np.expm1(logs) / _ERROR**2
    # Whatever rounding makes of the border itself.
    needed[:, -2] = np.where(reach[:, 0] <= 1, np.inf, needed[:, -2])
    alpha = weights.tail_index(lqr, first + ways[:1], first, each, T).tolist()
    return [*map(_Answer, reach, shares, needed, alpha)]


def _plane(lqr: LQR, first: Array, best: Array) -> tuple[Figure, Polygon, Line2D]:
    """The landscape with the way on it, the region, and where the way leaves it."""
    ends = np.concatenate([first, best])
    margin = _MARGIN * np.linalg.norm(best - first)
    low, high = ends.min(axis=0) - margin, ends.max(axis=0) + margin
    fig, ax = landscape(lqr, (low[0], high[0]), (low[1], high[1]))
    region = Polygon(np.zeros((len(_TURNS), 2)), label="a second moment")
    region.set(facecolor=_RED + "40", edgecolor=_RED, linewidth=1.8, zorder=2.2)
    ax.add_patch(region)
    ax.plot(*ends.T, "--", color="black", lw=1.2)
    ax.plot(*first[0], "o", ms=5, color=_RED)
    ax.annotate("K₀", first[0], (5, 5), textcoords="offset points")
    (edge,) = ax.plot([], [], "x", ms=8, mew=2, color="black", label="breakdown")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return fig, region, edge


def _around(way: Array) -> Array:
    """The way turned all around, itself first, shape [turns, 2]."""
    across = way[:, ::-1] * [-1, 1]
    return _TURNS @ np.concatenate([way, across])


def _numbers() -> tuple[Figure, Polygon, Line2D, Line2D]:
    """Trajectories along the way: the wall, the curve, and the foot of the wall."""
    fig, ax = figure(
        "share of the way from K₀ to K*",
        "trajectories needed for 10 %",
        size=(4.7, 3.9),
        yscale="log",
        xlim=(0, 1.08),
        ylim=(_FEWEST, _MOST),
    )
    ax.minorticks_off()
    ax.axvline(1, color=COLOURS["optimum"], lw=1)
    ax.text(1.01, 1.3 * _FEWEST, "K*")
    ends = [0.5, 1.0]
    look = {"color": COLOURS["border"], "alpha": 0.2, "label": "no second moment"}
    wall = band(ax, ends, ends, ends, **look)
    (curve,) = ax.plot(ends, ends, color=_RED)
    (foot,) = ax.plot([], [], "x", ms=8, mew=2, color="black", label="breakdown")
    foot.set_clip_on(False)  # whole on the axis
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return fig, wall, curve, foot


def _verdict(end: float, needed: Array, alpha: float) -> str:
    """Where the way breaks down, at what price; needed: at its end and half of it."""
    index = _decimals(alpha, alpha - 1)
    if end > 1:
        price = _price(needed[0])
        return f"a second moment all the way to K*: {price} at K*; tail index {index}."
    rate = _decimals(1 - 1 / alpha, alpha - 1)
    return (
        f"no second moment beyond {100 * end:.1f}{_PERCENT} of the way to K*; at half "
        f"of that, {_price(needed[1])}; tail index at K* {index}: the error of an "
        f"average falls like N^\N{MINUS SIGN}{rate}."
    )


def _price(needed: float) -> str:
    """The number of trajectories, with two digits."""
    if needed > _COUNTLESS:
        return f"over {_COUNTLESS:,} trajectories for 10{_PERCENT}"
    whole = int(np.ceil(needed))
    rounded = round(whole, 2 - len(str(whole)))
    return f"{rounded:,} trajectories for 10{_PERCENT}"


def _decimals(value: float, smallest: float) -> str:
    """With two decimals, or as many as show what is smallest, up to six."""
    if np.isinf(value):
        return "infinite"
    digits = np.ceil(-np.log10(max(smallest, 1e-6)))
    return f"{value:.{max(2, int(digits))}f}"
