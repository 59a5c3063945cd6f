"""The explorer of `book/gaussian_hack.md`: where the hack goes on fixed data."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, weights
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.geometry import Movable
from lqrlib.show.hack_study import DATA, HackStudy
from lqrlib.show.landscape import landscape
from lqrlib.show.outlines import rays, room
from lqrlib.show.puzzle import quartiles
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band

_SHOWN = 5  # paths; the first one is the thick one
_RAYS = rays(48)
_LOW, _HIGH = 6e-4, 10.0
_NOTHING = 1e-9  # not 0: a polygon whose ends coincide has a point less
_RED = EXPRESSIONS["hack"].colour
_CALL = (
    "show.hack_path(lqr, K0, cov={cov}, n_trajectories={n_trajectories}, "
    "data={data}, seed=0)"
)


class _Part(NamedTuple):
    """A panel: its figure, what moves in it, and what moves it to a point."""

    figure: Figure
    moving: tuple[Movable, ...]
    move: Callable[[int, int, int], None]


def hack_explorer(lqr: LQR, K0: ArrayLike, study: HackStudy) -> Explorer:
    """Covariance × trajectories × data: paths of the hack, and its effective data.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world with one action and two states.
    K0 : array, shape [m, n]
        The gain of the study.
    study : HackStudy

    Returns
    -------
    Explorer
        Opens at σ² = 1 and N = 1000, or the nearest point of the study. A live slider
        between two points of the study shows the nearer one.

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix, K0 is not the study's, or the
        study has a single run.
    """
    if (lqr.m, lqr.n) != (1, 2):
        raise _validate.error("lqr", "gains of shape (1, 2)", (lqr.m, lqr.n))
    first = _validate.stack("K0", K0, (1, 2))
    paths, covs, counts = study.paths, study.covs, study.counts
    if not np.array_equal(paths.K[0, 0, 0, 0, 0], first):
        raise _validate.error("K0", "the first gain of the study", K0)
    if paths.cost.shape[-1] < 2:
        raise _validate.error("study", "at least two runs", "one")
    plane, shares = _plane(lqr, first, study), _shares(study)

    def update(cov: float, n_trajectories: float, data: str) -> str:
        c, n = _nearest(covs, cov), _nearest(counts, n_trajectories)
        at = [*DATA].index(data), c, n
        plane.move(*at)
        shares.move(*at)
        above = paths.cost[at] / study.optimum - 1
        title = f"σ² = {covs[c]:g}, N = {counts[n]:,}, {data} data: "
        return title + _verdict(above, paths.effective_sample_size[at], counts[n])

    cov, count = covs[_nearest(covs, 1)], counts[_nearest(counts, 1000)]
    return Explorer(
        "hack",
        title="Choose a covariance, a number of trajectories, and the data",
        panels=[
            Panel(
                plane.figure,
                "Paths of gains from K0 over the contours of the true cost, and the "
                "region around K0 in which weights have a second moment.",
            ),
            Panel(
                shares.figure,
                "Effective sample size as a share of N, and excess cost as a share of "
                "the optimal one, along the paths.",
            ),
        ],
        moving=[*plane.moving, *shares.moving],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", covs, cov, log=True),
            Slider("n_trajectories", "trajectories N", counts, count, log=True),
            Choice("data", "data", tuple(DATA), "Gaussian", tuple(DATA.values())),
        ],
        call=_CALL,
    )


def _plane(lqr: LQR, first: Array, study: HackStudy) -> _Part:
    """The landscape with a few paths on it, and the region with a second moment."""
    paths = study.paths.K[..., :_SHOWN, 0, :]
    fig, ax = _view(lqr, paths)
    region = Polygon(
        first + _RAYS, fill=False, ec="black", lw=1.2, ls="--", label="second moment"
    )
    ax.add_patch(region)
    (others,) = ax.plot([], [], color=_RED, lw=0.9, alpha=0.6)
    (path,) = ax.plot([], [], color=_RED, lw=2.2)
    (ended,) = ax.plot([], [], "o", ms=6, color=_RED, mec="white", label="end")
    (lost,) = ax.plot([], [], "X", ms=8, color="black", mec="white", label="unstable")
    ax.plot(*first[0], "s", ms=6, color="black", mec="white")
    ax.annotate("K₀", first[0], (6, 5), textcoords="offset points")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    reach, behind = _reach(lqr, first, study, ax), _behind(ax)

    def move(data: int, c: int, n: int) -> None:
        at = data, c, n
        region.set_xy(first + reach[data, c][:, None] * _RAYS)
        path.set_data(*paths[at][:, 0].T)
        others.set_data(*_apart(paths[at][::-2, 1:]).T)
        left = np.isinf(study.paths.cost[at][-1, :_SHOWN, None])
        ended.set_data(*np.where(left, behind, paths[at][-1]).T)
        lost.set_data(*np.where(left, paths[at][-1], behind).T)

    return _Part(fig, (region, others, path, ended, lost), move)


def _shares(study: HackStudy) -> _Part:
    """Effective sample size and excess cost, each relative to what it could be."""
    updates = study.settings.updates
    fig, ax = figure("updates", "share", size=(4.7, 3.9), yscale="log")
    ax.set(xlim=(0, updates), ylim=(_LOW, _HIGH))
    steps, ones = np.arange(updates + 1.0), np.ones(updates + 1)
    shade = band(ax, steps, ones, ones, color=COLOURS["gain"], alpha=0.2)
    (size,) = ax.plot(steps, ones, "--", color=COLOURS["gain"], label="ESS / N")
    (excess,) = ax.plot(steps, ones, color=COLOURS["cost"], label="(J − J*) / J*")
    (one,) = ax.plot([], [], ":", color=COLOURS["border"], label="1 / N")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)

    def move(data: int, c: int, n: int) -> None:
        at, N = (data, c, n), study.counts[n]
        low, middle, high = quartiles(study.paths.effective_sample_size[at] / N)
        set_band(shade, steps, low * (1 - _NOTHING), high)
        size.set_data(steps, middle)
        excess.set_data(steps, quartiles(study.paths.cost[at])[1] / study.optimum - 1)
        one.set_data([0, updates], [1 / N, 1 / N])

    return _Part(fig, (shade, size, excess, one), move)


def _view(lqr: LQR, paths: Array) -> tuple[Figure, Axes]:
    """The landscape as far as the paths lead."""
    gains = np.concatenate([paths.reshape(-1, 2), exact.optimal_gain(lqr)])
    low, high = gains.min(axis=0), gains.max(axis=0)
    margin = 0.06 * (high - low)
    xlim, ylim = zip(low - margin, high + margin, strict=True)
    return landscape(lqr, xlim, ylim)


def _reach(lqr: LQR, first: Array, study: HackStudy, ax: Axes) -> Array:
    """How far the region reaches along each ray, [data, covariances, rays].

    No farther than an artist may be out of view; nowhere for deterministic data.
    """
    farthest = room(first, _RAYS, ax.get_xlim(), ax.get_ylim())
    covs = np.reshape(study.covs, (-1, 1, 1, 1))
    T, ways = study.settings.horizon, _RAYS[:, None, :]
    reach = np.minimum(weights.breakdown(lqr, first, ways, covs, T), farthest)
    return np.stack([reach, np.full(reach.shape, _NOTHING)])


def _apart(paths: Array) -> Array:
    """Paths [steps, runs, 2] one after the other, with gaps between them."""
    gaps = np.pad(paths, ((0, 1), (0, 0), (0, 0)), constant_values=np.nan)
    return gaps.swapaxes(0, 1).reshape(-1, 2)


def _behind(ax: Axes) -> Array:
    """In the margin, where nothing shows: what is off the figure is lost."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    return np.array([left - 0.02 * (right - left), 0.5 * (low + high)])


def _nearest(grid: Sequence[float], value: float) -> int:
    return int(np.abs(np.log(grid) - np.log(value)).argmin())


def _verdict(above: Array, sizes: Array, N: int) -> str:
    """What the runs came to; above: (J − J*)/J*, [updates + 1, runs]."""
    updates, runs = len(above) - 1, above.shape[1]
    low, middle, high = (_percent(share) for share in quartiles(above[-1]))
    lost = int(np.isinf(above[-1]).sum())
    return (
        f"after {updates} updates the median of J − J* is {middle} of J* "
        f"(start: {_percent(above[0, 0])}; quartiles: {low} and {high}); {lost} of "
        f"{runs} runs left the stable set. The median effective sample size "
        f"{_fall(quartiles(sizes)[1], N)}."
    )


def _fall(size: Array, N: int) -> str:
    """How the effective sample size goes down, and where it ends."""
    few = size < N / 10
    if few[0]:
        how = "is below a tenth of N from the start"
    elif few.any():
        how = f"falls below a tenth of N at update {few.argmax()}"
    else:
        how = "stays above a tenth of N"
    digits = ".2g" if size[-1] < 99.5 else ",.0f"
    return f"{how} and ends at {size[-1]:{digits}} of {N:,}"


def _percent(share: float) -> str:
    if np.isinf(share):
        return "infinite"
    percent = 100 * share
    digits = ".2g" if percent < 99.5 else ",.0f"
    return f"{percent:{digits}}\N{NO-BREAK SPACE}%"
