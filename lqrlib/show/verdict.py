"""The explorer of `book/verdict.md`: every expression × data, in three worlds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lqrlib._validate import Array
from lqrlib.diagnose import WITHIN
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.puzzle import quartiles
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, figure, percent

_LOW, _HIGH, _LOST = 3e-8, 30.0, 150.0  # the axis, and where "left" stands
_TIE = 1e-9  # of J*: less than this apart is rounding
FAMILY_COLOURS = {
    "weights": EXPRESSIONS["hack"].colour,
    "critic": EXPRESSIONS["dpg"].colour,
    "model": EXPRESSIONS["model"].colour,
    "fresh data": COLOURS["border"],
}
_CALL = (
    "studies.ending(studies.settings()[{world}], 'policy iteration', float({cov}), "
    "{size}, seed=0)"
)


class Verdicts(NamedTuple):
    """Where every expression ended, in worlds of one grid.

    Parameters
    ----------
    excess : dict of str to array, shape [methods, covariances, sizes, seeds]
        (J − J*)/J* of each world; inf where the path left the stable set.
    families : dict of str to sequence of str
        Names of the methods, in their order.
    covs, sizes : sequence of float
    """

    excess: Mapping[str, Array]
    families: Mapping[str, Sequence[str]]
    covs: Sequence[float]
    sizes: Sequence[float]

    @property
    def methods(self) -> tuple[str, ...]:
        """All names, in the order of the first axis."""
        return tuple(name for names in self.families.values() for name in names)


def verdict_explorer(found: Verdicts) -> Explorer:
    """World × covariance × number of real trajectories: where everything ends.

    Parameters
    ----------
    found : Verdicts

    Returns
    -------
    Explorer
        A live slider between two numbers of the study shows the nearer one.
    """
    fig, medians, bars = _rows(found)

    def update(world: str, cov: str, size: float) -> str:
        s = int(np.abs(np.log(found.sizes) - np.log(size)).argmin())
        c = [f"{value:g}" for value in found.covs].index(cov)
        low, middle, high = quartiles(found.excess[world][:, c, s])
        places = np.arange(len(found.methods), dtype=float)
        for family, line in medians.items():
            rows = _rows_of(found, family)
            line.set_data(_shown(middle[rows]), places[rows])
        for row, line in enumerate(bars):
            line.set_data(_shown(np.array([low[row], high[row]])), [row, row])
        where = f"{world}, σ² = {cov}, {found.sizes[s]:g} real trajectories: "
        return where + _words(found.methods, middle)

    covs = [f"{value:g}" for value in found.covs]
    sizes = tuple(found.sizes)
    return Explorer(
        "verdict",
        title="Choose a world, a covariance and how much real data there is",
        panels=[
            Panel(
                fig,
                "One row for each expression. Dots: median distance from the optimal "
                "cost, on a logarithmic axis; bars: from the lower to the upper "
                "quartile. On the line at the right: 30 or more. At the right "
                "edge: runs that left the stable gains.",
            )
        ],
        moving=[*bars, *medians.values()],
        update=update,
        controls=[
            Choice("world", "world", tuple(found.excess), next(iter(found.excess))),
            Choice("cov", "covariance σ²", covs, covs[0]),
            Slider(
                "size", "real trajectories", sizes, sizes[len(sizes) // 2], log=True
            ),
        ],
        call=_CALL,
    )


def _rows(found: Verdicts) -> tuple[Figure, dict[str, Line2D], list[Line2D]]:
    count = len(found.methods)
    fig, ax = figure(
        "(J − J*) / J*",
        "",
        size=(5.6, 5.0),
        xscale="log",
        xlim=(_LOW, 3 * _LOST),
        ylim=(count - 0.4, -0.6),
    )
    ax.set_yticks(range(count), list(found.methods))
    ticks = [1e-6, 1e-4, WITHIN, 1.0]
    ax.set_xticks(ticks, ["10⁻⁶", "10⁻⁴", ".01", "1"])
    ax.minorticks_off()
    ax.axvline(WITHIN, color=COLOURS["border"], ls="--", lw=1)
    ax.axvline(_HIGH, color=COLOURS["border"], lw=1)
    ax.text(_LOST, -0.7, "left", ha="center", va="bottom", fontsize=9)
    bars, medians = [], {}
    for family in found.families:
        colour, ones = FAMILY_COLOURS[family], np.ones(len(found.families[family]))
        for _ in ones:
            bars += ax.plot([1, 1], [1, 1], "-", color=colour, lw=2, alpha=0.5)
        (medians[family],) = ax.plot(ones, ones, "o", color=colour, ms=7)
    return fig, medians, bars


def _rows_of(found: Verdicts, family: str) -> slice:
    first = found.methods.index(found.families[family][0])
    return slice(first, first + len(found.families[family]))


def _shown(excess: Array) -> Array:
    """Inside the axis; at its right edge what is infinite."""
    return np.where(np.isinf(excess), _LOST, np.clip(excess, 1.5 * _LOW, _HIGH))


def _words(methods: Sequence[str], middle: Array) -> str:
    tied = np.flatnonzero(middle <= middle.min() + _TIE)
    best, good = tied[-1], int((middle < WITHIN).sum())  # the plan, of the model's two
    words = f"the median run of {methods[best]} ends nearest, "
    words += f"{percent(middle[best])} above J*; "
    words += f"{good} of {len(methods)} medians end within 1\N{NO-BREAK SPACE}%"
    lost = [
        name for name, value in zip(methods, middle, strict=True) if value == np.inf
    ]
    if lost:
        return f"{words}. The median run left with: {'; '.join(lost)}."
    return f"{words}, and no median left the stable gains."
