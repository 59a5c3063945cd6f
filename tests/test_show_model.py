"""The explorer of the fitted model: its study, its laws, its words, its points."""

import functools
import importlib
import itertools
import re
from dataclasses import replace

import ipywidgets
import numpy as np
import pytest
from systems import FIRST_GAIN

from lqrlib import GaussianPolicy, LinearModel, LinearPolicy, exact, model, show, worlds
from lqrlib.rollout import Transitions, rollout
from lqrlib.show import export, live
from lqrlib.show import model as drawing
from lqrlib.show.model_study import (
    COUNTS,
    COVS,
    READINGS,
    SHARES,
    _fits,
    _gains,
    _triangles,
)

LQR = worlds.double_integrator()
K_STAR = exact.optimal_gain(LQR)
STATES = list(itertools.product(COVS, COUNTS, SHARES))


@functools.cache
def study():
    return show.model_study(LQR, FIRST_GAIN)


@functools.cache
def explorer():
    return show.model_explorer(study())


every_state = pytest.mark.parametrize(("cov", "n", "data"), STATES)
each_kind = pytest.mark.parametrize("data", SHARES)


def place(cov, n, data):
    kinds = list(SHARES)
    return kinds.index(data), study().covs.index(cov), study().counts.index(n)


@functools.cache
def medians(name):
    return show.quartiles(study().error[name])[1]


def drawn(cov, n, data, seed):
    """Relative errors of a model that is fitted to rows of their own."""
    rng = np.random.default_rng([seed, 7])
    rows = show.model_data(LQR, FIRST_GAIN, data=data, cov=cov, n=n, rng=rng)
    fitted = model.fit(rows)
    world = fitted.problem(LQR)
    pairs = {
        "A": (fitted.A, LQR.A),
        "B": (fitted.B, LQR.B),
        "A + BK₀": (world.closed_loop(FIRST_GAIN), LQR.closed_loop(FIRST_GAIN)),
        "gradient": [exact.gradient(w, FIRST_GAIN) for w in (world, LQR)],
        "planned gain": [exact.optimal_gain(w) for w in (world, LQR)],
    }
    size = np.linalg.norm
    off = {name: size(a - b) / size(b) for name, (a, b) in pairs.items()}
    J, best = exact.cost(LQR, [pairs["planned gain"][0], K_STAR])
    return off | {"J above J*": J / best - 1}


@each_kind
@pytest.mark.parametrize(("cov", "n"), [(0.1, 30), (1.0, 100), (100.0, 10)])
def test_its_errors_are_those_of_fits_to_rows_of_the_same_kind(cov, n, data):
    fresh = [drawn(cov, n, data, seed) for seed in range(30)]
    for name in READINGS:
        logs = [
            np.log(study().error[name][place(cov, n, data)]),
            np.log([errors[name] for errors in fresh]),
        ]
        gap = np.mean(logs[0]) - np.mean(logs[1])
        error = np.sqrt(sum(np.var(v, ddof=1) / len(v) for v in logs))
        assert abs(gap) < 4 * error, name


def test_triangles_stand_for_the_rows_at_every_covariance():
    rng, counts = np.random.default_rng(0), (2, 6)
    own, moved = rng.standard_normal((2, 2, 3, 7, 5))  # two gains, three trajectories
    both = np.concatenate([own, moved], axis=-1)
    triangles = _triangles(both, counts)
    for triangle, N in zip(triangles, counts, strict=True):
        for sigma in (0.0, 0.3, 10.0):
            rows = (own + sigma * moved)[:, : N // 2].reshape(-1, 5)
            short = triangle[:, :5] + sigma * triangle[:, 5:]
            np.testing.assert_allclose(short.T @ short, rows.T @ rows, atol=1e-11)


def test_fits_by_triangles_are_fits_to_all_rows():
    K = _gains(LQR, FIRST_GAIN, SHARES["five"])
    found = _fits(LQR, K, (0.0, 0.01), (10, 20), [3])
    rng = np.random.default_rng([3, 5])
    own = rollout(LQR, LinearPolicy(K), 4, 60, rng)
    quiet = replace(LQR, W=0 * LQR.W, X0=0 * LQR.X0)
    moved = rollout(quiet, GaussianPolicy(K, 1.0), 4, 60, rng)
    for s, N in enumerate((10, 20)):
        for c, sigma in enumerate((0.0, 0.1)):
            x = (own.x + sigma * moved.x)[:, : N // 5]
            u = (own.u + sigma * moved.u)[:, : N // 5].reshape(-1, 1)
            now, after = x[..., :-1, :].reshape(-1, 2), x[..., 1:, :].reshape(-1, 2)
            direct = model.fit(Transitions(now, u, np.zeros(len(u)), after))
            for name, part in zip(LinearModel._fields, found, strict=True):
                np.testing.assert_allclose(
                    part[0, c, s], getattr(direct, name), rtol=1e-8, atol=1e-10
                )


def test_seeds_depend_neither_on_the_executor_nor_on_each_other(monkeypatch):
    class Backwards:
        def map(self, function, items):
            return [function(i) for i in list(items)[::-1]][::-1]

    module = importlib.import_module("lqrlib.show.model_study")
    monkeypatch.setattr(module, "SEEDS", 3)
    monkeypatch.setattr(module, "TOGETHER", 2)
    again = show.model_study(LQR, FIRST_GAIN, executor=Backwards())
    for name, values in study().error.items():
        np.testing.assert_allclose(again.error[name], values[..., :3], rtol=1e-6)


@each_kind
def test_medians_follow_their_laws_where_errors_are_small(data):
    kind = list(SHARES).index(data)
    for name in READINGS:
        ratio = (medians(name) / study().law[name])[kind]
        small = study().law["planned gain"][kind] < 0.1
        assert small.sum() > 30
        # A median of 60 errors scatters by a tenth, of their squares by a quarter.
        log = np.log(ratio[small]) / (2 if name == "J above J*" else 1)
        assert np.abs(log).max() < np.log(1.5), name
        assert abs(log.mean()) < np.log(1.15), name  # cells share their seeds


def test_the_laws_have_their_powers_of_the_data_and_of_the_covariance():
    one, covs, counts = 0, np.array(study().covs), np.array(study().counts)
    for name, law in study().law.items():
        power = -1.0 if name == "J above J*" else -0.5
        slopes = np.polyfit(np.log(counts), np.log(law.reshape(-1, len(counts)).T), 1)
        np.testing.assert_allclose(slopes[0], power)
    low = covs < 2e-3
    for name, power in {
        "B": -0.5,
        "A": -0.5,
        "A + BK₀": 0.0,
        "J above J*": -1.0,
    }.items():
        law = np.log(study().law[name][one, low, 0])
        assert np.polyfit(np.log(covs[low]), law, 1)[0] == pytest.approx(
            power, abs=0.02
        )


def test_the_law_of_b_is_that_of_a_regression_on_the_noise():
    # Two independent errors with variance .01 / (σ² N T): the median of a Rayleigh law.
    for cov, law in zip(study().covs, study().law["B"][0, :, 2], strict=True):
        exact_law = np.sqrt(2 * np.log(2) * 0.01 / (cov * 6000)) / 0.1
        assert law == pytest.approx(exact_law, rel=0.06)


def test_one_gain_tells_its_loop_and_others_stand_in_for_noise():
    quietest = {name: medians(name)[:, 0, 2] for name in study().error}
    assert quietest["A + BK₀"].max() < 0.01
    assert quietest["B"][0] > 1 > 0.5 > quietest["B"][1] > 0.1 > quietest["B"][2]
    assert quietest["J above J*"][0] > 0.4
    assert quietest["J above J*"][2] < 0.01


def test_the_condition_is_one_of_the_kind_of_data_and_not_of_their_amount():
    ratio = study().condition[..., -1] / study().condition[..., 1]
    assert np.abs(np.log(ratio)).max() < 0.05
    low = np.log(study().condition[0, :5, 2])
    slope = np.polyfit(np.log(study().covs[:5]), low, 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)


def known(text):
    return float(text.replace(",", "")) / 100


@every_state
def test_the_words_say_what_the_study_holds(cov, n, data):
    words, at = explorer().show(cov=cov, n=n, data=data), place(cov, n, data)
    start = f"σ² = {cov:.3g}, N = {n:,}, medians: "
    assert start in words
    middle = {name: medians(name)[at] for name in study().error}
    found = re.search(r"A \+ BK₀ is known to (\S+)\s%", words)
    assert known(found[1]) == pytest.approx(middle["A + BK₀"], rel=0.06)
    for name, text, otherwise in (
        ("B", r" B to (\S+)\s%", "B is not known"),
        ("gradient", r"gradient at K₀ to (\S+)\s%", "gradient at K₀ is worthless"),
    ):
        if middle[name] > 1:
            assert otherwise in words
        else:
            assert known(re.search(text, words)[1]) == pytest.approx(
                middle[name], rel=0.06
            )
    plans = study().error["J above J*"][at]
    lost, count = re.search(r"unstable plans: (\d+) of (\d+)\.", words).groups()
    assert (int(lost), int(count)) == (np.isinf(plans).sum(), len(plans))
    above = re.search(r"planned gain costs (\S+)\s% above J\*;", words)
    if np.isinf(middle["J above J*"]):
        assert "costs infinite;" in words
    else:
        assert known(above[1]) == pytest.approx(middle["J above J*"], rel=0.06)
    condition = re.search(r"of the data: (\S+)\.$", words)[1]
    assert 100 * known(condition) == pytest.approx(study().condition[at], rel=0.06)
    assert "nan" not in words


@every_state
def test_marks_ticks_and_quartiles_are_at_their_values_or_behind_the_border(
    cov, n, data
):
    explorer().show(cov=cov, n=n, data=data)
    spread, *lines = explorer().moving[:13]
    ends = spread.get_xydata().reshape(-1, 3, 2)
    for row, name in enumerate(READINGS):
        at = place(cov, n, data)
        wanted = show.quartiles(study().error[name][at])
        shown = np.where(wanted > drawing._HIGH, drawing._NONE, wanted)
        tick, mark = lines[row], lines[row + 6]
        assert mark.get_xdata()[0] == pytest.approx(shown[1])
        inside = np.maximum(shown[[0, 2]], 1e-15)
        np.testing.assert_allclose(ends[row, :2, 0], inside)
        np.testing.assert_array_equal(ends[row, :2, 1], row)
        law = study().law[name][at]
        if law < drawing._HIGH:
            assert tick.get_xdata()[0] == pytest.approx(law)
        else:
            assert tick.get_xdata()[0] > 1200  # out of sight


def test_what_is_beyond_the_border_stands_behind_it_and_its_prediction_is_not_seen():
    beyond = {name: np.full_like(v, 150.0) for name, v in study().error.items()}
    laws = {name: np.full_like(v, 150.0) for name, v in study().law.items()}
    moving = show.model_explorer(study()._replace(error=beyond, law=laws)).moving
    for tick, mark in zip(moving[1:7], moving[7:13], strict=True):
        assert tick.get_xdata()[0] > tick.axes.get_xlim()[1]
        assert mark.get_xdata()[0] == pytest.approx(drawing._NONE)


@every_state
def test_curves_are_the_medians_and_laws_over_the_covariance(cov, n, data):
    explorer().show(cov=cov, n=n, data=data)
    kind, c, s = place(cov, n, data)
    lines, here = explorer().moving[13:-1], explorer().moving[-1]
    for i, name in enumerate(drawing._CURVES):
        for line, values in (
            (lines[i], study().law[name][kind, :, s]),
            (lines[i + 5], medians(name)[kind, :, s]),
        ):
            finite = np.isfinite(values)
            heights = np.array(line.get_ydata())
            np.testing.assert_allclose(heights[finite], values[finite])
            assert (heights[~finite] > drawing._HIGH).all()
    np.testing.assert_allclose(here.get_xdata(), study().covs[c])


def test_the_page_fits_and_opens_where_it_makes_its_point():
    assert len(export.html(explorer()).encode()) < 150_000
    assert explorer().default == {"cov": 0.01, "n": 100.0, "data": "one"}
    at = place(0.01, 100, "one")
    assert medians("A + BK₀")[at] < 0.005 < 0.1 < medians("B")[at]
    assert medians("J above J*")[at] < 0.02


def test_the_call_fits_a_model_to_rows_of_the_state():
    call = explorer().call.format(cov=0.01, n=100, data="'two'")
    found = eval(
        call, {"model": model, "show": show, "lqr": LQR, "K0": FIRST_GAIN, "np": np}
    )
    assert found.condition == pytest.approx(
        study().condition[place(0.01, 100, "two")], rel=0.1
    )


@each_kind
@pytest.mark.parametrize("n", [1, 10, 100.0])
def test_data_have_the_rows_and_the_gains_that_are_named(data, n):
    rng = np.random.default_rng(0)
    rows = show.model_data(LQR, FIRST_GAIN, data=data, cov=0.0, n=n, rng=rng)
    shares = SHARES[data]
    each = max(round(n / len(shares)), 1)
    assert len(rows.u) == 60 * each * len(shares)
    for i, share in enumerate(shares):
        K = FIRST_GAIN + share * (K_STAR - FIRST_GAIN)
        part = slice(60 * each * i, 60 * each * (i + 1))
        np.testing.assert_allclose(rows.u[part], rows.x[part] @ K.T, atol=1e-12)


def test_a_live_slider_between_two_values_shows_the_nearer_one():
    assert isinstance(live.widget(explorer()), ipywidgets.Widget)
    assert explorer().show(cov=0.012, n=90) == explorer().show(cov=0.01, n=100)


@pytest.mark.parametrize("gain", [K_STAR, FIRST_GAIN[None], -FIRST_GAIN, [[1.0]]])
def test_a_gain_that_cannot_make_the_data_is_refused(gain):
    with pytest.raises(ValueError, match=r"^K0: expected .+, found"):
        show.model_study(LQR, gain)


def test_data_of_no_kind_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^data: expected one or two or five, found"):
        show.model_data(LQR, FIRST_GAIN, data="six", cov=0.1, n=10, rng=rng)
