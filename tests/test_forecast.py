"""First-order laws of what is learned from data: by hand, by formula, by sampling."""

import numpy as np
import pytest
import scipy.stats
from systems import plain_world

from lqrlib import GaussianPolicy, critic, exact, forecast, model, studies, worlds
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.rollout import rollout, transitions

SETTINGS = studies.settings()
every_world = pytest.mark.parametrize("name", SETTINGS)
SMALL = worlds.scalar()


def world_of(A: Array, B: Array, lqr: LQR) -> LQR:
    return LQR(A, B, lqr.Q, lqr.R, lqr.W, lqr.X0, lqr.gamma)


# Moments.


def test_one_state_two_steps_by_hand():
    lqr, k, s2 = SMALL, -0.5, 0.3
    a, b, w, x0 = (float(part.item()) for part in (lqr.A, lqr.B, lqr.W, lqr.X0))
    first = [[x0, k * x0], [k * x0, k * k * x0 + s2]]
    x1 = (a + b * k) ** 2 * x0 + b * b * s2 + w
    second = [[x1, k * x1], [k * x1, k * k * x1 + s2]]
    found = forecast.step_moments(lqr, [[k]], s2, 2)
    np.testing.assert_allclose(found, [first, second], rtol=1e-12)


@every_world
def test_step_moments_are_those_of_rollouts(name):
    setting, N = SETTINGS[name], 20_000
    rng = np.random.default_rng(11)
    data = rollout(setting.lqr, GaussianPolicy(setting.K0, 0.7), N, 5, rng)
    z = np.concatenate([data.x[:, :-1], data.u], axis=-1)
    each = np.einsum("kti,ktj->ktij", z, z)
    expected = forecast.step_moments(setting.lqr, setting.K0, 0.7, 5)
    score = (each.mean(axis=0) - expected) / (each.std(axis=0) / np.sqrt(N) + 1e-300)
    assert np.abs(score).max() < 4.5


# What identifies.


@pytest.mark.parametrize(("cov", "known"), [(0.0, False), (1e-8, True), (1.0, True)])
def test_noise_in_the_actions_identifies(cov, known):
    setting = SETTINGS["double integrator"]
    args = setting.lqr, setting.K0, cov, setting.horizon
    assert forecast.identifiable(*args) is known
    for law in (forecast.model_law(*args), forecast.critic_law(*args).gain):
        assert np.isfinite(law).all() == known
        assert known or np.isposinf(law).all()
    assert np.isfinite(
        forecast.median_rise(setting.lqr, forecast.model_law(*args))
    ) == (known)


def test_units_do_not_decide_what_is_identified():
    setting = SETTINGS["double integrator"]
    scale = np.diag([1e6, 1e-6])
    back = np.linalg.inv(scale)
    lqr = setting.lqr
    scaled = LQR(
        scale @ lqr.A @ back,
        scale @ lqr.B,
        back @ lqr.Q @ back,
        lqr.R,
        scale @ lqr.W @ scale,
        scale @ lqr.X0 @ scale,
        lqr.gamma,
    )
    assert forecast.identifiable(scaled, setting.K0 @ back, 1.0, 60)
    here, there = (
        forecast.median_rise(world, forecast.model_law(world, K, 1.0, 60))
        for world, K in ((lqr, setting.K0), (scaled, setting.K0 @ back))
    )
    assert there == pytest.approx(here, rel=1e-6)


# How many independent rows a trajectory is worth.


def test_independent_rows_count_one_each():
    lqr = LQR(
        np.zeros((2, 2)),
        np.zeros((2, 1)),
        np.eye(2),
        np.eye(1),
        np.diag([3.0, 0.2]),
        np.diag([3.0, 0.2]),
        0.9,
    )
    rows = forecast.effective_rows(lqr, [[0.4, -1.0]], 0.5, 17)
    assert rows == pytest.approx(17.0, rel=1e-12)


@every_world
def test_the_sum_of_squares_varies_as_that_of_so_many_rows(name):
    setting, N, T = SETTINGS[name], 40_000, 8
    rng = np.random.default_rng(21)
    data = rollout(setting.lqr, GaussianPolicy(setting.K0, 0.7), N, T, rng)
    z = np.concatenate([data.x[:, :-1], data.u], axis=-1)
    total = forecast.step_moments(setting.lqr, setting.K0, 0.7, T).sum(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(total), np.swapaxes(z, 1, 2))
    p = len(total)
    off = np.square(white @ white.mT - np.eye(p)).sum(axis=(1, 2))
    expected = p * (p + 1) / forecast.effective_rows(setting.lqr, setting.K0, 0.7, T)
    assert abs(off.mean() - expected) < 4.5 * off.std() / np.sqrt(N)


def test_rows_that_determine_nothing_count_nothing():
    setting = SETTINGS["double integrator"]
    assert forecast.effective_rows(setting.lqr, setting.K0, 0.0, 60) == 0.0


# The gain's slope.


@every_world
def test_the_slope_of_the_gain_is_that_of_differences(name):
    lqr, h = SETTINGS[name].lqr, 1e-6
    slope, n = forecast.gain_slope(lqr), lqr.n
    for i, p in ((0, 0), (n - 1, n), (0, n + lqr.m - 1)):
        AB = np.hstack([lqr.A, lqr.B])
        ends = []
        for sign in (1.0, -1.0):
            moved = AB.copy()
            moved[i, p] += sign * h
            ends.append(exact.optimal_gain(world_of(moved[:, :n], moved[:, n:], lqr)))
        np.testing.assert_allclose(
            slope[..., i, p], (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-7
        )


# The laws.


@every_world
@pytest.mark.parametrize("cov", [0.1, 1.0])
def test_the_model_s_law_is_that_of_sampled_influences(name, cov):
    setting = SETTINGS[name]
    law = forecast.model_law(setting.lqr, setting.K0, cov, setting.horizon)
    rise = forecast.median_rise(setting.lqr, law) / 100 / setting.optimum
    assert rise == pytest.approx(studies.model_forecast(setting, cov), rel=0.06)


@every_world
@pytest.mark.parametrize("cov", [0.1, 1.0])
def test_the_critic_s_law_is_that_of_sampled_influences(name, cov):
    setting = SETTINGS[name]
    law = forecast.critic_law(setting.lqr, setting.K0, cov, setting.horizon)
    rise = forecast.median_rise(setting.lqr, law.gain) / 100 / setting.optimum
    sampled = studies.critic_forecast(setting, cov, (1.0,), size=100)
    assert rise == pytest.approx(float(sampled.excess[0]), rel=0.12)


def gains(setting, cov, N, sets):
    """Gains of fitted models, and where policy iteration stops, less K*."""
    best = exact.optimal_gain(setting.lqr)
    for seed in range(sets):
        data = studies.batch(setting, cov, N, 900 + seed)
        rows = transitions(data)
        planned = exact.optimal_gain(model.fit(rows).problem(setting.lqr))
        sums, K = critic.sums(setting.lqr, rows), best
        for _ in range(6):
            K = K - critic.solve(setting.lqr, sums, K).gauss_newton(K)
        yield (planned - best).ravel(), (K - best).ravel()


@every_world
def test_gains_scatter_as_the_laws_say(name):
    setting, N, sets = SETTINGS[name], 400, 150
    planned, learned = np.swapaxes(list(gains(setting, 1.0, N, sets)), 0, 1)
    args = setting.lqr, setting.K0, 1.0, setting.horizon
    laws = forecast.model_law(*args), forecast.critic_law(*args).gain
    for runs, law in zip((planned, learned), laws, strict=True):
        L = np.linalg.cholesky(law / N)
        whitened = np.linalg.solve(L, runs.T)
        # A sum of squares of as many standard normals, but for higher orders in 1/N.
        total, count = np.square(whitened).sum(), whitened.size
        assert abs(total - count) / np.sqrt(2 * count) < 4.5
        assert np.abs(whitened.mean(axis=1)).max() < 4.5 / np.sqrt(sets)


def test_the_curvature_s_error_is_seen():
    setting, N = SETTINGS["double integrator"], 300
    law = forecast.critic_law(setting.lqr, setting.K0, 0.3, setting.horizon)
    best, found = exact.optimal_gain(setting.lqr), []
    for seed in range(200):
        rows = transitions(studies.batch(setting, 0.3, N, 500 + seed))
        found.append(critic.lstdq(setting.lqr, rows, best).Theta[2, 2])
    true = exact.q_matrix(setting.lqr, best)[2, 2]
    seen = np.std(found) / true * np.sqrt(N)
    assert seen == pytest.approx(law.curvature, rel=0.2)


def test_of_one_more_trajectory_nothing_but_the_number_is_left():
    """Laws are one trajectory's share: median_rise is proportional."""
    setting = SETTINGS["three rooms"]
    law = forecast.model_law(setting.lqr, setting.K0, 1.0, 60)
    one, tenth = (forecast.median_rise(setting.lqr, part) for part in (law, law / 10))
    assert tenth == pytest.approx(one / 10, rel=1e-9)


# Weighted sums of squares.


@pytest.mark.parametrize("degrees", [1, 2, 3, 9])
def test_equal_weights_are_a_chi_square(degrees):
    law = scipy.stats.chi2(degrees)
    ones = np.ones(degrees)
    for q in (0.05, 0.5, 0.95):
        assert forecast.weighted_cdf(ones, law.ppf(q)) == pytest.approx(q, abs=1e-7)
    assert forecast.weighted_median(3.0 * ones) == pytest.approx(3.0 * law.median())


def test_unequal_weights_are_as_sampled():
    weights = np.array([5.0, 1.0, 0.2, 1e-9])
    xi = np.random.default_rng(2).standard_normal((400_000, 4))
    total = (weights * xi * xi).sum(axis=1)
    median = forecast.weighted_median(weights)
    share = (total < median).mean()
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(len(total))


def test_no_weight_has_median_zero():
    assert forecast.weighted_median(np.zeros(3)) == 0.0


# Refusals.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("K", {"K": np.zeros((3, 1))}),
        ("K", {"K": np.zeros((4, 2, 3))}),
        ("cov", {"cov": -1.0}),
        ("cov", {"cov": np.zeros((5, 2, 2))}),
        ("horizon", {"horizon": 0}),
        ("horizon", {"horizon": 2.5}),
    ],
)
@pytest.mark.parametrize(
    "law", [forecast.model_law, forecast.critic_law, forecast.effective_rows]
)
def test_bad_input_is_refused_by_name(law, name, options):
    given = {"K": np.zeros((2, 3)), "cov": 1.0, "horizon": 5} | options
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        law(plain_world(), **given)


def test_a_critic_needs_a_discount():
    lqr = plain_world(gamma=1.0)
    with pytest.raises(ValueError, match=r"^gamma: expected"):
        forecast.critic_law(lqr, np.zeros((2, 3)), 1.0, 5)
