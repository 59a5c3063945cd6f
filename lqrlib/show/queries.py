"""The explorer of `book/finite_horizon.md`: what queries of policies can do."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, finite_horizon, rates
from lqrlib._validate import Array
from lqrlib.descent import Gradient, descend, descend_stages
from lqrlib.gradients import GradientEstimate, zeroth_order, zeroth_order_stages
from lqrlib.history import History
from lqrlib.problem import LQR
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.puzzle import quartiles
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, band, figure, set_band

POINTS = {"one": "one point", "two": "two points, same noise"}
GAINS = {"constant": "one gain for ever", "stages": "a gain for each stage"}
_HORIZON, _STAGES = 60, 10
# A share of the step limit, and a step for stages: the exact gradient of the double
# integrator is within 1 % of J* after 10 and after 14 updates.
_SHARE, _STAGE_STEP = 0.15, 0.5
_LOW, _HIGH = 0.02, 2e4  # % of J*
_ERRORS = 1e-2, 1e4
_CALL = (
    "show.query_gradient(lqr, K0, points={points}, gains={gains}, radius={radius}, "
    "m={m}, rng=np.random.default_rng(0))"
)


class QueryStudy(NamedTuple):
    """Errors of estimates at K₀, and descents along them, over a grid.

    The leading axes are points, gains, radii and counts, in this order.

    Parameters
    ----------
    radii : tuple of float
    counts : tuple of int
        m, trajectories for each gain that is perturbed.
    error : array, shape [2, 2, R, M, seeds]
        ‖ĝ − g‖/‖g‖ at K₀; inf where a trajectory left the floats.
    excess : array, shape [2, 2, R, M, updates + 1, runs]
        J − J*, of the problem without an end or of the one with stages.
    exact : array, shape [2, updates + 1]
        J − J* along the exact gradient with the same steps, for each kind of gains.
    optimum : array, shape [2]
        J* for each kind of gains.
    """

    radii: tuple[float, ...]
    counts: tuple[int, ...]
    error: Array
    excess: Array
    exact: Array
    optimum: Array


class _Kind(NamedTuple):
    """One kind of gains: its start and the slope there, J*, a step, how to descend."""

    start: Array
    slope: Array
    best: float
    step: float
    descend: Callable[..., History]
    gradient: Gradient


def query_gradient(
    lqr: LQR,
    K: ArrayLike,
    *,
    points: str,
    gains: str,
    radius: float,
    m: float,
    rng: np.random.Generator,
) -> GradientEstimate:
    """One estimate of a state of the explorer: `zeroth_order`, or that of stages.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n], or [..., T, m, n] for stages
        One gain may stand for ten stages.
    points : str
        "one" or "two".
    gains : str
        "constant": 60 steps with one gain; "stages": ten stages.
    radius : float
    m : float
        Trajectories for each gain that is perturbed, rounded to an even number.
    rng : numpy.random.Generator

    Returns
    -------
    GradientEstimate

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or there is no such choice.
    """
    _among("points", points, POINTS)
    _among("gains", gains, GAINS)
    options: dict[str, Any] = {
        "radius": radius,
        "n_trajectories": 2 * max(round(m / 2), 1),
        "rng": rng,
        "two_point": points == "two",
    }
    if gains == "constant":
        return zeroth_order(lqr, K, horizon=_HORIZON, **options)
    return zeroth_order_stages(lqr, _staged(lqr, K), **options)


def query_study(
    lqr: LQR,
    K0: ArrayLike,
    *,
    radii: Sequence[float],
    counts: Sequence[int],
    updates: int = 30,
    seeds: int = 20,
    runs: int = 20,
    seed: int = 0,
    executor: Executor | None = None,
) -> QueryStudy:
    """Estimate at K₀, and descend from it, for each point of a grid.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world in which K₀ is stable.
    K0 : array, shape [m, n]
    radii : sequence of float
    counts : sequence of int
    updates : int
        Length of each descent.
    seeds, runs : int
        Estimates and descents for each point.
    seed : int
        Points with the same m share their directions, starts and noise.
    executor : concurrent.futures.Executor, optional
        Does the points in parallel; the numbers do not depend on it.

    Returns
    -------
    QueryStudy

    Raises
    ------
    ValueError
        If K0 has a wrong shape or entry.
    """
    first = lqr.gain(K0)
    grid = list(itertools.product(POINTS, GAINS, radii, counts))
    mapped = map if executor is None else executor.map
    cells = [(lqr, first, *point, seed, updates, seeds, runs) for point in grid]
    found = list(mapped(_cell, cells))
    shape = len(POINTS), len(GAINS), len(radii), len(counts)
    error, excess = (np.array(part) for part in zip(*found, strict=True))
    return QueryStudy(
        tuple(radii),
        tuple(counts),
        error.reshape(*shape, *error.shape[1:]),
        excess.reshape(*shape, *excess.shape[1:]),
        np.stack([_exact_descent(lqr, first, gains, updates) for gains in GAINS]),
        np.array([_kind(lqr, first, gains).best for gains in GAINS]),
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
    errors, shade, line, here = _error_panel(radii)
    descents, fall_shade, fall, known = _descent_panel(study.excess.shape[-2] - 1)

    def update(radius: float, m: float, points: str, gains: str) -> str:
        r, c = _nearest(radii, radius), _nearest(counts, m)
        which = [*POINTS].index(points), [*GAINS].index(gains)
        low, median, high = quartiles(study.error[(*which, slice(None), c)])
        line.set_data(radii, median)
        set_band(shade, radii, low, high)
        here.set_data([radii[r]], [min(median[r], _ERRORS[1])])
        best = study.optimum[which[1]]
        with np.errstate(over="ignore"):
            excess = 100.0 * study.excess[(*which, r, c)] / best
        low, middle, high = np.clip(quartiles(excess), _LOW / 10, 10 * _HIGH)
        steps = np.arange(len(excess))
        fall.set_data(steps, middle)
        set_band(fall_shade, steps, low, high)
        known.set_data(steps, 100.0 * study.exact[which[1]] / best)
        asked = counts[c] * (1 if gains == "constant" else _STAGES)
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
        moving=[shade, line, here, fall_shade, fall, known],
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


def _among(name: str, value: str, choices: dict[str, str]) -> None:
    if value not in choices:
        raise _validate.error(name, " or ".join(choices), repr(value))


def _staged(lqr: LQR, K: ArrayLike) -> Array:
    """Stage gains as they are; one gain at every stage."""
    gains = lqr.gain(K)
    return gains if gains.ndim > 2 else finite_horizon.constant(lqr, gains, _STAGES)


def _kind(lqr: LQR, first: Array, gains: str) -> _Kind:
    if gains == "constant":
        staged = finite_horizon.constant(lqr, first, _HORIZON)
        return _Kind(
            first,
            finite_horizon.gradient(lqr, staged).sum(axis=0),
            float(exact.cost(lqr, exact.optimal_gain(lqr))),
            _SHARE * rates.step_limit(lqr, "gradient"),
            descend,
            lambda K: exact.gradient(lqr, K),
        )
    start, best = _staged(lqr, first), finite_horizon.optimal_gains(lqr, _STAGES)
    return _Kind(
        start,
        finite_horizon.gradient(lqr, start),
        float(finite_horizon.cost(lqr, best)),
        _STAGE_STEP,
        descend_stages,
        lambda K: finite_horizon.gradient(lqr, K),
    )


def _cell(arguments: tuple[Any, ...]) -> tuple[Array, Array]:
    """Errors and excess costs at one point of the grid."""
    lqr, first, points, gains, radius, m, seed, updates, seeds, runs = arguments
    # Not by the radius: what does not depend on it then does not move with it.
    rng, kind = np.random.default_rng([seed, m]), _kind(lqr, first, gains)

    def estimate(K: Array) -> GradientEstimate:
        return query_gradient(
            lqr, K, points=points, gains=gains, radius=radius, m=m, rng=rng
        )

    found = estimate(np.broadcast_to(kind.start, (seeds, *kind.start.shape)))
    off = (found.gradient - kind.slope).reshape(seeds, -1)
    error = np.linalg.norm(off, axis=1) / np.linalg.norm(kind.slope)
    many = np.broadcast_to(kind.start, (runs, *kind.start.shape))
    error = np.where(np.isnan(error), np.inf, error)
    return error, _excess(lqr, kind, many, estimate, updates)


def _excess(lqr: LQR, kind: _Kind, K: Array, gradient: Gradient, updates: int) -> Array:
    """J − J* along a descent."""
    return kind.descend(lqr, K, gradient, kind.step, updates=updates).cost - kind.best


def _exact_descent(lqr: LQR, first: Array, gains: str, updates: int) -> Array:
    kind = _kind(lqr, first, gains)
    return _excess(lqr, kind, kind.start, kind.gradient, updates)


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
