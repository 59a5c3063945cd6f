"""The explorer of `book/diagnose.md`: what data are worth, before they are made."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lqrlib._validate import Array
from lqrlib.diagnose import WITHIN, Diagnosis
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, figure, percent

NAMES = ("model", "dpg")
_FEWEST, _MOST = 0.5, 1e6  # trajectories on the axis
_LEAST, _LARGEST = 1e-9, 30.0  # excess
_CALL = "s = studies.settings()[{world}]; diagnose(s.lqr, s.K0, {cov}, s.horizon, {n})"


# Lines and dots, so that the two are told apart without their colours.
_LOOKS = {"model": ("-", "o"), "dpg": ("--", "s")}


class Diagnoses(NamedTuple):
    """Diagnoses over a grid, and what was measured on it.

    Parameters
    ----------
    found : dict of str to sequence of Diagnosis
        Of each world, one for each covariance.
    measured : dict of str to dict of str to array, shape [covariances, sizes]
        Of each world the median of (J − J*)/J* with ``"model"`` and ``"dpg"``.
    covs, sizes : sequence of float
    """

    found: Mapping[str, Sequence[Diagnosis]]
    measured: Mapping[str, Mapping[str, Array]]
    covs: Sequence[float]
    sizes: Sequence[float]


def diagnosis_explorer(study: Diagnoses) -> Explorer:
    """World × covariance × number of trajectories: forecasts, and what was measured.

    Parameters
    ----------
    study : Diagnoses

    Returns
    -------
    Explorer
        A live slider between two covariances of the study shows the nearer one.
    """
    against_n, lines, dots, here_n = _excess(study)
    against_cov, needed, here_cov = _needed(study)

    def update(world: str, cov: float, n: float) -> str:
        c = int(np.abs(np.log(study.covs) - np.log(cov)).argmin())
        size = max(1, round(n))
        for name in NAMES:
            excess = _forecasts(study.found[world][c], name, study.sizes)
            lines[name].set_ydata(_inside(excess))
            dots[name].set_ydata(_inside(study.measured[world][name][c]))
            needed[name].set_ydata([_needs(d, name) for d in study.found[world]])
        here_n.set_xdata([size, size])
        here_cov.set_data([study.covs[c]], [size])
        found = study.found[world][c].of(size)
        return f"{world}, σ² = {study.covs[c]:g}, N = {size:,}: {_words(found)}"

    middle = study.sizes[len(study.sizes) // 3]
    return Explorer(
        "diagnosis",
        title="Choose a world, a covariance and how much data to make",
        panels=[
            Panel(
                against_n,
                "Forecast distance from the optimal cost against the number of "
                "trajectories, as two straight lines on logarithmic axes, with the "
                "medians of 20 runs: solid and circles for the fitted model, dashed "
                "and squares for the critic.",
            ),
            Panel(
                against_cov,
                "Trajectories that the fitted model (solid) and the critic (dashed) "
                "need for one per cent, against the covariance, with a cross where "
                "the sliders stand.",
            ),
        ],
        moving=[*lines.values(), *dots.values(), *needed.values(), here_n, here_cov],
        update=update,
        controls=[
            Choice("world", "world", tuple(study.found), next(iter(study.found))),
            Slider("cov", "covariance σ²", study.covs, 1.0, log=True),
            Slider("n", "trajectories N", study.sizes, middle, log=True),
        ],
        call=_CALL,
    )


def _excess(
    study: Diagnoses,
) -> tuple[Figure, dict[str, Line2D], dict[str, Line2D], Line2D]:
    """Forecast lines, measured dots, and the line of where we are."""
    sizes = np.array(study.sizes, dtype=float)
    fig, ax = figure(
        "trajectories N",
        "(J − J*) / J*",
        size=(4.7, 3.6),
        xscale="log",
        yscale="log",
        xlim=(sizes[0] / 1.5, 1.5 * sizes[-1]),
        ylim=(_LEAST, _LARGEST),
    )
    ax.axhline(WITHIN, color=COLOURS["border"], ls=":", lw=1)
    lines, dots = {}, {}
    for name, label in zip(NAMES, ("fitted model", "critic"), strict=True):
        colour = EXPRESSIONS[name].colour
        dash, mark = _LOOKS[name]
        (lines[name],) = ax.plot(sizes, sizes, dash, color=colour, label=label)
        (dots[name],) = ax.plot(sizes, sizes, mark, color=colour, mfc="none", ms=6)
    (here,) = ax.plot([1, 1], [_LEAST, _LARGEST], color=COLOURS["border"], lw=1)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return fig, lines, dots, here


def _needed(study: Diagnoses) -> tuple[Figure, dict[str, Line2D], Line2D]:
    covs = np.array(study.covs)
    fig, ax = figure(
        "covariance σ²",
        "trajectories for 1 %",
        size=(4.7, 3.3),
        xscale="log",
        yscale="log",
        xlim=(covs[0] / 1.5, 1.5 * covs[-1]),
        ylim=(_FEWEST, _MOST),
    )
    curves = {
        name: ax.plot(covs, covs, _LOOKS[name][0], color=EXPRESSIONS[name].colour)[0]
        for name in NAMES
    }
    (here,) = ax.plot([1], [1], "P", color=COLOURS["border"], ms=9)
    return fig, curves, here


def _forecasts(found: Diagnosis, name: str, sizes: Sequence[float]) -> Array:
    part = found.model if name == "model" else found.critic
    return np.array(part.excess * found.n / np.array(sizes))


def _needs(found: Diagnosis, name: str) -> float:
    """Not less than one trajectory, for there are no parts of one."""
    part = found.model if name == "model" else found.critic
    return min(max(part.needed, 1.0), _MOST)


def _inside(excess: Array) -> Array:
    """Not below the axis; what is infinite leaves through the top."""
    return np.maximum(excess, 1.5 * _LEAST)


def _words(found: Diagnosis) -> str:
    fitted, critic = percent(found.model.excess), percent(found.critic.excess)
    words = f"forecast {fitted} above J* for the fitted model, {critic} for the critic"
    words += f", whose curvature is uncertain by {percent(found.curvature_error)}. "
    reach = found.weights.breakdown
    if reach <= 1.0:
        lost = f"{100 * reach:.0f}\N{NO-BREAK SPACE}%"
        words += f"Weights lose their second moment at {lost} of the way to K*. "
    else:
        words += "Weights keep their second moment all the way to K*. "
    if not found.model.arrives:
        return f"{words}Recommended: nothing yet; more data, or more noise."
    other = "the critic" if found.without_model == "dpg" else "nothing yet"
    return f"{words}Recommended: the fitted model; without a model: {other}."
