"""The explorer of the verdict: every row at its value, and words that agree."""

import itertools
import re

import ipywidgets
import numpy as np
import pytest

from lqrlib import show, studies
from lqrlib.show import export, live
from lqrlib.show import verdict as drawing

WORLDS, COVS, SIZES = ("one", "other"), (1.0, 30.0), (10, 30, 100)


def invented():
    """Excesses from 1e-8 to 1e3, and runs that left."""
    rng = np.random.default_rng(3)
    shape = (len(studies.METHODS), len(COVS), len(SIZES), 21)
    found = {}
    for world in WORLDS:
        middle = rng.uniform(-7.0, 2.0, shape[:3])[..., None]
        found[world] = 10 ** (middle + 0.3 * rng.standard_normal(shape))
        found[world][0, :, 0] = np.inf
        found[world][1, :, 1, :8] = np.inf  # more than a quarter, less than a half
    found["one"][:, 0, 2] = np.minimum(found["one"][:, 0, 2], 5.0)  # none left
    return show.Verdicts(found, studies.FAMILIES, COVS, SIZES)


LEFT = pytest.approx(drawing._LOST)  # at the right edge
FOUND = invented()
EXPLORER = show.verdict_explorer(FOUND)
STATES = list(itertools.product(WORLDS, ("1", "30"), SIZES))
every_state = pytest.mark.parametrize(("world", "cov", "size"), STATES)


def held(world, cov, size):
    runs = FOUND.excess[world][:, COVS.index(float(cov)), SIZES.index(size)]
    return show.quartiles(runs)


@every_state
def test_every_dot_is_at_its_median_or_at_an_edge(world, cov, size):
    EXPLORER.show(world=world, cov=cov, size=size)
    dots = np.concatenate([line.get_xydata() for line in EXPLORER.moving[-4:]])
    assert dots[:, 1].tolist() == list(range(len(studies.METHODS)))
    for x, value in zip(dots[:, 0], held(world, cov, size)[1], strict=True):
        if np.isinf(value):
            assert x == LEFT
        else:
            assert x == pytest.approx(np.clip(value, 1.5 * drawing._LOW, drawing._HIGH))


@every_state
def test_every_bar_goes_from_quartile_to_quartile(world, cov, size):
    EXPLORER.show(world=world, cov=cov, size=size)
    low, _, high = held(world, cov, size)
    for row, bar in enumerate(EXPLORER.moving[:-4]):
        (a, b), rows = bar.get_xdata(), bar.get_ydata()
        assert list(rows) == [row, row]
        expected = np.clip(low[row], 1.5 * drawing._LOW, drawing._HIGH)
        assert a == (LEFT if np.isinf(low[row]) else pytest.approx(expected))
        assert a <= b
        assert (b == LEFT) == np.isinf(high[row])


@every_state
def test_the_words_name_the_best_and_those_that_left(world, cov, size):
    words, (_, middle, _) = (
        EXPLORER.show(world=world, cov=cov, size=size),
        held(world, cov, size),
    )
    assert words.startswith(f"{world}, σ² = {cov}, {size} real trajectories: ")
    best = re.search(r"of (.*) ends nearest, (?:less than )?(\S+)\s%", words)
    assert middle[FOUND.methods.index(best.group(1))] <= middle.min() + 1e-9
    least = max(100 * middle.min(), 1e-4)
    assert float(best.group(2)) == pytest.approx(least, rel=0.06)
    good = int(re.search(r"(\d+) of 16 medians", words).group(1))
    assert good == (middle < 0.01).sum()
    for name, value in zip(FOUND.methods, middle, strict=True):
        assert (name in words.rpartition("left")[2]) == np.isinf(value)
    assert "nan" not in words


def test_of_two_that_differ_by_rounding_the_plan_is_named():
    runs = {w: np.maximum(excess, 1e-5) for w, excess in FOUND.excess.items()}
    planned, stepped = map(FOUND.methods.index, ("planning", "model gradient"))
    runs["one"][planned] = 2e-6
    runs["one"][stepped] = 2e-6 - 1e-14
    words = show.verdict_explorer(FOUND._replace(excess=runs)).show(world="one")
    assert "the median run of planning ends nearest" in words


def test_families_have_their_colours_in_the_order_of_the_rows():
    colours = [line.get_color() for line in EXPLORER.moving[-4:]]
    assert colours == list(drawing.FAMILY_COLOURS.values())
    labels = [
        text.get_text() for text in EXPLORER.panels[0].figure.axes[0].get_yticklabels()
    ]
    assert labels == list(studies.METHODS)


def test_the_page_holds_every_state_and_the_call_runs():
    assert len(export.html(EXPLORER).encode()) < 300_000
    assert EXPLORER.default == {"world": "one", "cov": "1", "size": 30.0}
    first = {c.name: c.written()[0] for c in EXPLORER.controls}
    call = EXPLORER.call.format(**first | {"world": "'double integrator'"})
    found = eval(call, {"studies": studies})
    assert found == studies.arrival(
        studies.settings()["double integrator"], "dpg", 1.0, 10, 0
    )


def test_a_live_slider_between_two_values_shows_the_nearer_one():
    assert isinstance(live.widget(EXPLORER), ipywidgets.Widget)
    assert EXPLORER.show(size=33.0) == EXPLORER.show(size=30.0)
