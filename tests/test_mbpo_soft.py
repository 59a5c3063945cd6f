"""MBPO with the soft update: a step that finds its own covariance."""

import numpy as np
import pytest
from systems import FIRST_GAIN, close, plain_policy, plain_world

from lqrlib import MBPOSettings, Status, exact, rates, soft, worlds
from lqrlib.critic import lstdq
from lqrlib.mbpo import mbpo, sweep
from lqrlib.policy import GaussianPolicy
from lqrlib.rollout import Transitions, rollout, transitions

MAIN = worlds.double_integrator()
RUN = {"n_trajectories": 8, "horizon": 10, "updates": 2, "collections": 3}


def settings_for(expression="soft", **changes):
    """Settings that take milliseconds."""
    given = {"K0": FIRST_GAIN, "expression": expression, "real_ratio": 0.4} | RUN
    if expression == "soft":
        given["temperature"] = 0.5
    return MBPOSettings(**(given | changes))


def run(settings, lqr=MAIN, seed=0):
    return mbpo(lqr, settings, np.random.default_rng(seed))


def by_hand(lqr, settings, seed):
    """Gains and covariances on real rows only, one update after the other."""
    rng, K = np.random.default_rng(seed), np.asarray(settings.K0)
    cov, rows, tau = np.asarray(settings.cov), [], settings.temperature
    gains, covs = [K], [cov]
    N, T, size = settings.n_trajectories, settings.horizon, lqr.n + lqr.m
    for number in range(1, settings.collections + 1):
        data = rollout(lqr, GaussianPolicy(K, cov), N, T, rng)
        rows.append(transitions(data))
        for _ in range(settings.updates):
            order = rng.permutation(number * N)
            rng.standard_normal((T, size, N))  # the model's rows, which nobody needs
            if number > 1:
                pytest.fail("one collection is enough here")
            some = np.repeat(order < N, T)
            batch = Transitions(*(part[some] for part in rows[0]))
            found = lstdq(lqr, batch, K)
            K = K - settings.damping * found.gauss_newton(K)
            cov = 0.5 * tau * np.linalg.inv(found.Theta[lqr.n :, lqr.n :])
            gains.append(K)
            covs.append(cov)
    return np.stack(gains), np.stack(covs)


def test_on_real_rows_it_is_damped_soft_policy_iteration_by_lstdq():
    lqr, (K, cov) = plain_world(), plain_policy()
    settings = settings_for(
        K0=K, cov=cov, real_ratio=1.0, collections=1, updates=3, n_trajectories=40
    )
    found, (gains, covs) = run(settings, lqr), by_hand(lqr, settings, 0)
    close(found.K, gains, rtol=1e-7, atol=1e-9)
    close(found.cov, covs, rtol=1e-7, atol=1e-9)


def test_with_much_data_it_arrives_at_the_soft_optimum():
    settings = settings_for(n_trajectories=400, horizon=60, updates=8)
    found, best = run(settings), soft.optimal_policy(MAIN, 0.5)
    close(found.K[-1], best.K, rtol=0.05)
    close(found.cov[-1], best.cov, rtol=0.05)
    assert found.cov.shape == (25, 1, 1)
    close(found.cov[0], np.eye(1), rtol=0)


def test_the_policy_collects_with_the_covariance_that_it_has_found():
    """Actions of a cold policy hardly vary, and the critic's features show it."""
    hot, cold = (
        run(settings_for(temperature=tau, real_ratio=1.0, batch_size=8))
        for tau in (10.0, 1e-6)
    )
    assert cold.condition[-1] > 2 * hot.condition[-1]
    close(cold.condition[0], hot.condition[0], rtol=0)


def test_model_rows_act_with_the_covariance_that_it_has_found():
    hot, cold = (
        run(settings_for(temperature=tau, real_ratio=0.0)) for tau in (10.0, 1e-6)
    )
    assert cold.condition[1] > 10 * hot.condition[1]
    close(cold.condition[0], hot.condition[0], rtol=0)


def test_covariances_stay_symmetric_and_positive_definite():
    lqr, (K, cov) = plain_world(), plain_policy()
    grid = {"temperature": (1e-3, 1.0), "real_ratio": (0.0, 0.5, 1.0)}
    found = sweep(lqr, settings_for(K0=K, cov=cov), grid, range(10)).history
    assert found.cov.shape == (7, 2, 3, 10, 2, 2)
    close(found.cov, found.cov.mT, rtol=0, atol=0)
    assert (np.linalg.eigvalsh(found.cov) > 0).all()
    assert (found.status != Status.DIVERGED).any()


@pytest.mark.parametrize("mixing", ["stratified", "bernoulli"])
def test_cells_of_a_soft_sweep_are_their_own_mbpo_bit_for_bit(mixing):
    axes = {"cov": (0.1, 2.0), "temperature": (0.1, 1.0), "real_ratio": (0.0, 0.4, 1.0)}
    base = settings_for(mixing=mixing, lag=0.2, members=3)
    found = sweep(MAIN, base, axes, [0, 5]).history
    for place in np.ndindex(2, 2, 3, 2):
        values = [axis[i] for axis, i in zip(axes.values(), place, strict=False)]
        cell = dict(zip(axes, values, strict=True))
        alone = run(
            settings_for(mixing=mixing, lag=0.2, members=3, **cell),
            seed=[0, 5][place[-1]],
        )
        for name in ("K", "cov", "cost", "rank", "condition"):
            close(getattr(found, name)[:, *place], getattr(alone, name), rtol=0, atol=0)


@pytest.mark.parametrize("expression", ["hack", "dpg", "pathwise", "model"])
def test_other_expressions_keep_their_covariance(expression):
    found = run(settings_for(expression, cov=0.3))
    assert found.cov.shape == (7, 1, 1)
    assert (found.cov == 0.3).all()


def test_without_any_noise_the_critic_is_refused_and_the_policy_stays():
    found = run(settings_for(cov=0.0, real_ratio=0.0))
    assert found.status == Status.REFUSED
    assert (found.cov == 0.0).all()
    assert (found.K == FIRST_GAIN).all()


def test_where_the_curvature_is_not_definite_the_policy_stays():
    """Two short trajectories of little noise make critics of any sign."""
    base = settings_for(cov=1e-4, real_ratio=1.0, n_trajectories=2, collections=1)
    found = sweep(MAIN, base, {}, range(200)).history
    stayed = (found.cov[1] == found.cov[0]).all(axis=(-2, -1))
    assert 0.1 < stayed.mean() < 0.9
    assert ((found.K[1] == found.K[0]).all(axis=(-2, -1)) == stayed).all()


def test_a_lost_path_keeps_its_covariance():
    base = settings_for(cov=1e-3, real_ratio=1.0, n_trajectories=2, damping=1.9)
    found = sweep(MAIN, base, {}, range(100)).history
    lost = ~exact.is_stable(MAIN, found.K)
    assert lost.any()
    after = lost[:-1]
    close(found.cov[1:][after], found.cov[:-1][after], rtol=0, atol=0)


def test_the_covariance_follows_the_curvature_of_the_gain_before():
    settings = settings_for(n_trajectories=2000, horizon=40, updates=2, collections=1)
    found = run(settings)
    wanted = 0.25 / rates.curvature(MAIN, found.K[:-1])
    close(found.cov[1:], wanted, rtol=0.1)


@pytest.mark.parametrize("tau", [None, 0.0, -1.0, np.nan, "warm", True])
def test_the_soft_update_needs_a_temperature_above_zero(tau):
    with pytest.raises(ValueError, match=r"^temperature: expected .+, found"):
        settings_for(temperature=tau)


@pytest.mark.parametrize("expression", ["hack", "dpg", "pathwise", "model"])
def test_no_other_expression_has_a_temperature(expression):
    with pytest.raises(ValueError, match="temperature: expected None unless soft"):
        settings_for(expression, temperature=0.5)
