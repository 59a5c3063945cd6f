"""Sampled weights against SciPy's densities, and what a set of them is worth."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from systems import (
    FIRST_GAIN,
    MOST,
    close,
    gaussian_data,
    spd,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, worlds
from lqrlib.rollout import concatenate, rollout
from lqrlib.weights import effective_sample_size, log_weights

MAIN = worlds.double_integrator()


def log_density(K, cov, x, u):
    return multivariate_normal(K @ x, cov).logpdf(u)


def by_hand(data, behaviours, K, cov):
    """Cumulated differences of SciPy's log densities, one step at a time."""
    logs = []
    for x, u, made_by in zip(data.x, data.u, behaviours, strict=True):
        steps = [
            log_density(K, cov, *step) - log_density(*made_by, *step)
            for step in zip(x[:-1], u, strict=True)
        ]
        logs.append(list(itertools.accumulate(steps)))
    return logs


# Sampled weights.


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (2, 3)])
def test_log_weights_are_cumulated_differences_of_scipys_log_densities(n, m):
    lqr, K, cov = system(n, m)
    target, other = 0.8 * K, spd(m, np.random.default_rng(1))
    data = gaussian_data(lqr, K, cov, 5, 4)
    expected = by_hand(data, [(K, cov)] * 5, target, other)
    close(log_weights(data, GaussianPolicy(target, other)), expected, atol=1e-10)


def test_every_trajectory_is_weighed_by_the_policy_that_made_it():
    lqr, K, cov = system(3, 2)
    made_by = [(K, cov), (0.5 * K, 2 * cov), (0.0 * K, cov)]
    data = concatenate([gaussian_data(lqr, *each, 2, 4) for each in made_by])
    expected = by_hand(data, [each for each in made_by for _ in range(2)], 0.8 * K, cov)
    close(log_weights(data, GaussianPolicy(0.8 * K, cov)), expected, atol=1e-10)


def test_a_scalar_weight_by_hand():
    # x = 1, u = K_b x + 2·ξ = −1 + 1 = 0; log w = (1² − (0 − 2)²)/(2·4) = −3/8.
    lqr = worlds.scalar()
    data = rollout(
        lqr,
        GaussianPolicy([[-1.0]], 4.0),
        1,
        1,
        np.random.default_rng(0),
        x0=[[1.0]],
        noise=[[[0.5, 0.0]]],
    )
    found = log_weights(data, GaussianPolicy([[2.0]], 4.0))
    assert found == pytest.approx(-0.375, rel=1e-14)


def test_the_policy_that_made_the_data_has_weight_one():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, K, cov, 5, 4)
    np.testing.assert_array_equal(log_weights(data, GaussianPolicy(K, cov)), 0.0)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2), (2, 3)])
def test_weights_have_mean_one_at_every_step(n, m):
    lqr, K, cov = system(n, m)
    data = gaussian_data(lqr, K, cov, 20_000, 5)
    # Well within the region where weights have a second moment.
    target = K + 0.02 * np.random.default_rng(2).standard_normal((m, n))
    w = np.exp(log_weights(data, GaussianPolicy(target, 0.95 * cov)))
    assert w.std(axis=0).min() > 0.02
    assert np.abs(z_scores(w, 1.0)).max() < MOST


@pytest.mark.parametrize(
    ("gain_lead", "cov_lead", "data_lead"),
    [((4,), (), ()), ((), (4,), ()), ((), (), (4,)), ((3, 1), (), (4,))],
    ids=str,
)
def test_batches_of_policies_and_of_data_equal_a_loop(gain_lead, cov_lead, data_lead):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (*data_lead, 2, 3)), cov, 5, 4)
    rng = np.random.default_rng(3)
    targets = K + 0.1 * rng.standard_normal((*gain_lead, 2, 3))
    scales = rng.uniform(0.5, 1.5, (*cov_lead, 1, 1))
    together = log_weights(data, GaussianPolicy(targets, scales * cov))
    lead = np.broadcast_shapes(gain_lead, cov_lead, data_lead)
    assert together.shape == (*lead, 5, 4)
    targets, covs = (
        np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in (targets, scales * cov)
    )
    x, u = (np.broadcast_to(a, (*lead, *a.shape[-3:])) for a in (data.x, data.u))
    cost = np.broadcast_to(data.cost, (*lead, 5, 4))
    plain = GaussianPolicy(K, cov)
    for i in np.ndindex(lead):
        one = data._replace(x=x[i], u=u[i], cost=cost[i], policy=plain)
        alone = log_weights(one, GaussianPolicy(targets[i], covs[i]))
        close(together[i], alone, rtol=1e-12, atol=1e-12)


def test_diverged_data_have_weight_zero_and_no_nan():
    lqr = worlds.scalar()
    data = gaussian_data(lqr, [[20.0]], 1.0, 3, 400)
    for gain in (-0.5, 20.0, 1e200):
        logs = log_weights(data, GaussianPolicy([[gain]], 1.0))
        np.testing.assert_array_equal(logs[:, -1], -np.inf)
        assert not np.isnan(logs).any()


@pytest.mark.parametrize("who", ["policy", "trajectories"])
def test_a_deterministic_policy_has_no_weights_and_is_refused_by_name(who):
    lqr, K, cov = system(3, 2)
    policies = {"policy": GaussianPolicy(K, cov), "trajectories": GaussianPolicy(K, 1)}
    policies[who] = LinearPolicy(K)
    data = rollout(lqr, policies["trajectories"], 2, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=rf"^{who}: expected .* found .*no density"):
        log_weights(data, policies["policy"])


@pytest.mark.parametrize("shape", [(2, 2), (1, 1), (1, 3)])
def test_a_policy_of_another_size_is_refused_by_name(shape):
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 4, 3)
    with pytest.raises(ValueError, match=r"^policy: expected .*, found"):
        log_weights(data, GaussianPolicy(np.zeros(shape), 1.0))


def test_leading_axes_that_do_not_fit_the_data_are_refused_by_name():
    data = gaussian_data(MAIN, [FIRST_GAIN] * 2, 1.0, 4, 3)
    with pytest.raises(ValueError, match=r"^policy: expected leading axes"):
        log_weights(data, GaussianPolicy([FIRST_GAIN] * 3, 1.0))


# The effective sample size.


@pytest.mark.parametrize(
    ("w", "size"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4.0),
        ([5.0], 1.0),
        ([1.0, 1e-300, 0.0], 1.0),
        ([3.0, 1.0], 1.6),  # 16/10
        ([0.0, 2.0, 2.0], 2.0),
        ([0.0, 0.0], 0.0),
    ],
)
def test_effective_sample_size_by_hand(w, size):
    with np.errstate(divide="ignore"):
        logs = np.log(w)
    assert effective_sample_size(logs) == pytest.approx(size, rel=1e-13)


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=20), st.floats(-1e6, 1e6))
@settings(deadline=None, derandomize=True)
def test_effective_sample_size_lies_between_one_and_n_whatever_the_scale(logs, shift):
    size = effective_sample_size(logs)
    assert 1.0 - 1e-12 <= size <= len(logs) * (1.0 + 1e-12)
    assert effective_sample_size(np.add(logs, shift)) == pytest.approx(size, rel=1e-8)


def test_effective_sample_sizes_of_many_are_those_of_each():
    logs = np.random.default_rng(0).standard_normal((2, 3, 5))
    sizes = effective_sample_size(logs)
    assert sizes.shape == (2, 3)
    for i in np.ndindex(2, 3):
        assert sizes[i] == effective_sample_size(logs[i])
