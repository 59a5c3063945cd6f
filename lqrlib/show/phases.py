"""The explorers of `book/real_ratio.md`: the plane of covariance and real_ratio."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lqrlib.problem import LQR
from lqrlib.show import puzzle
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.puzzle import PhaseLoop, quartiles
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band

_LOWEST, _HIGHEST = 1e-5, 1e3  # of J above the best, as a share
_CALL = (
    "mbpo.mbpo(lqr, replace(settings[{loop}, {expression}], cov={cov}, "
    "real_ratio={real_ratio}), rng)"
)


def phase_explorer(
    lqr: LQR,
    covs: Sequence[float],
    ratios: Sequence[float],
    loops: Mapping[str, PhaseLoop],
    *,
    name: str,
    title: str,
    start: Mapping[str, float | str],
) -> Explorer:
    """Covariance × real_ratio × expression × loop: learning curves, and the plane.

    Parameters
    ----------
    lqr : LQR
        As the learner sees it.
    covs, ratios : sequence of float
        The grid.
    loops : mapping of str to PhaseLoop
        All over that grid.
    name, title : str
        As for `Explorer`.
    start : mapping
        The state that it opens in: cov, real_ratio, expression, loop.

    Returns
    -------
    Explorer
    """
    expressions = tuple(next(iter(loops.values())).cost)
    regions = {
        (each, of): puzzle.region(loop.best, loop.cost[of][-1])
        for each, loop in loops.items()
        for of in expressions
    }
    fig, ax = _learning(max(loop.updates[-1] for loop in loops.values()))
    points = np.ones(len(next(iter(loops.values())).updates))
    (line,) = ax.plot(points, points, color=COLOURS["gain"])
    shade = band(ax, points, points, points, color=COLOURS["gain"], alpha=0.2)
    plane, over = puzzle.plane_panel(covs, ratios)
    marks = puzzle.region_marks(over, covs, ratios)
    here = _ring(over, covs[0])

    def update(cov: float, real_ratio: float, expression: str, loop: str) -> str:
        chosen = loops[loop]
        at = puzzle.Cell(cov, real_ratio, expression)
        cost, kind = chosen.runs(lqr, (covs, ratios), at)
        best, updates = chosen.best, chosen.updates
        low, median, high = quartiles(np.clip(cost / best - 1.0, _LOWEST, _HIGHEST))
        line.set_data(updates, median)
        set_band(shade, updates, low, high)
        for number, mark in enumerate(marks):
            mark.set_data(*puzzle.places(regions[loop, expression] == number, covs))
        here.set_data([cov], [np.interp(real_ratio, ratios, range(len(ratios)))])
        words = puzzle.verdict(best, expression, cost, int(updates[-1]), kind)
        return f"{chosen.name.capitalize()}. {words}"

    return Explorer(
        name,
        title=title,
        panels=[
            Panel(fig, "J above the best cost against updates for the chosen cell."),
            Panel(plane, "The plane of covariance and real_ratio, marked by region."),
        ],
        moving=[line, shade, *marks, here],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", covs, float(start["cov"]), log=True),
            Slider("real_ratio", "real_ratio", ratios, float(start["real_ratio"])),
            Choice(
                "expression",
                "expression",
                expressions,
                str(start["expression"]),
                [EXPRESSIONS[of].name for of in expressions],
            ),
            Choice(
                "loop",
                "loop",
                tuple(loops),
                str(start["loop"]),
                [loop.name for loop in loops.values()],
            ),
        ],
        call=_CALL,
        slow=True,
    )


def thinned(loop: PhaseLoop, every: int) -> PhaseLoop:
    """The same over each ``every``-th covariance and ratio.

    Parameters
    ----------
    loop : PhaseLoop
    every : int

    Returns
    -------
    PhaseLoop
    """
    cost = {of: runs[:, ::every, ::every] for of, runs in loop.cost.items()}
    return loop._replace(cost=cost)


def _learning(updates: int) -> tuple[Figure, Axes]:
    fig, ax = figure(
        "updates",
        "J above the best, share",
        size=(4.7, 3.6),
        yscale="log",
        xlim=(0, updates),
        ylim=(1e-4, 10.0),
    )
    ax.axhline(0.01, color=COLOURS["border"], ls="--", lw=1)
    ax.text(0.01 * updates, 0.011, "1 %", va="bottom", fontsize=9)
    return fig, ax


def _ring(ax: Axes, cov: float) -> Line2D:
    (here,) = ax.plot([cov], [0], "s", ms=21, **puzzle.RING)
    return here
