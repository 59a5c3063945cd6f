"""The explorer of `book/finite_horizon.md`: what queries of policies can do."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from lqrlib._validate import Array
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.puzzle import quartiles
from lqrlib.show.query_study import GAINS, POINTS, STAGES, QueryStudy
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, band, figure, set_band

_LOW, _HIGH = 0.02, 2e4  # % of J*
_ERRORS = 1e-2, 1e4
_CALL = (
    "show.query_gradient(lqr, K0, points={points}, gains={gains}, radius={radius}, "
    "m={m}, rng=np.random.default_rng(0))"
)


def query_explorer(study: QueryStudy) -> Explorer:
    """Radius × trajectories × points × gains: the error, and the descent it gives.

    Parameters
    ----------
    study : QueryStudy

    Returns
    -------
    Explorer
        Opens at one point and one gain, where the error is larger than the gradient. A
        live slider between two points of the study shows the nearer one.
    """
    radii, counts = study.radii, study.counts
    errors, shade, line, marker = _error_panel(radii)
    descents, descent_shade, descent, exact_descent = _descent_panel(
        study.excess.shape[-2] - 1
    )

    def update(radius: float, m: float, points: str, gains: str) -> str:
        r, c = _nearest(radii, radius), _nearest(counts, m)
        which = [*POINTS].index(points), [*GAINS].index(gains)
        low, median, high = quartiles(study.error[(*which, slice(None), c)])
        line.set_data(radii, median)
        set_band(shade, radii, low, high)
        marker.set_data([radii[r]], [min(median[r], _ERRORS[1])])
        best = study.optimum[which[1]]
        with np.errstate(over="ignore"):
            excess = 100.0 * study.excess[(*which, r, c)] / best
        low, middle, high = np.clip(quartiles(excess), _LOW / 10, 10 * _HIGH)
        steps = np.arange(len(excess))
        descent.set_data(steps, middle)
        set_band(descent_shade, steps, low, high)
        exact_descent.set_data(steps, 100.0 * study.exact[which[1]] / best)
        asked = counts[c] * (1 if gains == "constant" else STAGES)
        title = f"{_title(points)}, {GAINS[gains]}, r = {radii[r]:g}: "
        return title + _verdict(median[r], excess, asked)

    return Explorer(
        "queries",
        title="Ask policies what they cost",
        panels=[
            Panel(
                errors, "Relative error of the estimate at the start against radius."
            ),
            Panel(descents, "Excess cost against updates, and the exact gradient's."),
        ],
        moving=[shade, line, marker, descent_shade, descent, exact_descent],
        update=update,
        controls=[
            Slider("radius", "radius r", radii, radii[_nearest(radii, 0.1)], log=True),
            Slider(
                "m", "trajectories m", counts, counts[_nearest(counts, 200)], log=True
            ),
            Choice("points", "asked at", tuple(POINTS), "one", tuple(POINTS.values())),
            Choice("gains", "policy", tuple(GAINS), "constant", tuple(GAINS.values())),
        ],
        call=_CALL,
    )


def _error_panel(
    radii: Sequence[float],
) -> tuple[Figure, Polygon, Line2D, Line2D]:
    fig, ax = figure(
        "radius r",
        "relative error of the estimate",
        xscale="log",
        yscale="log",
        xlim=(radii[0] / 1.3, radii[-1] * 1.3),
        ylim=_ERRORS,
    )
    ax.axhline(1, color=COLOURS["border"], ls=":", lw=1)
    ax.text(
        radii[-1], 0.9, "as large as the gradient", va="top", ha="right", fontsize=9
    )
    shade, line = _curve(ax, np.asarray(radii))
    (here,) = ax.plot([], [], "o", ms=9, color=COLOURS["gain"], mec="white")
    return fig, shade, line, here


def _descent_panel(updates: int) -> tuple[Figure, Polygon, Line2D, Line2D]:
    fig, ax = figure(
        "updates",
        "(J − J*) / J*, %",
        yscale="log",
        xlim=(0, updates),
        ylim=(_LOW, _HIGH),
    )
    ax.axhline(1, color=COLOURS["border"], ls=":", lw=1)
    steps = np.arange(updates + 1.0)
    shade, line = _curve(ax, steps)
    line.set_label("estimate")
    (known,) = ax.plot(steps, steps + 1.0, "--", color="black", label="exact gradient")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return fig, shade, line, known


def _curve(ax: Axes, x: Array) -> tuple[Polygon, Line2D]:
    ones, colour = np.ones(len(x)), COLOURS["gain"]
    shade = band(ax, x, ones, ones, color=colour, alpha=0.22)
    return shade, ax.plot(x, ones, color=colour)[0]


def _nearest(grid: Sequence[float], value: float) -> int:
    return int(np.abs(np.log(grid) - np.log(value)).argmin())


def _title(points: str) -> str:
    return POINTS[points].split(",")[0].capitalize()


def _verdict(error: float, excess: Array, asked: int) -> str:
    """What the estimate and its descents came to, with excess costs in % of J*."""
    updates, start, final = len(excess) - 1, excess[0, 0], excess[-1]
    lost = int(np.isinf(final).sum())
    worse = int((final > start).sum()) - lost
    count = f"{len(final)} runs"
    fate = f"{lost} of {count} lost, {worse} end above their start."
    if lost == len(final):
        fate = f"All {count} lost."
    return (
        f"relative error {_short(error)}. {asked:,} trajectories a step, "
        f"{asked * updates:,} in {updates} updates. Median end: "
        f"{_above(float(quartiles(final)[1]))} (start: {_above(start)}). {fate}"
    )


def _above(percent: float) -> str:
    if np.isinf(percent):
        return "infinite"
    return f"{_short(percent)}\N{NO-BREAK SPACE}% above J*"


def _short(value: float) -> str:
    if value < 100.0:
        return f"{value:.2g}"
    return "infinite" if np.isinf(value) else "over 100"
