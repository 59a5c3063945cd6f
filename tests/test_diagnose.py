"""The diagnosis: its fields are the library's numbers, its words agree with them."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lqrlib import (
    LQR,
    GaussianPolicy,
    exact,
    forecast,
    model,
    studies,
    weight_moments,
    worlds,
)
from lqrlib.diagnose import CURVATURE_ERROR, ROWS, WITHIN, diagnose, diagnoses
from lqrlib.rollout import rollout, transitions

SETTINGS = studies.settings()
DOUBLE = SETTINGS["double integrator"]
every_world = pytest.mark.parametrize("name", SETTINGS)


def of(setting, cov=1.0, n=100):
    return diagnose(setting.lqr, setting.K0, cov, setting.horizon, n)


@every_world
def test_costs_are_exact(name):
    setting = SETTINGS[name]
    costs = of(setting).costs
    assert costs.start == exact.cost(setting.lqr, setting.K0)
    assert costs.data == exact.cost(setting.lqr, setting.K0, 1.0)
    assert costs.optimum == pytest.approx(setting.optimum)
    assert costs.distance == pytest.approx(setting.distance)


def test_weights_are_those_of_the_library():
    found, K = of(DOUBLE).weights, exact.optimal_gain(DOUBLE.lqr)
    way = K - DOUBLE.K0
    end = weight_moments.breakdown(DOUBLE.lqr, DOUBLE.K0, way, 1.0, 60)
    assert found.breakdown == float(end) < 1.0
    assert found.critical_cov == pytest.approx(15.04, abs=0.01)
    assert 1.0 < found.tail_index < 2.0
    assert found.error == np.inf


def test_above_the_critical_covariance_the_weights_have_a_standard_error():
    few, many = of(DOUBLE, 30.0, 100).weights, of(DOUBLE, 30.0, 10_000).weights
    assert few.breakdown > 1.0
    assert few.tail_index > 2.0
    assert 0.0 < many.error < few.error < 1.0
    assert few.error / many.error == pytest.approx(10.0)


@every_world
def test_at_the_optimum_no_gradient_is_there_to_be_uncertain_of(name):
    lqr = SETTINGS[name].lqr
    found = diagnose(lqr, exact.optimal_gain(lqr), 1.0, SETTINGS[name].horizon, 100)
    assert found.weights.error == np.inf
    assert "first gradient is zero, since this gain is K*" in " ".join(
        found.report().split()
    )


@every_world
def test_forecasts_are_those_of_the_laws_and_fall_like_one_over_n(name):
    setting = SETTINGS[name]
    few, many = of(setting, n=10), of(setting, n=1000)
    law = forecast.model_law(setting.lqr, setting.K0, 1.0, setting.horizon)
    rise = forecast.median_rise(setting.lqr, law) / setting.optimum
    assert few.model.excess == pytest.approx(rise / 10)
    for one, other in ((few.model, many.model), (few.critic, many.critic)):
        assert one.excess == pytest.approx(100 * other.excess)
        assert one.rows == pytest.approx(other.rows / 100)
        law = max(10 * one.excess / WITHIN, 10 * ROWS / one.rows)
        assert one.needed == other.needed == pytest.approx(law)
    assert few.curvature_error == pytest.approx(10 * many.curvature_error)


@pytest.mark.parametrize("cov", [0.0, 1.0, 30.0])
def test_another_number_of_trajectories_is_the_same_diagnosis(cov):
    there, again = of(DOUBLE, cov, 70).of(900), of(DOUBLE, cov, 900)
    for one, other in zip(there, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert str(there) == str(again)
    with pytest.raises(ValueError, match=r"^n: expected"):
        there.of(0)


def test_a_deterministic_gain_is_told_apart():
    found = of(DOUBLE, 0.0)
    assert not found.excitation.identifiable
    assert found.excitation.condition == np.inf
    assert found.excitation.given_state == 0.0
    assert found.weights.breakdown == 0.0
    assert found.model.needed == found.critic.needed == np.inf
    assert found.recommended == "none"
    assert found.arrives == ()
    words = " ".join(str(found).split())
    assert "give every action noise" in words
    assert "no density" in words
    assert str(of(DOUBLE, None)) == str(found)


def test_a_critic_whose_curvature_is_uncertain_is_not_recommended():
    found = of(DOUBLE, 0.03, 1000)
    assert found.curvature_error > CURVATURE_ERROR
    assert "dpg" not in found.arrives
    assert (found.recommended, found.without_model) == ("model", "none")
    assert of(DOUBLE, 1.0, 1000).arrives == ("model", "dpg")
    assert of(DOUBLE, 1.0, 1000).without_model == "dpg"


def short_of_rows(n):
    """Four states that are seen from a wide start, for five steps, and little noise."""
    eye = np.eye(4)
    lqr = LQR(0.9 * eye, eye[:, :2], eye, np.eye(2), 0.001 * eye, eye, 0.95)
    return lqr, np.zeros((2, 4)), 1.0, 5, n


def test_with_fewer_rows_than_unknowns_nothing_is_said_to_arrive():
    one = diagnose(*short_of_rows(1))
    assert one.model.excess < WITHIN  # what the law of small errors would promise
    assert one.arrives == ()
    assert one.recommended == one.without_model == "none"
    assert "0.37 effective rows per unknown" in " ".join(str(one).split())
    lqr, K, cov, T, _ = short_of_rows(1)
    ends = []
    for seed in range(20):
        data = rollout(lqr, GaussianPolicy(K, cov), 1, T, np.random.default_rng(seed))
        plan = exact.optimal_gain(model.fit(transitions(data)).problem(lqr))
        ends.append(exact.cost(lqr, plan) / one.costs.optimum - 1)
    assert np.median(ends) > 10 * WITHIN


def test_rows_are_effective_rows_for_each_unknown():
    found, p = of(DOUBLE, n=50), 3
    rows = 50 * forecast.effective_rows(DOUBLE.lqr, DOUBLE.K0, 1.0, 60)
    assert found.model.rows == pytest.approx(rows / p)
    assert found.critic.rows == pytest.approx(rows / (p * (p + 1) / 2 + 1))


@pytest.mark.parametrize("power", range(13))
def test_less_noise_never_makes_the_forecast_better(power):
    """Down to where rounding has the last word, and says that nothing is determined."""
    lqr = LQR(
        [[1.0, 0.1], [0.0, 0.9]],
        [[0.0], [0.1]],
        np.eye(2),
        np.eye(1),
        1e-6 * np.eye(2),
        np.eye(2),
        0.95,
    )
    K = np.array([[-0.5, -0.5]])
    here, less = (diagnose(lqr, K, 10.0**-k, 40, 50) for k in (power, power + 1))
    assert here.model.excess < less.model.excess or np.isinf(less.model.excess)
    assert here.critic.excess < less.critic.excess or np.isinf(less.critic.excess)
    assert here.curvature_error <= less.curvature_error


@pytest.mark.parametrize("share", [0.0, 1e-9, 3e-4, 0.5, 0.999, 7.0, 1e5])
def test_shares_are_written_without_exponents(share):
    found = of(DOUBLE)
    words = str(found._replace(model=found.model._replace(excess=share)))
    assert not re.search(r"\de[+-]?\d", words)
    assert "%" in words


@every_world
@pytest.mark.parametrize("cov", [0.01, 1.0])
@pytest.mark.parametrize("n", [10, 1000])
def test_the_words_agree_with_the_numbers(name, cov, n):
    found = of(SETTINGS[name], cov, n)
    assert max(map(len, found.report().splitlines())) <= 78
    words = found.report().replace("\n  ", " ")
    assert len(words.splitlines()) == 7
    assert "nan" not in words
    needed = re.search(r"fitted model: .* for 1%: ([\d,]+);", words).group(1)
    assert int(needed.replace(",", "")) == np.ceil(found.model.needed)
    enough = re.findall(r"(enough|too few)$", words, re.MULTILINE)
    parts = found.model, found.critic
    assert [w == "enough" for w in enough] == [part.needed <= n for part in parts]
    warned = re.findall(r"effective rows per unknown", words)
    assert len(warned) == sum(part.rows < ROWS for part in parts)
    named = {"model": "fitted model", "none": "none yet"}
    named["dpg"] = "deterministic gradient with LSTDQ"
    assert words.endswith(
        f"recommended: {named[found.recommended]}; "
        f"without a model: {named[found.without_model]}"
    )
    walled = "no second moment beyond" in words
    assert walled == (found.weights.breakdown <= 1.0)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("arrivals", "double integrator"),
        ("arrivals-rooms", "three rooms"),
        ("arrivals-laplacian", "Laplacian"),
    ],
)
def test_who_is_said_to_arrive_has_arrived(file, name):
    """Over the whole map: median ends within 1 % where the forecast is below a half."""
    record, setting = studies.load(f"book/records/{file}.npz"), SETTINGS[name]
    wrong = cells = 0
    for cov in record.axes["cov"]:
        if not 0.01 <= cov <= 30.0:
            continue
        one = of(setting, cov, 1)
        for expression, predicted in (("model", one.model), ("dpg", one.critic)):
            for n in (100, 1000, 10_000):
                runs = record.at(expression=expression, cov=cov, size=n)
                seen = np.median(runs) / setting.optimum - 1
                excess = predicted.excess / n
                error = one.curvature_error / np.sqrt(n) * (expression == "dpg")
                if excess < WITHIN / 2 and error < 0.2:
                    cells += 1
                    wrong += not seen < WITHIN
                if excess > 2 * WITHIN:
                    cells += 1
                    wrong += bool(seen < WITHIN)
    assert cells > 30
    assert wrong <= 0.05 * cells


def test_a_random_world_is_diagnosed_too():
    lqr = worlds.random(4, 2, np.random.default_rng(8))
    found = diagnose(lqr, np.zeros((2, 4)), 0.5, 40, 200)
    assert found.recommended in ("model", "dpg")
    assert found.excitation.identifiable


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lqr", {"lqr": None}),
        ("K", {"K": [[5.0, 5.0]]}),
        ("K", {"K": [[1.0]]}),
        ("cov", {"cov": -1.0}),
        ("cov", {"cov": np.ones((3, 1, 1))}),
        ("horizon", {"horizon": 0}),
        ("n", {"n": 0}),
        ("n", {"n": 1.5}),
        ("gamma", {"lqr": replace(DOUBLE.lqr, gamma=1.0)}),
        ("lqr", {"lqr": replace(DOUBLE.lqr, Q=np.zeros((2, 2)))}),
        ("lqr", {"lqr": replace(DOUBLE.lqr, X0=np.zeros((2, 2)), W=np.zeros((2, 2)))}),
    ],
)
def test_bad_input_is_refused_by_name(name, options):
    given = {"lqr": DOUBLE.lqr, "K": DOUBLE.K0, "cov": 1.0, "horizon": 60, "n": 100}
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        diagnose(**given | options)


@every_world
def test_several_covariances_at_once_are_diagnosed_as_each_alone(name):
    setting, covs = SETTINGS[name], (0.0, 0.1, 30.0)
    together = diagnoses(setting.lqr, setting.K0, covs, 20, 100)
    for cov, found in zip(covs, together, strict=True):
        alone = diagnose(setting.lqr, setting.K0, cov, 20, 100)
        assert np.allclose(found.weights, alone.weights, rtol=1e-9, atol=0.0)
        assert str(found) == str(alone)


def test_no_covariance_is_refused():
    with pytest.raises(ValueError, match="covs: expected at least one"):
        diagnoses(DOUBLE.lqr, DOUBLE.K0, [], 20, 100)
