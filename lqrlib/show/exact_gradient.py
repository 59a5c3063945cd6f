"""The explorer of `book/exact_gradient.md`: a method, its step size, and its path."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, rates
from lqrlib._validate import Array
from lqrlib.descent import descend
from lqrlib.problem import LQR
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.landscape import landscape
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, figure

_NAMES = ("gradient", "natural gradient", "Gauss–Newton")  # of `rates.METHODS`
_SHARES = np.round(np.linspace(0.05, 1.25, 25), 2).tolist()
_LOWEST, _HIGHEST = 1e-13, 300.0  # of J − J* on the axis; rounding ends below
# Relative to J*: where a path has arrived, is near K*, and is lost in rounding.
_ARRIVED, _NEAR, _ROUNDING = 1e-6, 1e-2, 1e-11
_NO_RATE = 1e-6  # a predicted factor below it: faster than any fixed one
_CALL = (
    "descent.descend(lqr, K0, rates.direction(lqr, {{method}}), "
    "{{step}} * rates.step_limit(lqr, {{method}}), updates={updates})"
)


def method_explorer(lqr: LQR, K0: ArrayLike, *, updates: int = 40) -> Explorer:
    """Method × step size: the path over the landscape, and J − J* in each step.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world with one action and two states.
    K0 : array, shape [m, n]
        The first gain.
    updates : int
        Steps of each path.

    Returns
    -------
    Explorer
        Opens at the gradient with half of the largest step that K* attracts with.

    Raises
    ------
    ValueError
        If a gain of this world is not a 1 × 2 matrix, or K0 is not one stable gain.
    """
    first = lqr.gain(K0)
    if first.ndim > 2 or not exact.is_stable(lqr, first):
        raise _validate.error("K0", "one stable gain", K0)
    best = float(exact.cost(lqr, exact.optimal_gain(lqr)))
    limits = {method: rates.step_limit(lqr, method) for method in rates.METHODS}
    plane, over = landscape(lqr, (-5, 1.5), (-9.5, 2))
    track = _with_markers(over)
    over.plot(*first[0], "o", ms=9, color=COLOURS["gain"], mec="white")
    over.annotate("K₀", first[0], (-22, 3), textcoords="offset points")
    curves, fall, forecast = _curves(best, updates)

    def update(method: str, step: float) -> str:
        eta = step * limits[method]
        rate = float(rates.local_rate(lqr, method, eta))
        path = descend(lqr, first, rates.direction(lqr, method), eta, updates=updates)
        excess = np.maximum(path.cost - best, _LOWEST)
        for artist in track:
            artist.set_data(*_in_reach(path.K[:, 0], path.cost, over).T)
        for artist in fall:
            artist.set_data(np.arange(updates + 1), excess)
        forecast.set_data(*_forecast(excess, best, rate))
        full = " (policy iteration)" * (
            method == "gauss_newton" and abs(eta - 1) < 1e-9
        )
        words = f"{_NAMES[rates.METHODS.index(method)]}, η = {eta:.3g}{full}: "
        return words[0].upper() + words[1:] + _verdict(excess / best, rate)

    return Explorer(
        "method",
        title="Choose a method and a step size",
        panels=[
            Panel(plane, "The path of gains over the cost, with the stability border."),
            Panel(curves, "J minus J* after each step, with the predicted rate."),
        ],
        moving=[*track, *fall, forecast],
        update=update,
        controls=[
            Choice("method", "method", rates.METHODS, "gradient", _NAMES),
            Slider("step", "step size, share of the limit", _SHARES, 0.5),
        ],
        call=_CALL.format(updates=updates),
    )


def _with_markers(ax: Axes) -> tuple[Line2D, Line2D]:
    """A curve and its markers: two artists, because they move in different ways."""
    (line,) = ax.plot([], [], color=COLOURS["gain"], lw=1.4)
    (marks,) = ax.plot([], [], "o", ms=4, color=COLOURS["gain"], mec="none")
    return line, marks


def _curves(best: float, updates: int) -> tuple[Figure, tuple[Line2D, Line2D], Line2D]:
    fig, ax = figure("steps", "J − J*", size=(4.7, 3.9), yscale="log")
    ax.set(xlim=(-0.7, updates + 0.7), ylim=(_LOWEST / 3, _HIGHEST))
    fall = _with_markers(ax)
    fall[1].set_label("measured")
    (forecast,) = ax.plot([], [], "--", color="black", lw=1.4, label="predicted")
    ax.axhline(_ARRIVED * best, color=COLOURS["border"], ls=":", label="10⁻⁶ J*")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    return fig, fall, forecast


def _in_reach(gains: Array, cost: Array, ax: Axes) -> Array:
    """The path, its last step cut out of sight: clipping it would turn it aside."""
    lost = int(np.isinf(cost).argmax())
    if not lost:
        return gains
    view = np.array([ax.get_xlim(), ax.get_ylim()])
    low, high = view.T + np.outer([-1, 1], view[:, 1] - view[:, 0])
    start, step = gains[lost - 1], gains[lost] - gains[lost - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        room = (np.where(step > 0, high, low) - start) / step
    end = start + np.clip(np.nanmin(room), 0, 1) * step
    return np.concatenate([gains[:lost], np.tile(end, (len(gains) - lost, 1))])


def _forecast(excess: Array, best: float, rate: float) -> Array:
    """Ends of the predicted line, as [x, y]: from the first step near K* to an edge."""
    near = excess < _NEAR * best
    start, last = int(near.argmax()), float(len(excess) - 1)
    if not near.any() or rate < _NO_RATE:
        return np.array([[0, last], [0, 0]])  # below the axis, where nothing shows
    if rate != 1:
        edge = _HIGHEST if rate > 1 else _LOWEST
        last = min(last, start + np.log(edge / excess[start]) / np.log(rate))
    ends = np.array([start, last])
    return np.stack([ends, excess[start] * rate ** (ends - start)])


def _verdict(excess: Array, rate: float) -> str:
    """How the path ended, and how fast it was, from its excess relative to J*."""
    end, factor = _end(excess, rate), _measured(excess)
    if rate < _NO_RATE:
        return f"{end} Near K* it is faster than any fixed factor a step."
    measured = "" if factor is None else f"measured {factor:.3f}, "
    predicted = f"predicted {rate:.3f} for the worst direction"
    return f"{end} Factor a step near K*: {measured}{predicted}."


def _end(excess: Array, rate: float) -> str:
    last, arrived = len(excess) - 1, excess < _ARRIVED
    if np.isinf(excess[-1]):
        return f"leaves the stable set at step {np.isinf(excess).argmax()}."
    if arrived.any():
        again = ", and moves away again" * (rate > 1 + 1e-9)
        return f"within a millionth of J* at step {arrived.argmax()}{again}."
    if excess[-1] < (1 - 1e-9) * excess[:-1].min():
        return f"still {excess[-1]:.2g} J* above the optimum after {last} steps."
    return f"keeps circling, and has not arrived after {last} steps."


def _measured(excess: Array) -> float | None:
    """Factor a step, over up to four steps at the end of the last stay near K*."""
    near = np.flatnonzero((excess < _NEAR) & (excess > _ROUNDING))
    stay = near[near - np.arange(near.size) == near[-1:] - near.size + 1][-5:]
    if stay.size < 2:
        return None
    return float((excess[stay[-1]] / excess[stay[0]]) ** (1 / (stay.size - 1)))
