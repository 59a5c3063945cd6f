"""The explorer of `book/deterministic_gradient.md`: rung × covariance × distance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from lqrlib.ladder import RUNGS
from lqrlib.show.controls import Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.ladder_study import LEARNED, LadderStudy
from lqrlib.show.scene import Panel
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band

ROWS = (*RUNGS, *(name for name in LEARNED if name not in RUNGS))
_LOW, _HIGH, _NONE = 0.01, 3e4, 1.5e5  # the axis, and where "no variance" stands
_RED, _BLUE, _GREEN = (EXPRESSIONS[name].colour for name in ("hack", "dpg", "model"))
# Curves against the distance: rung, true or learned, colour, style.
_CURVES = (
    ("trajectory", "true", _RED, "-"),
    ("value baseline", "true", _RED, "--"),
    ("advantage", "true", _RED, ":"),
    ("deterministic gradient", "true", _BLUE, "-"),
    ("deterministic gradient", "learned", _BLUE, "--"),
    ("model gradient", "learned", _GREEN, "--"),
)
_CALL = (
    "ladder.spread(lqr, K0 + {distance} * (K_star - K0), K0, {cov}, 60, "
    "'trajectory').deviation"
)


def ladder_explorer(study: LadderStudy) -> Explorer:
    """Covariance × distance: the spread of every rung, with true and learned values.

    Parameters
    ----------
    study : LadderStudy

    Returns
    -------
    Explorer
        Opens at σ² = 1, a fifth of the way to K*, just behind the wall. A live slider
        between two points of the study shows the nearer one.
    """
    rows, marks = _ladder()
    against, curves, wall, here = _distances(study.shares)

    def update(cov: float, distance: float) -> str:
        c = int(np.abs(np.log(study.covs) - np.log(cov)).argmin())
        s = int(np.abs(np.array(study.shares) - distance).argmin())
        for (table, names), line in marks.items():
            values = [getattr(study, table)[name][c, s] for name in names]
            places = np.array([ROWS.index(name) for name in names], dtype=float)
            low = values if table != "off" else np.maximum(values, _LOW / 10)
            line.set_data(np.where(np.isinf(low), _NONE, low), places)
        for (name, table, *_), line in zip(_CURVES, curves, strict=True):
            line.set_ydata(getattr(study, table)[name][c])
        at = np.interp(study.walls[c], study.shares, np.arange(len(study.shares)))
        start = at if study.walls[c] <= study.shares[-1] else np.inf
        set_band(wall, [start, np.inf], [0, 0], [np.inf, np.inf])
        here.set_data([s, s], [_LOW / 10, np.inf])
        return _verdict(study, c, s)

    return Explorer(
        "ladder",
        title="Choose a covariance and a distance from the data",
        panels=[
            Panel(
                rows,
                "Spread of one trajectory's estimate for each rung on a logarithmic "
                "axis: filled with true values, open with learned ones, by quartiles "
                "of 100 data sets; crosses tell how far the mean is from the gradient. "
                "The natural gradient is compared with itself.",
            ),
            Panel(
                against,
                "The spread of six of them against the distance from the data, up to "
                "the wall where weights lose their second moment.",
            ),
        ],
        moving=[wall, here, *marks.values(), *curves],
        update=update,
        controls=[
            Slider("cov", "covariance σ²", study.covs, 1.0, log=True),
            Slider("distance", "share of the way to K*", study.shares, 0.2),
        ],
        call=_CALL,
    )


def _ladder() -> tuple[Figure, dict[tuple[str, tuple[str, ...]], Line2D]]:
    """The rows, and a line of markers for each colour of each kind."""
    fig, ax = figure(
        "over the length of the gradient",
        "",
        size=(4.7, 4.6),
        xscale="log",
        xlim=(_LOW, 6e5),
        ylim=(-0.6, len(ROWS) - 0.4),
    )
    ax.set_yticks(range(len(ROWS)), [_short(name) for name in ROWS])
    ax.set_xticks([0.01, 1, 100, 1e4], [".01", "1", "100", "10⁴"])
    ax.minorticks_off()
    ax.axvline(_HIGH, color=COLOURS["border"], lw=1)
    ax.text(_NONE, len(ROWS) - 0.5, "∞", ha="center", va="bottom", fontsize=13)
    weighted, learned = RUNGS[:-1], LEARNED[:2]
    groups: tuple[tuple[str, Sequence[str], str, dict[str, Any]], ...] = (
        ("off", RUNGS, COLOURS["border"], {"marker": "x", "ms": 6}),
        ("true", weighted, _RED, {"marker": "o", "ms": 8}),
        ("true", RUNGS[-1:], _BLUE, {"marker": "o", "ms": 8}),
        ("learned", learned, _RED, {"marker": "o", "ms": 8, "mfc": "none"}),
        ("learned", LEARNED[2:4], _BLUE, {"marker": "o", "ms": 8, "mfc": "none"}),
        ("learned", LEARNED[4:], _GREEN, {"marker": "o", "ms": 8, "mfc": "none"}),
    )
    marks = {}
    for table, names, colour, look in groups:
        ones = np.ones(len(names))
        (line,) = ax.plot(ones, ones, ls="none", color=colour, mew=1.6, **look)
        marks[table, tuple(names)] = line
    _key(ax)
    return fig, marks


def _key(ax: Axes) -> None:
    for label, marker, face in (
        ("true", "o", COLOURS["border"]),
        ("learned", "o", "none"),
        ("mean off by", "x", "none"),
    ):
        ax.plot([], [], marker, color=COLOURS["border"], mfc=face, ms=6, label=label)
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(0.88, 1),
        ncols=3,
        frameon=False,
        handletextpad=0,
        columnspacing=0.8,
        fontsize=9,
    )


def _distances(
    shares: Sequence[float],
) -> tuple[Figure, list[Line2D], Polygon, Line2D]:
    """Curves against the distance, the wall, and the line of where we are."""
    fig, ax = figure(
        "share of the way from K₀ to K*",
        "spread over gradient",
        size=(4.7, 4.2),
        yscale="log",
        xlim=(0, len(shares) - 1),
        ylim=(0.3, _HIGH),
    )
    places = np.arange(len(shares), dtype=float)
    ax.set_xticks(places, [f"{share:g}".replace("0.", ".") for share in shares])
    look = {"color": COLOURS["border"], "alpha": 0.2, "label": "no second moment"}
    wall = band(ax, [0, 1], [1, 1], [2, 2], **look)
    (here,) = ax.plot([0, 0], [1, 2], color=COLOURS["border"], lw=1)
    curves = []
    for name, table, colour, style in _CURVES:
        label = _short(name) + (", learned" if table == "learned" else "")
        curves += ax.plot(places, places + 1, style, color=colour, label=label)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.15, 1),
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    return fig, curves, wall, here


def _short(name: str) -> str:
    return name.replace("deterministic gradient", "deterministic").replace(
        " gradient", ""
    )


def _verdict(study: LadderStudy, c: int, s: int) -> str:
    """What one trajectory is worth, and how many make 10 % of error."""
    share, inside = study.shares[s], study.shares[s] < study.walls[c]
    where = f"σ² = {study.covs[c]:.3g}, {100 * share:g}\N{NO-BREAK SPACE}% of the way: "
    if inside:
        first, best = study.true["trajectory"][c, s], study.true["advantage"][c, s]
        weighted = (
            f"trajectory weights spread {_number(first)} times the gradient, the true "
            f"advantage {_number(best)} times"
        )
    else:
        weighted = (
            "no rung with weights has a second moment, which ends at "
            f"{100 * study.walls[c]:.2g}\N{NO-BREAK SPACE}%"
        )
    learned = study.learned["deterministic gradient"][c, s]
    planned = study.learned["model gradient"][c, s]
    return (
        f"{where}{weighted}; the deterministic gradient with a learned critic "
        f"{_number(learned)}, the model's gradient {_number(planned)}. For an error "
        f"of 10\N{NO-BREAK SPACE}% the two take about {_count(learned)} and "
        f"{_count(planned)} trajectories."
    )


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{float(f'{value:.2g}'):,.0f}"


def _count(spread: float) -> str:
    return f"{float(f'{max(1.0, (10 * spread) ** 2):.2g}'):,.0f}"
