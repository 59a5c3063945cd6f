"""The explorer of `book/gaussian_hack.md`: the costs that one data set claims."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike
from scipy.interpolate import RectBivariateSpline

from lqrlib import _validate, exact, importance, weights
from lqrlib._validate import Array
from lqrlib.lyapunov import spectral_radius
from lqrlib.problem import LQR
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.geometry import Movable
from lqrlib.show.landscape import gain_plane
from lqrlib.show.outlines import lines, rays, region, room
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band
from lqrlib.show.surrogate_study import (
    COUNTS,
    COVS,
    HORIZON,
    SURROGATES,
    Surrogate,
    SurrogatePath,
    surrogate,
)

_VIEW = (-5.0, 1.0), (-8.0, 1.0)
# Grid points along each side. A gain costs N T exponentials where there are weights:
# they get fewer, and splines between them.
_COARSE, _FINE = 32, 101
# Levels of a claim over the optimal cost, less 1, and how dense the shade below is.
_ABOVE = {10.0: 0.06, 3.0: 0.12, 1.0: 0.18, 0.3: 0.24, 0.1: 0.3, 0.03: 0.36}
_BELOW = {0.0: 0.27, -0.1: 0.43, -0.4: 0.59, -0.7: 0.75}
_REGION, _LINES, _EDGE = 96, 320, 64  # points at most; what needs more gets coarser
# Heights near ∞ count as no claim; where a critic ends before them, its edge is known
# to a cell of the grid, and drawn no finer.
_END, _BLUNT = 0.99, 0.006
_UPDATES = 60
_LOW, _HIGH = 0.03, 30.0  # of the costs on the way, over the optimal one
_TICKS = 0.03, 0.1, 0.3, 1, 3, 10, 30
_RAYS = rays(48)
_NOTHING = 1e-9  # not 0: a polygon whose ends coincide has a point less
_RED, _BLUE = EXPRESSIONS["hack"].colour, COLOURS["cost"]
_SIZE = (4.7, 4.7)
_CALL = (
    "show.surrogate(lqr, K0, cov={cov}, n_trajectories={n_trajectories}, "
    "which={which}).descend()"
)


class _Claims(NamedTuple):
    """What is shown of one surrogate."""

    shapes: list[Array]  # shades, lines at the levels, the edge of all claims
    lowest: Array  # a gain in view, [2]
    least: tuple[float, float]  # claim and truth there
    path: SurrogatePath
    optimum: float


class _Part(NamedTuple):
    """A panel: its figure, what moves in it, and what moves it to a state."""

    figure: Figure
    moving: tuple[Movable, ...]
    move: Callable[[_Claims, Array], None]


def surrogate_explorer(
    lqr: LQR,
    K0: ArrayLike,
    *,
    covs: Sequence[float] = COVS,
    counts: Sequence[int] = COUNTS,
) -> Explorer:
    """Covariance × trajectories × surrogate: what data of K₀ say that gains cost.

    A claim stands beside what it is a claim of: that of weights beside the cost of as
    many steps of the Gaussian policy, whose noise costs something, too; that of the
    critic and the model beside the cost of u = Kx. The optimal costs are meant so.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world with one action and two states.
    K0 : array, shape [m, n]
        The stable gain that makes the data, of seed 0.
    covs : sequence of float
        σ², ascending.
    counts : sequence of int
        N, ascending.

    Returns
    -------
    Explorer
        Opens at weighted trajectories, σ² = 3 and N = 1000, or what is nearest.

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix, K0 is not one stable gain, or
        covs or counts are not ascending numbers above 0.
    """
    if (lqr.m, lqr.n) != (1, 2):
        raise _validate.error("lqr", "gains of shape (1, 2)", (lqr.m, lqr.n))
    first = _validate.stack("K0", K0, (lqr.m, lqr.n))
    if first.ndim > 2 or not exact.is_stable(lqr, first):
        raise _validate.error("K0", "one stable gain", K0)
    _check_grid("covs", covs)
    _check_grid("counts", [_validate.count("counts", count) for count in counts])
    plane, way = _plane(lqr, first), _way()
    reach = _reaching(lqr, first, covs)

    @functools.cache  # a reader comes back to a state more often than not
    def claims(which: str, N: float, cov: float) -> _Claims:
        found = surrogate(lqr, first, cov=cov, n_trajectories=N, which=which)
        return _claims(found, _COARSE if which in importance.WEIGHTINGS else _FINE)

    def update(which: str, n_trajectories: float, cov: float) -> str:
        found = claims(which, n_trajectories, cov)
        for part in (plane, way):
            part.move(found, reach(which, cov))
        N = f", N = {round(n_trajectories):,}" * (which != "true")
        return f"σ² = {cov:.3g}{N}, {SURROGATES[which]}: {_verdict(which, found)}"

    return Explorer(
        "surrogates",
        title="Choose a surrogate, the number of trajectories, and the covariance",
        panels=[
            Panel(
                plane.figure,
                "What the data claim that gains cost, as shades over the plane of "
                "gains, with K0, K*, the lowest claim and a path downhill.",
            ),
            Panel(
                way.figure,
                "The claimed and the true cost on the path, over the optimal cost.",
            ),
        ],
        moving=[*plane.moving, *way.moving],
        update=update,
        controls=[
            Choice(
                "which",
                "surrogate",
                tuple(SURROGATES),
                "trajectory",
                tuple(SURROGATES.values()),
            ),
            Slider(
                "n_trajectories",
                "trajectories N",
                counts,
                counts[_nearest(counts, 1000)],
                log=True,
            ),
            Slider("cov", "covariance σ²", covs, covs[_nearest(covs, 3)], log=True),
        ],
        call=_CALL,
        slow=True,
    )


def _check_grid(name: str, values: Sequence[float]) -> None:
    grid = _validate.real_array(name, values)
    if grid.ndim != 1 or (np.diff(grid, prepend=0.0) <= 0).any():
        raise _validate.error(name, "ascending numbers above 0", values)


def _claims(found: Surrogate, points: int) -> _Claims:
    """A surrogate over the view and one cell around it, and along its descent."""
    cells = np.ptp(_VIEW, axis=1) / (points - 3)
    first, second = _VIEW + np.outer(cells, [-1, 1])
    K = gain_plane(found.lqr, (*first,), (*second,), points)
    cost, optimum, inside = found.claim(K), found.optimum, np.s_[1:-1, 1:-1]
    best = K[inside].reshape(-1, 1, 2)[np.argmin(cost[inside])]
    lowest = _lowest(found, best, cells)
    return _Claims(
        _shapes(K[0, :, 0, 0], K[:, 0, 0, 1], cost / optimum),
        lowest[0],
        (float(found.claim(lowest)), float(found.truth(lowest))),
        found.descend(updates=_UPDATES),
        optimum,
    )


def _shapes(x: Array, y: Array, share: Array) -> list[Array]:
    """Shades, lines, and edge of claims given as shares of the optimal cost."""
    x, y, z = _finer(x, y, _height(share))
    known = np.where(z < 1, z, np.nan)
    ends = [_END] if np.isinf(share).any() else []
    return [
        *(region(x, y, z, low, _level(at), _REGION) for at, low, _, _ in _shades()),
        *(lines(x, y, known, [*map(_level, at)], _LINES) for at in (_ABOVE, _BELOW)),
        lines(x, y, z, ends, _EDGE, tolerance=_BLUNT),
    ]


def _finer(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """The same on a fine grid."""
    if len(x) >= _FINE:
        return x, y, z
    smooth = RectBivariateSpline(y, x, z)
    x, y = np.linspace(x[0], x[-1], _FINE), np.linspace(y[0], y[-1], _FINE)
    return x, y, smooth(y, x)


def _lowest(found: Surrogate, best: Array, cells: Array) -> Array:
    """The gain in view that is claimed to cost least, to a third of a cell."""
    fine = np.linspace(-1, 1, 7)
    around = np.stack(np.meshgrid(fine, fine), axis=-1).reshape(-1, 1, 2) * cells
    low, high = np.transpose(_VIEW)
    near = np.clip(best + around, low, high)
    result: Array = near[np.argmin(found.claim(near))]
    return result


def _height(share: ArrayLike) -> Array:
    """Monotone and smooth: log share below 1, and 1 − 1/share above, so that ∞ is 1."""
    over = np.maximum(share, 1)
    return np.where(np.less(share, 1), np.log(np.clip(share, 1e-300, 1)), 1 - 1 / over)


def _level(above: float) -> float:
    return float(_height(1 + above))


def _shades() -> Iterator[tuple[float, float, str, float]]:
    """Level, the height where it begins, colour and density, for layers that add up."""
    for levels, low, colour in ((_ABOVE, 0.0, _BLUE), (_BELOW, -1e3, _RED)):
        covered = 0.0
        for level, density in levels.items():
            yield level, low, colour, 1 - (1 - density) / (1 - covered)
            covered = density


def _plane(lqr: LQR, first: Array) -> _Part:
    """The map of claims, with what is true of it: K*, and where the cost ends."""
    best = exact.optimal_gain(lqr)
    fig, ax = figure("k₁, gain on position", "k₂, gain on velocity", size=_SIZE)
    ax.set(xlim=_VIEW[0], ylim=_VIEW[1])
    shapes: list[Movable] = []
    for _, _, colour, alpha in _shades():
        fill = Polygon(first + _RAYS, facecolor=colour, alpha=alpha, linewidth=0)
        ax.add_patch(fill)
        shapes.append(fill)
    shapes += ax.plot([], [], color=_BLUE, lw=0.7)
    shapes += ax.plot([], [], ls=(0, (5, 2)), color=_RED, lw=0.8)  # claims below J*
    shapes += ax.plot([], [], ":", color="black", lw=1.4, label="no claim beyond")
    moment = Polygon(first + _RAYS, fill=False, ec="black", lw=1.2, ls="--")
    moment.set(label="second moment", zorder=2)
    ax.add_patch(moment)
    _border(ax, lqr)
    (path,) = ax.plot([], [], color="black", lw=1.8, label="path")
    (stop,) = ax.plot([], [], "o", ms=6, color="black", mec="white", label="end")
    (lost,) = ax.plot([], [], "X", ms=8, color="black", mec="white", label="unstable")
    look: Any = {"ms": 8, "color": _RED, "mec": "white", "label": "lowest claim"}
    (lowest,) = ax.plot([], [], "v", **look)
    lowest.set_clip_on(False)  # whole on the border of the view
    ax.plot(*first[0], "s", ms=6, color="black", mec="white")
    ax.annotate("K₀", first[0], (6, 5), textcoords="offset points")
    ax.plot(*best[0], "*", ms=13, color=COLOURS["optimum"], mec="white")
    ax.annotate("K*", best[0], (-19, -13), textcoords="offset points")
    _key(ax)
    behind = np.array([_VIEW[0][0] - 0.2, np.mean(_VIEW[1])])

    def move(found: _Claims, reach: Array) -> None:
        for artist, points in zip(shapes, found.shapes, strict=True):
            _put(artist, points)
        moment.set_xy(first + reach[:, None] * _RAYS)
        path.set_data(*found.path.K[:, 0].T)
        last, left = found.path.K[-1, 0], np.isinf(found.path.truth[-1])
        stop.set_data(*(behind if left else last)[:, None])
        lost.set_data(*(last if left else behind)[:, None])
        gone = np.isinf(found.least[0])
        lowest.set_data(*np.where(gone, -np.inf, found.lowest)[:, None])

    marks = path, stop, lost, lowest
    return _Part(fig, (*shapes, moment, *marks), move)


def _put(artist: Movable, points: Array) -> None:
    if isinstance(artist, Polygon):
        artist.set_xy(points)
    else:
        artist.set_data(*points.T)


def _border(ax: Axes, lqr: LQR) -> None:
    """Where the true cost ends."""
    K = gain_plane(lqr, *_VIEW)
    radius, at = spectral_radius(lqr.closed_loop(K)), 1 / np.sqrt(lqr.gamma)
    look: Any = {"colors": COLOURS["border"], "linewidths": 1.6}
    line = ax.contour(K[..., 0, 0], K[..., 0, 1], radius, [at], **look)
    ax.clabel(line, fmt={at: "J = ∞"}, fontsize=9, colors="black")


def _key(ax: Axes) -> None:
    """The shades in a row, with the levels between them, and what the marks mean."""
    levels = sorted([*_ABOVE, *_BELOW])
    ends = (1 + np.arange(len(levels))) / len(levels)
    place = dict(zip(levels, ends, strict=True))
    outside: Any = {"transform": ax.transAxes, "clip_on": False}
    for level, low, colour, alpha in _shades():
        start = 0.0 if low else place[0.0]
        box = Rectangle((start, 1.075), place[level] - start, 0.035, **outside)
        box.set(facecolor=colour, alpha=alpha, linewidth=0)
        ax.add_patch(box)
    small: Any = {"transform": ax.transAxes, "fontsize": 9}
    for level, x in place.items():
        percent = f"{100 * level:.0f}".replace("-", "\N{MINUS SIGN}")
        ax.text(x, 1.015, percent, ha="center", **small)
    ax.text(0, 1.125, "claimed cost, in % above the optimal one", **small)
    marks = ax.legend(ncols=3, frameon=False, fontsize=9, columnspacing=1.0)
    marks.set_loc("lower left")
    marks.set_bbox_to_anchor((-0.1, 1.17), ax.transAxes)


def _way() -> _Part:
    """Claimed and true cost on the path; the gap between them is filled."""
    fig, ax = figure("steps", "cost, over the optimal one", size=_SIZE, yscale="log")
    ax.set(xlim=(0, _UPDATES), ylim=(_LOW, _HIGH))
    ax.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    ax.minorticks_off()
    steps, ones = np.arange(_UPDATES + 1.0), np.ones(_UPDATES + 1)
    gap = band(ax, steps, ones, ones, color=_RED, alpha=0.2)
    (truth,) = ax.plot(steps, ones, color=_BLUE, label="true")
    (claim,) = ax.plot(steps, ones, "--", color=_RED, label="claimed")
    ax.axhline(1, color=COLOURS["optimum"], lw=1, label="optimal")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)

    def move(found: _Claims, _: Array) -> None:
        true, said = found.path.truth / found.optimum, found.path.claim / found.optimum
        known = np.where(np.isinf(said), true, said)
        low, high = np.minimum(known, true), np.maximum(known, true)
        set_band(gap, steps, low * (1 - _NOTHING), high)
        truth.set_data(steps, true)
        claim.set_data(steps, np.where(np.isinf(said), np.nan, said))

    return _Part(fig, (gap, truth, claim), move)


def _reaching(
    lqr: LQR, first: Array, covs: Sequence[float]
) -> Callable[[str, float], Array]:
    """How far along each ray weights have a second moment, in view or just beyond."""
    grid, nowhere = tuple(map(float, covs)), np.full(len(_RAYS), _NOTHING)
    farthest = room(first, _RAYS, *_VIEW)

    @functools.cache
    def reaches(covs: tuple[float, ...]) -> Array:
        each = np.reshape(covs, (-1, 1, 1, 1))
        ends = weights.breakdown(lqr, first, _RAYS[:, None, :], each, HORIZON)
        return np.minimum(ends, farthest)

    def reach(which: str, cov: float) -> Array:
        if which not in importance.WEIGHTINGS:
            return nowhere
        batch = grid if cov in grid else (cov,)  # all together cost as much as one
        found: Array = reaches(batch)[batch.index(cov)]
        return found

    return reach


def _nearest(grid: Sequence[float], value: float) -> int:
    return int(np.abs(np.log(grid) - np.log(value)).argmin())


def _verdict(which: str, found: _Claims) -> str:
    """Where the path ends, by what is claimed and in truth; the lowest claim."""
    start, end = found.path.claim[[0, -1]]
    after = f"after {len(found.path.K) - 1} steps downhill"
    frame = f"(start: {_number(start)}; optimum: {_number(found.optimum)})"
    if which == "true":
        return f"{after} the cost is {_number(end)} {frame}."
    truth = _truth(found.path.truth)
    if np.isinf(found.least[0]):
        return f"no gain in view has a critic that could be a cost; {after} {truth}."
    who = {"critic": "the critic claims", "model": "the model claims"}
    says = who.get(which, "the data claim")
    claim = f"a cost of {_number(end)}" if np.isfinite(end) else "no finite cost"
    least, there = map(_number, found.least)
    return (
        f"{after} {says} {claim} {frame}; {truth}. "
        f"The lowest claim in view is {least}, where the true cost is {there}."
    )


def _truth(cost: Array) -> str:
    if np.isinf(cost[-1]):
        return f"in truth the gain is unstable from step {np.isinf(cost).argmax()} on"
    return f"in truth it is {_number(cost[-1])}"


def _number(cost: float) -> str:
    if np.isinf(cost):
        return "infinite"
    if cost < 0.005:
        return "less than 0.01"
    digits = 2 if cost < 99.995 else 1
    return f"{cost:,.{digits}f}"
