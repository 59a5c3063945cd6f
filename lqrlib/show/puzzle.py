"""The figures of `book/index.md`: the puzzle, and the plane to explore it on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike, NDArray

from lqrlib import exact
from lqrlib._validate import Array, Flags
from lqrlib.mbpo import MBPOSettings, sweep
from lqrlib.problem import LQR
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band

_LOWEST, _HIGHEST = 1e-4, 1e4
_LIVE_SEEDS = 10
# Half a step of a live slider, which need not stop exactly at a value of the map.
_SAME_LOG_COV, _SAME_RATIO = 0.035, 0.005
RING: dict[str, Any] = {"mfc": "none", "mec": COLOURS["gain"], "mew": 2.5}
_CALL = (
    "mbpo.mbpo(lqr, MBPOSettings(K0, {expression}, cov={cov}, "
    "real_ratio={real_ratio}), rng)"
)


class Region(NamedTuple):
    """A part of the plane, by where its runs end.

    Parameters
    ----------
    name : str
    upto : float
        Largest excess of the median run over J*, relative; nan for the region where a
        quarter of the runs or more leave the stable set.
    marker, colour : str
    size : float
    """

    name: str
    upto: float
    marker: str
    colour: str
    size: float

    def look(self) -> dict[str, Any]:
        """Properties of its markers."""
        shape = {"marker": self.marker, "color": self.colour, "ms": self.size}
        return shape | {"ls": "", "mec": "none"}


class Cell(NamedTuple):
    """A point of the plane, and what runs there.

    Parameters
    ----------
    cov, real_ratio : float
    expression : str
    """

    cov: float
    real_ratio: float
    expression: str


REGIONS = (
    Region("converges (within 1 %)", 0.01, "s", "#2f7fc1", 17.0),
    Region("stalls within 10 %", 0.1, "s", "#5595cb", 12.0),
    Region("stalls farther off", np.inf, "o", "#808080", 7.0),
    Region("leaves (a quarter or more)", np.nan, "X", "#d1405e", 10.0),
)


def excess(lqr: LQR, cost: Array) -> Array:
    """J − J*, brought to where a logarithmic axis can show it.

    Parameters
    ----------
    lqr : LQR
    cost : array, shape [...]
        inf where the gain is unstable.

    Returns
    -------
    array, shape [...]
        From 10⁻⁴ to 10⁴: infinity is a line that leaves through the top.
    """
    best = exact.cost(lqr, exact.optimal_gain(lqr))
    return np.clip(cost - best, _LOWEST, _HIGHEST)


def quartiles(values: Array) -> Array:
    """Lower quartile, median and upper quartile over the last axis.

    Of sorted runs, without interpolation: a mean of infinite and finite is neither.

    Parameters
    ----------
    values : array, shape [..., seeds]

    Returns
    -------
    array, shape [3, ...]
    """
    return np.quantile(values, [0.25, 0.5, 0.75], axis=-1, method="nearest")


def region(best: float, final: Array) -> Array:
    """Which of `REGIONS` the runs of a cell belong to.

    Parameters
    ----------
    best : float
        The least cost, J*.
    final : array, shape [..., seeds]
        Cost of the last gain; inf where the run left the stable set.

    Returns
    -------
    array of int, shape [...]
    """
    _, median, high = quartiles(final)
    bounds = [each.upto for each in REGIONS[:-1]]
    by_median = np.searchsorted(bounds, median / best - 1.0)
    return np.where(np.isinf(high), len(bounds), by_median)


def learning_figure(
    updates: int, *, size: tuple[float, float] = (4.7, 3.6)
) -> tuple[Figure, Axes]:
    """Empty axes for J − J* against updates.

    Parameters
    ----------
    updates : int
    size : tuple of float
        Width and height in inches.

    Returns
    -------
    figure, axes
    """
    return figure(
        "updates",
        "J − J*",
        size=size,
        yscale="log",
        xlim=(0, updates),
        ylim=(3e-4, 300.0),
    )


def learning_curve(
    ax: Axes,
    lqr: LQR,
    cost: Array,
    colour: str,
    *,
    updates: ArrayLike | None = None,
    **look: Any,
) -> tuple[Line2D, Polygon]:
    """Median of J − J* over runs, and the band between the quartiles.

    Parameters
    ----------
    ax : matplotlib Axes
    lqr : LQR
    cost : array, shape [P, seeds]
    colour : str
    updates : array of int, shape [P], optional
        After how many updates; 0, 1, … if not given.
    **look
        Properties of the median's line.

    Returns
    -------
    line, band
    """
    low, median, high = quartiles(excess(lqr, cost))
    steps = np.arange(len(cost)) if updates is None else updates
    shade = band(ax, steps, low, high, color=colour, alpha=0.2)
    (line,) = ax.plot(steps, median, color=colour, **look)
    return line, shade


class PhaseLoop(NamedTuple):
    """Where the runs of one kind of loop went, over the plane.

    Parameters
    ----------
    name : str
        What the reader sees.
    settings : mapping of str to MBPOSettings
        For each expression.
    updates : array of int, shape [P]
        Numbers of updates at which the costs were kept.
    cost : mapping of str to array, shape [P, C, R, seeds]
        For each expression; inf where a run has left the stable set.
    best : float
        The least cost that a gain can have in this loop's world.
    """

    name: str
    settings: Mapping[str, MBPOSettings]
    updates: NDArray[np.int64]
    cost: Mapping[str, Array]
    best: float

    def runs(
        self, lqr: LQR, grid: tuple[Sequence[float], Sequence[float]], at: Cell
    ) -> tuple[Array, str]:
        """Costs [P, seeds] of a cell, from the map where it has one, and their name.

        Parameters
        ----------
        lqr : LQR
        grid : tuple of sequences of float
            Covariances and ratios of the map.
        at : Cell

        Returns
        -------
        costs, name
        """
        place = cell(*grid, at.cov, at.real_ratio)
        if place is not None:
            return self.cost[at.expression][:, *place], "runs"
        axes = {"cov": [at.cov], "real_ratio": [at.real_ratio]}
        fresh = sweep(lqr, self.settings[at.expression], axes, range(_LIVE_SEEDS))
        cost = fresh.history.cost[self.updates][:, 0, 0]
        return cost, "fresh runs between the points of the map"


def puzzle_explorer(
    lqr: LQR, covs: Sequence[float], ratios: Sequence[float], loop: PhaseLoop
) -> Explorer:
    """Covariance × real_ratio × expression: learning curves, and the plane.

    Parameters
    ----------
    lqr : LQR
    covs, ratios : sequence of float
        The grid.
    loop : PhaseLoop
        With the hack among its expressions.

    Returns
    -------
    Explorer
        Opens at the hack on real data only.
    """
    names = [EXPRESSIONS[name].name for name in loop.cost]
    regions = {name: region(loop.best, cost[-1]) for name, cost in loop.cost.items()}
    curves, line, shade = _curves(lqr, loop)
    plane, over = plane_panel(covs, ratios)
    marks = region_marks(over, covs, ratios)
    (here,) = over.plot([covs[0]], [0], "s", ms=21, **RING)

    def update(cov: float, real_ratio: float, expression: str) -> str:
        at = Cell(cov, real_ratio, expression)
        cost, kind = loop.runs(lqr, (covs, ratios), at)
        low, median, high = quartiles(excess(lqr, cost))
        line.set_data(loop.updates, median)
        set_band(shade, loop.updates, low, high)
        for number, mark in enumerate(marks):
            mark.set_data(*places(regions[expression] == number, covs))
        here.set_data([cov], [np.interp(real_ratio, ratios, range(len(ratios)))])
        return verdict(loop.best, expression, cost, int(loop.updates[-1]), kind)

    return Explorer(
        "puzzle",
        title="Covariance, real_ratio, expression",
        panels=[
            Panel(curves, "J minus J* against updates for the chosen cell."),
            Panel(plane, "The plane of covariance and real_ratio, marked by region."),
        ],
        moving=[line, shade, *marks, here],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", covs, covs[len(covs) // 2 + 1], log=True),
            Slider("real_ratio", "real_ratio", ratios, ratios[-1]),
            Choice("expression", "expression", tuple(loop.cost), "hack", names),
        ],
        call=_CALL,
        slow=True,
    )


def _curves(lqr: LQR, loop: PhaseLoop) -> tuple[Figure, Line2D, Polygon]:
    fig, ax = learning_figure(int(loop.updates[-1]))
    ax.axhline(0.01 * loop.best, color=COLOURS["border"], ls="--", lw=1)
    ax.text(0.6, 0.011 * loop.best, "1 % above J*", va="bottom", fontsize=9)
    cost, colour = loop.cost["hack"][:, 0, 0], COLOURS["gain"]
    return fig, *learning_curve(ax, lqr, cost, colour, updates=loop.updates)


def plane_panel(covs: Sequence[float], ratios: Sequence[float]) -> tuple[Figure, Axes]:
    """The empty plane, with a key of its regions.

    Parameters
    ----------
    covs, ratios : sequence of float

    Returns
    -------
    figure, axes
    """
    fig, ax = figure(
        "covariance σ²",
        "real_ratio",
        size=(4.7, 3.9),
        xscale="log",
        xlim=_limits(covs),
        ylim=(-0.6, len(ratios) - 0.4),
    )
    ax.set_yticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    for each in REGIONS:
        look = each.look() | {"ms": 0.6 * each.size, "label": each.name}
        ax.plot([], [], **look)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.12, 1.0),
        ncols=2,
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
        columnspacing=0.8,
    )
    return fig, ax


def region_marks(
    ax: Axes, covs: Sequence[float], ratios: Sequence[float]
) -> list[Line2D]:
    """One set of markers a region, a marker for every cell, all of them drawn.

    Parameters
    ----------
    ax : matplotlib Axes
    covs, ratios : sequence of float

    Returns
    -------
    list of Line2D
    """
    everywhere = places(np.ones((len(covs), len(ratios)), dtype=bool), covs)
    marks = []
    for each in REGIONS:
        marks += ax.plot(*everywhere, **each.look())
    return marks


def places(belongs: Flags, covs: Sequence[float]) -> tuple[Array, Array]:
    """Cells that belong at their place, the others behind the left edge of the axes.

    Parameters
    ----------
    belongs : array of bool, shape [C, R]
    covs : sequence of float

    Returns
    -------
    x, y : array, shape [C R]
    """
    rows = np.broadcast_to(np.arange(belongs.shape[1]), belongs.shape)
    low, high = _limits(covs)
    behind = low * (low / high) ** 0.08  # in the margin: what is off the figure is lost
    x = np.where(belongs, np.asarray(covs)[:, None], behind)
    return x.ravel(), rows.ravel().astype(float)


def _limits(covs: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis: six tenths of a cell beyond the first and the last one."""
    edge = (covs[-1] / covs[0]) ** (0.6 / (len(covs) - 1))
    return covs[0] / edge, covs[-1] * edge


def cell(
    covs: Sequence[float], ratios: Sequence[float], cov: float, real_ratio: float
) -> tuple[int, int] | None:
    """Place of a cell of the map, up to a live slider's step; None between them.

    Parameters
    ----------
    covs, ratios : sequence of float
    cov, real_ratio : float

    Returns
    -------
    tuple of int, or None
    """
    row = _near(np.log(covs), np.log(cov), _SAME_LOG_COV)
    column = _near(ratios, real_ratio, _SAME_RATIO)
    return None if row is None or column is None else (row, column)


def _near(grid: ArrayLike, value: float, same: float) -> int | None:
    """Place of the grid's value that is the same up to a live slider's step."""
    distance = np.abs(np.asarray(grid) - value)
    return int(distance.argmin()) if distance.min() <= same else None


def verdict(best: float, expression: str, cost: Array, updates: int, kind: str) -> str:
    """Where the runs of a cell ended, in words.

    Parameters
    ----------
    best : float
        The least cost, J*.
    expression : str
    cost : array, shape [..., seeds]
        The last row is that of the last gains.
    updates : int
    kind : str
        What to call the runs.

    Returns
    -------
    str
    """
    median = float(quartiles(cost[-1])[1])
    lost = int(np.isinf(cost[-1]).sum())
    where = REGIONS[int(region(best, cost[-1]))].name
    end = (
        "none" if np.isinf(median) else f"{_percent(median / best - 1)} above the best"
    )
    aside = " It uses no batch: real_ratio changes nothing." * (expression == "model")
    return (
        f"{EXPRESSIONS[expression].name.capitalize()}, {updates} updates, "
        f"{cost.shape[-1]} {kind}. Median: {end}. Left the stable set: {lost}. "
        f"Region: {where}.{aside}"
    )


def _percent(share: float) -> str:
    digits = ".0f" if share >= 0.095 else ".2g"
    return f"{100 * share:{digits}} %"
