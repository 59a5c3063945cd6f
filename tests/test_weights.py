"""Weights against SciPy's densities; their second moment against one determinant."""

import dataclasses
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
    stabilised,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, worlds
from lqrlib.rollout import concatenate, rollout
from lqrlib.weights import effective_sample_size, log_weights, second_moment

MAIN = worlds.double_integrator()
HORIZONS = pytest.mark.parametrize("T", [1, 2, 3, 6])


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
    plain = GaussianPolicy(K, cov)
    for i in np.ndindex(lead):
        one = data._replace(x=x[i], u=u[i], policy=plain)
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


# The exact second moment.


def as_one_determinant(lqr, K, K_b, cov, T):
    """E[w²] = E exp(v'Mv) = det(I − 2M)^(−½), v all the noise of T steps stacked.

    log w² = Σ_t ξ'ξ − e'Σ⁻¹e with u = K_b x + Lξ and e = u − Kx.
    """
    n, m = lqr.n, lqr.m
    size = n + T * (m + n)
    L = np.linalg.cholesky(cov)
    x = np.linalg.cholesky(lqr.X0) @ np.eye(n, size)  # linear in v, like all below
    M = np.zeros((size, size))
    for t in range(T):
        normals = np.eye(m + n, size, k=n + t * (m + n))
        xi, zeta = normals[:m], normals[m:]
        e = L @ xi - (K - K_b) @ x
        M += xi.T @ xi - e.T @ np.linalg.solve(cov, e)
        u = K_b @ x + L @ xi
        x = lqr.A @ x + lqr.B @ u + np.linalg.cholesky(lqr.W) @ zeta
    values = np.linalg.eigvalsh(np.eye(size) - 2 * M)
    return np.prod(values) ** -0.5 if values[0] > 0 else np.inf


@HORIZONS
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3), (5, 3)])
def test_the_second_moment_is_one_determinant_of_all_noise_at_once(n, m, T):
    lqr, K_b, cov = system(n, m)
    direction = np.random.default_rng(4).standard_normal((m, n))
    steps = np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0])
    targets = K_b + steps[:, None, None] * direction
    dense = [as_one_determinant(lqr, K, K_b, cov, T) for K in targets]
    assert np.isfinite(dense[:3]).all()
    assert dense[-1] == np.inf
    close(second_moment(lqr, targets, K_b, cov, T), dense, rtol=1e-8)


@pytest.mark.parametrize("T", [5, 20])
def test_it_is_so_for_an_unstable_behaviour_as_well(T):
    K_b = np.array([[0.5, 0.3]])  # ρ(A + BK_b) > 1
    K, cov = K_b + np.array([[-0.02, 0.01]]), np.array([[0.7]])
    dense = as_one_determinant(MAIN, K, K_b, cov, T)
    assert second_moment(MAIN, K, K_b, cov, T) == pytest.approx(dense, rel=1e-9)


def test_of_one_scalar_step_by_hand():
    # E exp(δ²x²/σ²), x ~ N(0, X₀): (1 − 2δ²X₀/σ²)^(−½), while 2δ²X₀ < σ².
    lqr = worlds.scalar(x0=3.0)
    delta = np.array([0.0, 0.2, -0.3, 0.5])
    found = second_moment(lqr, (delta - 0.7)[:, None, None], [[-0.7]], 0.6, 1)
    close(found, [*(1 - 10 * delta[:3] ** 2) ** -0.5, np.inf], rtol=1e-13)


def test_of_two_scalar_steps_by_hand():
    # Given x₀ = x: E exp(s x₁²) with x₁ ~ N(f x, v); s = δ²/σ², f = a + b(K_b + 2δ).
    s, f, v = 0.1**2 / 0.5, 1.1 + (-0.6 + 0.2), 0.1 + 0.5
    shrunk = 1 - 2 * s * v
    at_start = s + s * f**2 / shrunk
    by_hand = (shrunk * (1 - 2 * at_start)) ** -0.5
    found = second_moment(worlds.scalar(), [[-0.5]], [[-0.6]], 0.5, 2)
    assert found == pytest.approx(by_hand, rel=1e-13)


def test_sampled_weights_have_the_exact_second_moment():
    lqr, K, cov = system(3, 2)
    # Near enough for an eighth moment, so that the z-score may be trusted.
    target = K + 0.01 * np.random.default_rng(1).standard_normal((2, 3))
    data = gaussian_data(lqr, K, cov, 20_000, 6)
    w = np.exp(log_weights(data, GaussianPolicy(target, cov))[:, -1])
    exact = second_moment(lqr, target, K, cov, 6)
    assert exact > 1.005
    assert abs(z_scores(w**2, exact)) < MOST


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1), st.integers(1, 30)
)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_it_is_one_only_where_the_policies_agree_and_grows_with_the_horizon(
    n, m, seed, T
):
    lqr, K_b, rng = stabilised(n, m, seed)
    cov = spd(m, rng)
    assert second_moment(lqr, K_b, K_b, cov, T) == 1.0
    target = K_b + 0.02 * rng.standard_normal((m, n))
    shorter, longer = (second_moment(lqr, target, K_b, cov, t) for t in (T, T + 1))
    assert 1.0 < shorter <= longer * (1 + 1e-12)


@pytest.mark.parametrize(
    ("gain_lead", "behaviour_lead", "cov_lead"),
    [
        ((4,), (), ()),
        ((), (4,), ()),
        ((), (), (4,)),
        ((2, 1), (3,), (2, 1)),
        ((), (), ()),
    ],
    ids=str,
)
def test_many_second_moments_equal_a_loop(gain_lead, behaviour_lead, cov_lead):
    lqr, K, cov = system(3, 2)
    rng = np.random.default_rng(5)
    targets = K + 0.15 * rng.standard_normal((*gain_lead, 2, 3))
    behaviours = K + 0.05 * rng.standard_normal((*behaviour_lead, 2, 3))
    covs = rng.uniform(0.5, 1.5, (*cov_lead, 1, 1)) * cov
    together = second_moment(lqr, targets, behaviours, covs, 5)
    lead = np.broadcast_shapes(gain_lead, behaviour_lead, cov_lead)
    assert np.shape(together) == lead
    targets, behaviours, covs = (
        np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in (targets, behaviours, covs)
    )
    for i in np.ndindex(lead):
        alone = second_moment(lqr, targets[i], behaviours[i], covs[i], 5)
        assert together[i] == pytest.approx(alone, rel=1e-12)


def test_far_away_it_is_infinite_and_never_nan():
    for size in (1e3, 1e100, 1e160, 1e300):
        K = size * np.array([[1.0, -1.0]])
        assert second_moment(MAIN, K, FIRST_GAIN, 1.0, 50) == np.inf
    unstable = np.array([[30.0, 30.0]])
    assert second_moment(MAIN, unstable, unstable, 1.0, 1000) == 1.0


def test_a_world_without_noise_and_start_has_weights_that_never_vary():
    # Without W, X₀ and with B = 0 the states are 0, and every gain acts alike.
    still = np.zeros((2, 2))
    lqr = dataclasses.replace(
        MAIN, A=0.5 * np.eye(2), B=still[:, :1], W=still, X0=still
    )
    assert second_moment(lqr, [[5.0, 5.0]], FIRST_GAIN, 1.0, 10) == 1.0


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, None, "3"])
def test_a_horizon_that_is_no_count_is_refused_by_name(horizon):
    with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
        second_moment(MAIN, FIRST_GAIN, FIRST_GAIN, 1.0, horizon)
