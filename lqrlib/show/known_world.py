"""The explorer of `book/known_world.md`: a gain, its cost and its closed loop."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lqrlib import exact
from lqrlib._validate import Array
from lqrlib.lyapunov import spectral_radius
from lqrlib.problem import LQR
from lqrlib.show.controls import Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.landscape import landscape
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, band, figure, set_band

_STEP_SECONDS = 0.1


def forecast(lqr: LQR, K: Array, start: Array, steps: int) -> tuple[Array, Array]:
    """Mean and covariance of the state after each step of the closed loop u = Kx.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
    start : array, shape [n]
        The state at t = 0.
    steps : int

    Returns
    -------
    mean : array, shape [steps + 1, n]
    covariance : array, shape [steps + 1, n, n]
    """
    F = lqr.closed_loop(K)
    means, covariances = [start], [np.zeros((lqr.n, lqr.n))]
    for _ in range(steps):
        means.append(F @ means[-1])
        covariances.append(F @ covariances[-1] @ F.T + lqr.W)
    return np.stack(means), np.stack(covariances)


def gain_explorer(lqr: LQR, *, steps: int = 80) -> Explorer:
    """Two sliders for the entries of K; the landscape, and position against time.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world with one action and two states.
    steps : int
        Length of the forecast from position 1 at rest.

    Returns
    -------
    Explorer
        Opens at a gain whose state runs away while its cost is finite.
    """
    best = exact.optimal_gain(lqr)
    plane, over = landscape(lqr, (-6, 1.5), (-7, 1.2))
    (point,) = over.plot([], [], "o", ms=9, color=COLOURS["gain"], mec="white")
    point.set_clip_on(False)  # whole at the ends of the sliders, too
    paths, beside = _position_figure(lqr, best, steps)
    seconds, middle, _ = _position(lqr, best, steps)
    (path,) = beside.plot(seconds, middle, color=COLOURS["gain"])
    spread = band(beside, seconds, middle, middle, color=COLOURS["gain"], alpha=0.22)

    def update(k1: float, k2: float) -> str:
        K = np.array([[k1, k2]])
        seconds, middle, deviation = _position(lqr, K, steps)
        point.set_data([k1], [k2])
        path.set_data(seconds, middle)
        set_band(spread, seconds, middle - deviation, middle + deviation)
        return _verdict(lqr, K, float(exact.cost(lqr, best)))

    first, second = np.linspace(-6, 1.5, 31).tolist(), np.linspace(-7, 1, 33).tolist()
    return Explorer(
        "gain",
        title="Choose a gain",
        panels=[
            Panel(plane, "Cost over the plane of gains, with the chosen gain on it."),
            Panel(paths, "Position against time with the chosen and the optimal gain."),
        ],
        moving=[point, path, spread],
        update=update,
        controls=[
            Slider("k1", "k₁, gain on position", first, 0.5),
            Slider("k2", "k₂, gain on velocity", second, -3.0),
        ],
        call="exact.cost(lqr, [[{k1}, {k2}]])",
    )


def _position(lqr: LQR, K: Array, steps: int) -> tuple[Array, Array, Array]:
    """Seconds, and mean and deviation of the position, at every second step."""
    mean, covariance = forecast(lqr, K, np.array([1.0, 0.0]), steps)
    t = np.arange(0, steps + 1, 2)
    return t * _STEP_SECONDS, mean[t, 0], np.sqrt(covariance[t, 0, 0])


def _position_figure(lqr: LQR, best: Array, steps: int) -> tuple[Figure, Axes]:
    fig, ax = figure(
        "time, s",
        "position",
        size=(4.7, 3.9),
        xlim=(0, steps * _STEP_SECONDS),
        ylim=(-1.5, 2.5),
    )
    ax.axhline(0, color=COLOURS["border"], lw=0.8)
    seconds, middle, _ = _position(lqr, best, steps)
    ax.plot(seconds, middle, "--", color=COLOURS["optimum"])
    ax.text(0.7 * seconds[-1], -0.09, "with K*", ha="center", va="top")
    return fig, ax


def _verdict(lqr: LQR, K: Array, best: float) -> str:
    radius = float(spectral_radius(lqr.closed_loop(K)))
    J = float(exact.cost(lqr, K))
    change = 100 * (radius - 1)
    if abs(change) < 0.05:
        motion = "The state neither grows nor shrinks in the long run"
    else:
        does = "grows" if change > 0 else "shrinks"
        motion = f"The state {does} by {abs(change):.1f} % a step in the long run"
    if not np.isfinite(J):
        allowed = 100 * (1 / np.sqrt(lqr.gamma) - 1)
        return f"{motion}; discounting forgives {allowed:.1f} %, so the cost is J = ∞."
    link = "; the cost is" if change < -0.05 else ", and yet the cost is finite:"
    return (
        f"{motion}{link} J = {J:.2f}, {100 * (J / best - 1):.1f} % above the optimum."
    )
