"""The explorer of the ladder: its study, its words, its points, its call."""

import itertools
import re

import ipywidgets
import numpy as np
import pytest

from lqrlib import exact, ladder, show, weights, worlds
from lqrlib.show import export, live
from lqrlib.show import ladder as drawing

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
K_STAR = exact.optimal_gain(LQR)
STUDY = show.ladder_study(LQR, K0)
EXPLORER = show.ladder_explorer(STUDY)
STATES = list(itertools.product(STUDY.covs, STUDY.shares))
every_state = pytest.mark.parametrize(("cov", "share"), STATES)


def place(cov, share):
    return STUDY.covs.index(cov), STUDY.shares.index(share)


def marks():
    """Rows and values of the markers now, by kind; infinite ones beyond the border."""
    return EXPLORER.moving[2:8]


def test_true_spreads_are_those_of_the_library():
    for cov, share in ((0.1, 0.01), (1.0, 0.1), (10.0, 0.5)):
        K = K0 + share * (K_STAR - K0)
        gradient = exact.gradient(LQR, K, cov)
        size = np.linalg.norm(gradient)
        for rung in ladder.RUNGS:
            found = ladder.spread(LQR, K, K0, cov, 60, rung)
            at = STUDY.true[rung][place(cov, share)]
            assert at == pytest.approx(float(found.deviation) / size, rel=1e-9)
            off = np.linalg.norm(found.mean - gradient) / size
            assert STUDY.off[rung][place(cov, share)] == pytest.approx(off, rel=1e-6)


def test_the_wall_is_the_breakdown_and_no_weighted_rung_passes_it():
    edges = [float(weights.breakdown(LQR, K0, K_STAR - K0, c, 60)) for c in STUDY.covs]
    np.testing.assert_allclose(STUDY.walls, edges)
    beyond = np.array(STUDY.shares) > STUDY.walls[:, None]
    for rung in ladder.RUNGS[:-1]:
        assert np.array_equal(np.isinf(STUDY.true[rung]), beyond)
    for rung in ("TD error", "advantage"):
        assert np.array_equal(np.isinf(STUDY.learned[rung]), beyond)
    assert np.isfinite(STUDY.true["deterministic gradient"]).all()
    for rung in ("deterministic gradient", "natural gradient", "model gradient"):
        assert np.isfinite(STUDY.learned[rung]).all()


def test_learned_rungs_cost_more_the_less_the_actions_vary():
    for rung, values in STUDY.learned.items():
        on_own_data = values[:, 0]
        assert (on_own_data[:-4] > 1.2 * on_own_data[2:-2]).all(), rung


@every_state
def test_the_words_say_what_the_study_holds(cov, share):
    words, (c, s) = EXPLORER.show(cov=cov, distance=share), place(cov, share)
    assert words.startswith(f"σ² = {cov:.3g}, {100 * share:g}\N{NO-BREAK SPACE}% of")
    walled = "no rung with weights has a second moment" in words
    assert walled == bool(share >= STUDY.walls[c])
    two = re.search(r"two take (\S+) and (\S+) trajectories\.$", words)
    for text, rung in zip(two.groups(), drawing.LEARNED[2::2], strict=True):
        needed = max(1.0, (10 * STUDY.learned[rung][c, s]) ** 2)
        assert float(text.replace(",", "")) == pytest.approx(needed, rel=0.06, abs=0.6)
    assert "nan" not in words


@every_state
def test_every_marker_is_at_its_value_or_at_the_edge(cov, share):
    EXPLORER.show(cov=cov, distance=share)
    c, s = place(cov, share)
    points = np.concatenate([line.get_xydata() for line in marks()[1:3]])
    seen = {int(row): x for x, row in points}
    assert len(seen) == len(ladder.RUNGS)
    for rung in ladder.RUNGS:
        value = STUDY.true[rung][c, s]
        shown = drawing._NONE if np.isinf(value) else value
        assert seen[drawing.ROWS.index(rung)] == pytest.approx(shown)


@every_state
def test_the_wall_stands_where_the_curves_end(cov, share):
    EXPLORER.show(cov=cov, distance=share)
    wall, here = EXPLORER.moving[:2]
    c, s = place(cov, share)
    left = wall.get_xy()[0, 0]
    finite = np.isfinite(STUDY.true["trajectory"][c])
    last = int(np.flatnonzero(finite)[-1])
    if finite.all():
        assert left > len(STUDY.shares) - 1
    else:
        assert last <= left <= last + 1
    assert (np.array(here.get_xdata()) == s).all()


def test_the_page_fits_and_holds_every_state():
    page = export.html(EXPLORER)
    assert len(page.encode()) < 150_000
    assert EXPLORER.default == {"cov": 1.0, "distance": 0.2}


def test_the_call_gives_the_spread_of_the_lowest_rung():
    cov, share = 1.0, 0.1
    call = EXPLORER.call.format(cov=cov, distance=share)
    names = {"ladder": ladder, "lqr": LQR, "K0": K0, "K_star": K_STAR}
    size = np.linalg.norm(exact.gradient(LQR, K0 + share * (K_STAR - K0), cov))
    expected = STUDY.true["trajectory"][place(cov, share)] * size
    assert eval(call, names) == pytest.approx(expected)


def test_a_live_slider_between_two_values_shows_the_nearer_one():
    box = live.widget(EXPLORER)
    assert isinstance(box, ipywidgets.Widget)
    assert EXPLORER.show(cov=1.1, distance=0.19) == EXPLORER.show(cov=1.0, distance=0.2)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("K0", lambda: show.ladder_study(LQR, K_STAR)),
        ("K0", lambda: show.ladder_study(LQR, K0[None])),
        ("K", lambda: show.ladder_study(LQR, -K0)),
    ],
)
def test_a_gain_without_a_ladder_is_refused(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
