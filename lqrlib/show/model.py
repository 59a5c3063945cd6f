"""The explorer of `book/learning_model.md`: what data identify, and for what."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lqrlib._validate import Array
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.model_study import READINGS, SHARES, ModelStudy
from lqrlib.show.puzzle import quartiles
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, figure

_LOW, _HIGH, _NONE = 1e-6, 100.0, 500.0  # the axis, and where "unstable" stands
_PERCENT = "\N{NO-BREAK SPACE}%"
_GREEN = EXPRESSIONS["model"].colour
_LOOKS = {
    "A + BK₀": (COLOURS["gain"], "D"),
    "A": (COLOURS["state"], "o"),
    "B": (COLOURS["optimum"], "s"),
    "gradient": (EXPRESSIONS["pathwise"].colour, "v"),
    "planned gain": (_GREEN, "^"),
    "J above J*": (_GREEN, "o"),
}
# Curves and markers are told apart without their colours, too.
_DASHES = {
    "A + BK₀": "-.",
    "A": "-",
    "B": (0, (8, 2)),
    "gradient": ":",
    "J above J*": (0, (4, 1, 1, 1, 1, 1)),
}
_CURVES = tuple(name for name in READINGS if name != "planned gain")
_DATA = {
    "one": "one gain, K₀",
    "two": "two gains beside K₀",
    "five": "five gains from K₀ to K*",
}
_CALL = (
    "model.fit(show.model_data(lqr, K0, data={data}, cov={cov}, n={n}, "
    "rng=np.random.default_rng(0)))"
)


def model_explorer(study: ModelStudy) -> Explorer:
    """Covariance × trajectories × data: what a fitted model knows, and what for.

    Parameters
    ----------
    study : ModelStudy

    Returns
    -------
    Explorer
        Opens at σ² = .01 and 100 trajectories of one gain, where A + BK₀ is known and
        B is not. A live slider between two points shows the nearer one.
    """
    rows, spread, ticks, marks = _rows()
    against, laws, curves, here = _covariances(study)

    def update(cov: float, n: float, data: str) -> str:
        kind = [*SHARES].index(data)
        c, s = _nearest(study.covs, cov), _nearest(study.counts, n)
        low, middle, high = quartiles(_table(study.error)[:, kind, c, s])
        spread.set_data(_gaps(_shown(low), _shown(high)), _gaps(_places(), _places()))
        for place, name in enumerate(READINGS):
            marks[place].set_data([_shown(middle[place])], [place])
            law = study.law[name][kind, c, s]
            ticks[place].set_data([law if law < _HIGH else np.inf], [place])
        for name, curve, law in zip(_CURVES, curves, laws, strict=True):
            curve.set_ydata(quartiles(study.error[name][kind, :, s])[1])
            law.set_ydata(study.law[name][kind, :, s])
        here.set_data([study.covs[c]] * 2, [_LOW / 10, np.inf])
        return _verdict(study, kind, c, s)

    return Explorer(
        "model",
        title="Choose what the model is fitted to",
        panels=[
            Panel(
                rows,
                "Relative errors of a fitted model on a logarithmic axis, one row "
                "each for A + BK0, A, B, the gradient, the planned gain and the "
                "excess of its cost: medians and quartiles of 200 data sets, and a "
                "tick at the value that is predicted.",
            ),
            Panel(
                against,
                "Medians of five of them against the covariance, and thin what is "
                "predicted.",
            ),
        ],
        moving=[spread, *ticks, *marks, *laws, *curves, here],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", study.covs, 0.01, log=True),
            Slider("n", "trajectories N", study.counts, 100, log=True),
            Choice("data", "data of", tuple(_DATA), "one", tuple(_DATA.values())),
        ],
        call=_CALL,
    )


def _rows() -> tuple[Figure, Line2D, list[Line2D], list[Line2D]]:
    """A row each: quartiles as one line with gaps, predictions, medians."""
    fig, ax = figure(
        "relative error",
        "",
        size=(4.7, 3.2),
        xscale="log",
        xlim=(_LOW, 1200),
        ylim=(len(READINGS) - 0.5, -0.5),
    )
    ax.set_yticks(_places(), READINGS)
    ax.set_xticks([1e-6, 1e-4, 0.01, 1, 100], ["10⁻⁶", "10⁻⁴", ".01", "1", "100"])
    ax.minorticks_off()
    ax.axvline(_HIGH, color=COLOURS["border"], lw=1)
    ax.text(_NONE, -0.55, "∞", ha="center", va="bottom", fontsize=13)
    x, y = _gaps(_places() + 1, _places() + 2), _gaps(_places(), _places())
    (spread,) = ax.plot(x, y, color=COLOURS["border"], lw=2.5)
    ticks, marks = [], []
    for place, name in enumerate(READINGS):
        colour, marker = _LOOKS[name]
        ticks += ax.plot([1], [place], "|", ms=17, mew=1.5, color="black")
        marks += ax.plot([1], [place], marker, ms=7, color=colour)
    _key(ax, [("median", "o", 6), ("predicted", "|", 11)])
    return fig, spread, ticks, marks


def _key(ax: Axes, entries: list[tuple[str, str, int]]) -> None:
    for label, marker, size in entries:
        ax.plot([], [], marker, color="black", ms=size, label=label)
    ax.plot([], [], color=COLOURS["border"], lw=2.5, label="quartiles")
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(0.8, 1),
        ncols=3,
        frameon=False,
        handletextpad=0.3,
        handlelength=1.2,
        columnspacing=1.0,
        fontsize=9,
    )


def _covariances(
    study: ModelStudy,
) -> tuple[Figure, list[Line2D], list[Line2D], Line2D]:
    """Predictions and medians against the covariance, and the line where we are."""
    covs = np.array(study.covs)
    fig, ax = figure(
        "covariance σ²",
        "relative error",
        size=(4.7, 3.9),
        xscale="log",
        yscale="log",
        xlim=(covs[0] / 1.3, covs[-1] * 1.3),
        ylim=(_LOW, _HIGH),
    )
    (here,) = ax.plot([1, 1], [_LOW, _HIGH], color=COLOURS["border"], lw=1)
    laws, curves = [], []
    for name in _CURVES:
        colour, _ = _LOOKS[name]
        ones, dash = np.ones(len(covs)), _DASHES[name]
        laws += ax.plot(covs, ones, color=colour, lw=0.7)
        curves += ax.plot(covs, ones, ls=dash, color=colour, label=name)
    ax.plot([], [], color="black", lw=0.7, label="predicted")
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        columnspacing=1.2,
        fontsize=9,
    )
    return fig, laws, curves, here


def _table(error: dict[str, Array]) -> Array:
    return np.stack([error[name] for name in READINGS])


def _places() -> Array:
    return np.arange(len(READINGS), dtype=float)


def _shown(values: Array) -> Array:
    """What is beyond the border stands at one place behind it."""
    return np.where(values > _HIGH, _NONE, values)


def _gaps(first: Array, second: Array) -> Array:
    """Pairs as one curve: first, second, a gap, and so on."""
    gap = np.full(len(first), np.nan)
    return np.stack([first, second, gap], axis=1).ravel()


def _nearest(grid: tuple[float, ...], value: float) -> int:
    return int(np.abs(np.log(grid) - np.log(value)).argmin())


def _verdict(study: ModelStudy, kind: int, c: int, s: int) -> str:
    """What is known, and what the plan is worth."""
    off = {name: quartiles(study.error[name][kind, c, s])[1] for name in READINGS}
    plans = study.error["J above J*"][kind, c, s]
    lost, count = int(np.isinf(plans).sum()), len(plans)
    source = [*_DATA.values()][kind]
    B = "B is not known" if off["B"] > 1 else f"B to {_share(off['B'])}"
    slope = "the gradient at K₀ is worthless"
    if off["gradient"] < 1:
        slope = f"the gradient at K₀ to {_share(off['gradient'])}"
    end = f"{_share(off['J above J*'])} above J*"
    if np.isinf(off["J above J*"]):
        end = "infinite"
    where = f"σ² = {study.covs[c]:.3g}, N = {study.counts[s]:,}"
    return (
        f"{source[0].upper()}{source[1:]}, {where}, medians: A + BK₀ is known to "
        f"{_share(off['A + BK₀'])}, {B}, {slope}. The planned gain costs {end}; "
        f"unstable plans: {lost} of {count}. Condition number of the data: "
        f"{_two(study.condition[kind, c, s])}."
    )


def _share(value: float) -> str:
    return f"{_two(100 * value)}{_PERCENT}"


def _two(value: float) -> str:
    """With two digits."""
    return f"{float(f'{value:.2g}'):,g}"
