"""The explorer of the diagnosis: lines, dots, needs and words are the diagnoses'."""

import functools
import itertools
import re

import ipywidgets
import numpy as np
import pytest

from lqrlib import show, studies
from lqrlib.diagnose import diagnose
from lqrlib.show import diagnose as drawing
from lqrlib.show import export, live

COVS, SIZES = (0.01, 1.0, 100.0), (10, 100, 1000)
SETTINGS = {"one": studies.settings()["double integrator"]}
SETTINGS["other"] = studies.settings()["three rooms"]


@functools.cache
def made():
    rng = np.random.default_rng(4)
    found = {
        name: [diagnose(s.lqr, s.K0, cov, 20, 100) for cov in COVS]
        for name, s in SETTINGS.items()
    }
    measured = {
        name: {of: 10 ** rng.uniform(-9, 2, (3, 3)) for of in drawing.NAMES}
        for name in SETTINGS
    }
    measured["one"]["dpg"][0, 0] = np.inf
    return show.Diagnoses(found, measured, COVS, SIZES)


@functools.cache
def explorer():
    return show.diagnosis_explorer(made())


STATES = list(itertools.product(SETTINGS, COVS, SIZES))
every_state = pytest.mark.parametrize(("world", "cov", "n"), STATES)


def held(world, cov, n):
    return made().found[world][COVS.index(cov)].of(n)


@every_state
def test_lines_are_forecasts_and_dots_are_what_was_measured(world, cov, n):
    explorer().show(world=world, cov=cov, n=n)
    lines, dots = explorer().moving[:2], explorer().moving[2:4]
    for name, line, dot in zip(drawing.NAMES, lines, dots, strict=True):
        part = "model" if name == "model" else "critic"
        expected = [getattr(held(world, cov, size), part).excess for size in SIZES]
        inside = np.array(expected) < drawing._LARGEST
        np.testing.assert_allclose(
            np.array(line.get_ydata())[inside],
            np.maximum(expected, 1.5 * drawing._LEAST)[inside],
        )
        seen = made().measured[world][name][COVS.index(cov)]
        shown = np.array(dot.get_ydata())
        inside = (seen < drawing._LARGEST) & (seen > 1.5 * drawing._LEAST)
        np.testing.assert_allclose(shown[inside], seen[inside])
        assert (shown[np.isinf(seen)] > drawing._LARGEST).all()


@every_state
def test_the_marks_stand_where_the_sliders_do(world, cov, n):
    explorer().show(world=world, cov=cov, n=n)
    needed, (here_n, here_cov) = explorer().moving[4:6], explorer().moving[6:]
    assert list(here_n.get_xdata()) == pytest.approx([n, n])
    assert here_cov.get_xydata()[0].tolist() == pytest.approx([cov, n])
    for name, curve in zip(drawing.NAMES, needed, strict=True):
        part = "model" if name == "model" else "critic"
        wanted = [getattr(found, part).needed for found in made().found[world]]
        shown = np.clip(wanted, 1.0, drawing._MOST)
        np.testing.assert_allclose(curve.get_ydata(), shown)


@every_state
def test_the_words_are_the_diagnosis(world, cov, n):
    words, found = explorer().show(world=world, cov=cov, n=n), held(world, cov, n)
    assert words.startswith(f"{world}, σ² = {cov:g}, N = {n:,}: forecast ")
    numbers = [float(text) for text in re.findall(r"(\S+)\s%", words)]
    expected = [found.model.excess, found.critic.excess, found.curvature_error]
    shown = [max(100 * e, 1e-4) for e in expected]
    assert numbers[:3] == pytest.approx(shown, rel=0.06)
    assert ("lose their second moment" in words) == (found.weights.breakdown <= 1.0)
    named = {"model": "the fitted model", "dpg": "the critic", "none": "nothing yet"}
    ending = words.partition("Recommended: ")[2]
    assert ending.startswith(named[found.recommended])
    if found.recommended != "none":
        assert ending.endswith(f"without a model: {named[found.without_model]}.")
    assert "nan" not in words


def test_the_page_holds_every_state():
    assert len(export.html(explorer()).encode()) < 300_000
    assert explorer().default == {"world": "one", "cov": 1.0, "n": 100}


def test_the_call_is_that_of_the_library():
    given = {"world": "'three rooms'", "cov": "1.0", "n": "100"}
    first, second = explorer().call.format(**given).split("; ")
    names = {"diagnose": diagnose, "studies": studies}
    exec(first, names)
    s = SETTINGS["other"]
    assert eval(second, names) == diagnose(s.lqr, s.K0, 1.0, s.horizon, 100)


def test_a_live_slider_between_two_covariances_shows_the_nearer_one():
    assert isinstance(live.widget(explorer()), ipywidgets.Widget)
    assert explorer().show(cov=1.3) == explorer().show(cov=1.0)
    assert "N = 37" in explorer().show(n=37.2)
