"""LSTDQ: exact on exact data, calibrated on noisy data, and frank about poor data."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import (
    FIRST_GAIN,
    MOST,
    close,
    gaussian_data,
    random_world,
    steps_of,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, exact, worlds
from lqrlib.critic import (
    Critic,
    exact_critic,
    feature_count,
    lift,
    linearised,
    lstdq,
    moments,
    of_gaussian,
    path_moments,
    products,
    solve,
    sums,
)
from lqrlib.rollout import Transitions, concatenate, rollout, transitions

SIZES = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
MAIN = worlds.double_integrator()


def without_noise(lqr, **changes):
    return dataclasses.replace(lqr, W=np.zeros_like(lqr.W), **changes)


def other_gain(K):
    """A gain near the one that made the data, so that they are off-policy."""
    return K + 0.05 * np.random.default_rng(8).standard_normal(K.shape)


def features(z):
    """(z_i z_j, twice where i < j; 1), written out."""
    pairs = [
        (1 if i == j else 2) * z[i] * z[j]
        for i in range(len(z))
        for j in range(i, len(z))
    ]
    return np.array([*pairs, 1.0])


def by_hand(gamma, data, K, share=None):
    """θ̂ of the empirical normal equations, one step at a time; a share a trajectory.

    At γ = 1 without the constant, which cancels there.
    """
    T, kept = data.cost.shape[-1], slice(None) if gamma < 1.0 else slice(-1)
    left, right = 0.0, 0.0
    for place, (x, u, cost, x_next) in enumerate(steps_of(data)):
        weight = 1.0 if share is None else share[place // T]
        phi = features(np.concatenate([x, u]))[kept]
        phi_next = features(np.concatenate([x_next, K @ x_next]))[kept]
        left = left + weight * np.outer(phi, phi - gamma * phi_next)
        right = right + weight * cost * phi
    return np.linalg.solve(left, right)


def as_parameters(Theta, const):
    return np.append(Theta[np.triu_indices(len(Theta))], const)


def true_constant(lqr, K):
    """What Q(x, u) − z'Θz is: γ/(1−γ) tr(P W)."""
    noise = np.trace(exact.value_matrix(lqr, K) @ lqr.W)
    return lqr.gamma / (1.0 - lqr.gamma) * noise


# Exact data, exact answer.


@SIZES
def test_without_noise_in_the_world_it_is_the_exact_action_value(n, m):
    lqr, K, cov = system(n, m)
    lqr = without_noise(lqr)
    rows = transitions(gaussian_data(lqr, K, cov, 60, 6))
    target = other_gain(K)
    found = lstdq(lqr, rows, target)
    truth = exact.q_matrix(lqr, target)
    scale = np.abs(truth).max()
    assert found.determined
    assert found.plausible
    close(found.Theta, truth, rtol=0, atol=1e-8 * scale)
    close(found.const, 0.0, rtol=0, atol=1e-8 * scale)
    close(found.gain_error(target), exact.gain_error(lqr, target), atol=1e-7 * scale)
    close(found.gauss_newton(target), exact.gauss_newton(lqr, target), atol=1e-6)


@SIZES
def test_it_is_so_without_discount_too_where_no_constant_is_fitted(n, m):
    rng = np.random.default_rng([n, m])
    lqr = without_noise(random_world(n, m, rng), gamma=1.0)
    K = np.zeros((m, n))  # ρ(A) = .9
    found = lstdq(lqr, transitions(gaussian_data(lqr, K, 0.5, 60, 6)), K)
    truth = exact.q_matrix(lqr, K)
    close(found.Theta, truth, rtol=0, atol=1e-8 * np.abs(truth).max())
    assert found.const == 0.0
    assert found.rank == feature_count(lqr) == (n + m) * (n + m + 1) // 2


def test_a_scalar_action_value_by_hand():
    # f = 1.1 − .6 = .5, P = (1 + .36)/(1 − .9/4), Θ = [[1 + .9a²P, .9aP], [·, 1 + .9P]]
    lqr = worlds.scalar(w=0.0)
    P = 1.36 / (1 - 0.225)
    a = 1.1
    by_hand = [[1 + 0.9 * a * a * P, 0.9 * a * P], [0.9 * a * P, 1 + 0.9 * P]]
    rows = transitions(gaussian_data(lqr, [[-0.5]], 1.0, 20, 3))
    close(lstdq(lqr, rows, [[-0.6]]).Theta, by_hand, rtol=1e-10)


@SIZES
def test_it_solves_the_empirical_normal_equations(n, m):
    lqr, K, cov = system(n, m)
    data, target = gaussian_data(lqr, K, cov, 30, 4), other_gain(K)
    found = lstdq(lqr, transitions(data), target)
    expected = by_hand(lqr.gamma, data, target)
    scale = np.abs(expected).max()
    close(as_parameters(*found[:2]), expected, rtol=0, atol=1e-8 * scale)
    phi = np.array([features(np.append(x, u)) for x, u, *_ in steps_of(data)])
    condition = np.linalg.cond(phi / np.linalg.norm(phi, axis=0))
    assert found.condition == pytest.approx(condition, rel=1e-6)
    np.testing.assert_array_equal(found.Theta, found.Theta.T)


# Noisy data.


def many_estimates(n, m, n_trajectories, batch=200):
    """Estimates of one Θ from many data sets, their standard errors, and the truth."""
    lqr, K, cov = system(n, m)
    behaviour = np.broadcast_to(K, (batch, m, n))
    data = gaussian_data(lqr, behaviour, cov, n_trajectories, 6)
    target = other_gain(K)
    found, moved = linearised(lqr, data, target)
    error = moved.std(axis=1) / np.sqrt(n_trajectories)
    truth = exact.q_matrix(lqr, target)
    return found, error, truth, true_constant(lqr, target)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_off_policy_estimates_scatter_around_the_truth_as_they_say(n, m):
    found, error, truth, const = many_estimates(n, m, 600)
    assert np.abs(z_scores(found.Theta, truth)).max() < MOST
    assert np.abs(z_scores(found.const, const)).max() < MOST
    ratio = found.Theta.std(axis=0) / error.mean(axis=0)
    assert 0.8 < ratio.min() <= ratio.max() < 1.25


def test_the_error_falls_like_one_over_the_root_of_the_data():
    errors = []
    for N in (125, 2000):
        found, _, truth, _ = many_estimates(2, 1, N)
        errors.append(np.sqrt(np.square(found.Theta - truth).mean()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_what_each_trajectory_moves_is_the_slope_in_its_share_of_the_data(gamma):
    lqr, K, cov = system(2, 1)
    lqr, N = dataclasses.replace(lqr, gamma=gamma), 12
    data = gaussian_data(lqr, K, cov, N, 4)
    found, moved = linearised(lqr, data, K)
    close(found.Theta, lstdq(lqr, transitions(data), K).Theta, rtol=1e-10)
    close(moved.mean(axis=0), 0.0, rtol=0, atol=1e-9 * np.abs(moved).max())
    h = 1e-4
    for i, unit in enumerate(np.eye(N)):
        ahead, behind = (
            by_hand(gamma, data, K, 1.0 + side * unit)[:6] for side in (h, -h)
        )
        slope = N * (ahead - behind) / (2 * h)
        upper = moved[i][np.triu_indices(3)]
        close(upper, slope, rtol=1e-4, atol=1e-4 * np.abs(slope).max())


# What the data do not say.


def by_gains(lqr, gains, seed=0):
    rng = np.random.default_rng(seed)
    return concatenate([rollout(lqr, LinearPolicy(K), 20, 10, rng) for K in gains])


@pytest.mark.parametrize(
    ("gains", "rank"),
    [
        ([[[-1, -1]]], 4),
        ([[[-1, -1]], [[-2, -1]]], 6),
        ([[[-1, -1]], [[-2, -1]], [[-1, -2]]], 7),
    ],
    ids=["one", "two", "three"],
)
def test_three_deterministic_gains_determine_the_critic_and_fewer_do_not(gains, rank):
    found = lstdq(MAIN, transitions(by_gains(MAIN, gains)), FIRST_GAIN)
    assert found.rank == rank
    assert found.determined == (rank == feature_count(MAIN) == 7)
    assert np.isfinite(found.condition) == found.determined
    if rank < 7:
        assert not found.plausible


@pytest.mark.parametrize(("n", "m", "enough"), [(2, 1, 3), (4, 3, 4)])
def test_how_many_gains_it_takes_grows_with_the_actions(n, m, enough):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng(1)
    gains = K + 0.1 * rng.standard_normal((enough, m, n))
    fewer, all_of_them = (
        lstdq(lqr, transitions(by_gains(lqr, some)), K) for some in (gains[1:], gains)
    )
    assert not fewer.determined
    assert all_of_them.determined


def test_with_three_gains_and_no_noise_at_all_the_critic_is_exact():
    lqr = without_noise(MAIN)
    gains = [[[-1, -1]], [[-2, -1]], [[-1, -2]]]
    found = lstdq(lqr, transitions(by_gains(lqr, gains)), FIRST_GAIN)
    close(found.Theta, exact.q_matrix(lqr, FIRST_GAIN), rtol=0, atol=1e-5)


def test_the_condition_grows_as_the_exploration_shrinks():
    conditions = [
        lstdq(
            MAIN, transitions(gaussian_data(MAIN, FIRST_GAIN, s**2, 50, 10)), FIRST_GAIN
        )
        for s in (1.0, 0.1, 0.01)
    ]
    first, second, third = (found.condition for found in conditions)
    assert 1.0 < first < second / 5 < third / 25


@SIZES
def test_at_an_unstable_gain_the_answer_is_finite_and_found_implausible(n, m):
    lqr, K, cov = system(n, m)
    lqr = without_noise(lqr)
    rows = transitions(gaussian_data(lqr, K, cov, 60, 6))
    wild = np.random.default_rng(0).standard_normal(K.shape)
    while exact.is_stable(lqr, wild):
        wild = 2.0 * wild
    found = lstdq(lqr, rows, wild)
    assert np.isfinite(found.Theta).all()
    assert found.determined
    assert not found.plausible


def test_a_critic_is_plausible_only_if_it_is_determined_and_definite():
    definite, other = np.diag([3.0, 2.0, 1.0]), np.diag([3.0, 2.0, -1.0])
    found = Critic(
        np.stack([definite, definite, other]),
        np.zeros(3),
        np.array([7, 6, 7]),
        np.array([10.0, np.inf, 10.0]),
    )
    np.testing.assert_array_equal(found.determined, [True, False, True])
    np.testing.assert_array_equal(found.plausible, [True, False, False])


def test_a_gain_whose_square_leaves_the_floats_gives_an_implausible_critic():
    rows = transitions(gaussian_data(MAIN, FIRST_GAIN, 1.0, 20, 5))
    found = lstdq(MAIN, rows, np.stack([FIRST_GAIN, 1e200 * FIRST_GAIN]))
    np.testing.assert_array_equal(found.plausible, [True, False])


# Batches, rows that are left out, and the parts.


def assert_member(together, i, alone):
    scale = max(np.abs(alone.Theta).max(), abs(alone.const))
    close(together.Theta[i], alone.Theta, rtol=0, atol=1e-9 * scale)
    close(together.const[i], alone.const, rtol=0, atol=1e-9 * scale)
    assert together.rank[i] == alone.rank
    assert together.condition[i] == pytest.approx(alone.condition, rel=1e-9)


@pytest.mark.parametrize(
    ("gain_lead", "data_lead"), [((4,), ()), ((), (4,)), ((2, 1), (3,))], ids=str
)
def test_many_gains_and_data_sets_equal_a_loop(gain_lead, data_lead):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (*data_lead, 2, 3)), cov, 100, 4)
    rows = transitions(data)
    gains = K + 0.05 * np.random.default_rng(2).standard_normal((*gain_lead, 2, 3))
    together = lstdq(lqr, rows, gains)
    linear, moved = linearised(lqr, data, gains)
    lead = np.broadcast_shapes(gain_lead, data_lead)
    assert together.Theta.shape == (*lead, 5, 5)
    assert together.rank.shape == together.condition.shape == lead
    assert moved.shape == (*lead, 100, 5, 5)
    gains = np.broadcast_to(gains, (*lead, 2, 3))
    spread = [
        np.broadcast_to(part, (*lead, *part.shape[len(data_lead) :])) for part in rows
    ]
    for i in np.ndindex(lead):
        alone = lstdq(lqr, Transitions(*(part[i] for part in spread)), gains[i])
        assert_member(together, i, alone)
        assert_member(linear, i, alone)


def test_rows_of_diverged_trajectories_are_left_out():
    lqr, K, cov = system(2, 1)
    good = transitions(gaussian_data(lqr, K, cov, 10, 5))
    spoiled = Transitions(*(np.array(part) for part in good))
    spoiled.x[3, 1], spoiled.x_next[8, 0], spoiled.cost[20] = np.inf, -1e200, np.inf
    kept = np.delete(np.arange(50), [3, 8, 20])
    expected = lstdq(lqr, Transitions(*(part[kept] for part in good)), K)
    found = lstdq(lqr, spoiled, K)
    close(found.Theta, expected.Theta, rtol=1e-9)
    assert found.condition == pytest.approx(expected.condition, rel=1e-9)


def test_what_is_collected_once_serves_every_gain_and_adds_up_over_data():
    lqr, K, cov = system(3, 2)
    parts = [gaussian_data(lqr, K, cov, N, 4, seed=N) for N in (50, 60)]
    first, second = (sums(lqr, transitions(part)) for part in parts)
    both = sums(lqr, transitions(concatenate(parts)))
    for together, one, other in zip(both, first, second, strict=True):
        close(together, one + other, rtol=1e-12, atol=1e-10)
    for gain in (K, other_gain(K)):
        direct = lstdq(lqr, transitions(parts[0]), gain)
        np.testing.assert_array_equal(solve(lqr, first, gain).Theta, direct.Theta)


def test_a_weight_of_zero_leaves_a_row_out_and_two_counts_it_twice():
    rng = np.random.default_rng(0)
    z, cost, x_next = (rng.standard_normal(s) for s in ((3, 4), (4,), (2, 4)))
    weighted = moments(z, cost, x_next, np.array([1.0, 0.0, 2.0, 1.0]))
    rows = [0, 2, 2, 3]
    repeated = moments(z[:, rows], cost[rows], x_next[:, rows], np.ones(4))
    for have, want in zip(weighted, repeated, strict=True):
        close(have, want, rtol=1e-13)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50, derandomize=True)
def test_lifting_products_gives_the_features_under_the_policy(n, m, seed):
    rng = np.random.default_rng(seed)
    K, x = rng.standard_normal((m, n)), rng.standard_normal((n, 4))
    lifted = lift(K) @ products(x)
    for column, state in zip(lifted.T, x.T, strict=True):
        close(column, features(np.concatenate([state, K @ state])), atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50, derandomize=True)
def test_products_are_all_products_once_and_a_one(n, m, seed):
    x = np.random.default_rng(seed).standard_normal((m, n, 3))
    psi = products(x)
    assert psi.shape == (m, n * (n + 1) // 2 + 1, 3)
    i, j = np.triu_indices(n)
    np.testing.assert_array_equal(psi[..., :-1, :], x[..., i, :] * x[..., j, :])
    np.testing.assert_array_equal(psi[..., -1, :], 1.0)


# Steps from a critic.


def test_gain_error_and_step_by_hand():
    # Θ_ux = (1, 2), Θ_uu = 4, K = (−1, 1): E = (−4 + 1, 4 + 2), step = E/4.
    found = Critic(
        np.array([[9.0, 0.0, 1.0], [0.0, 9.0, 2.0], [1.0, 2.0, 4.0]]),
        np.array(0.0),
        np.array(7),
        np.array(1.0),
    )
    np.testing.assert_array_equal(found.gain_error([[-1.0, 1.0]]), [[-3.0, 6.0]])
    np.testing.assert_array_equal(found.gauss_newton([[-1.0, 1.0]]), [[-0.75, 1.5]])


@SIZES
def test_the_exact_critic_gives_the_exact_steps(n, m):
    lqr, K, _ = system(n, m)
    gains = np.stack([K, other_gain(K)])
    Theta = exact.q_matrix(lqr, gains)
    found = Critic(Theta, np.zeros(2), np.full(2, 1), np.ones(2))
    close(found.gain_error(gains), exact.gain_error(lqr, gains), rtol=1e-9, atol=1e-10)
    step = exact.gauss_newton(lqr, gains)
    close(found.gauss_newton(gains), step, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", ["gain_error", "gauss_newton"])
@pytest.mark.parametrize("K", [1.0, [1.0, 2.0], [[1.0]], [[np.nan, 1.0]], [["a", "b"]]])
def test_a_gain_of_another_size_is_refused_by_name(method, K):
    found = Critic(np.eye(3), np.array(0.0), np.array(7), np.array(1.0))
    with pytest.raises(ValueError, match=r"^K: expected .+, found .+"):
        getattr(found, method)(K)


def test_data_of_another_size_are_refused_by_name():
    rows = transitions(gaussian_data(*system(3, 2), 3, 4))
    with pytest.raises(ValueError, match=r"^transitions: expected \(n, m\) = \(2, 1\)"):
        lstdq(MAIN, rows, FIRST_GAIN)


def test_leading_axes_of_gains_and_data_that_do_not_fit_are_refused_by_name():
    data = gaussian_data(MAIN, [FIRST_GAIN] * 2, 1.0, 4, 3)
    for call in (
        lambda: lstdq(MAIN, transitions(data), [FIRST_GAIN] * 3),
        lambda: linearised(MAIN, data, [FIRST_GAIN] * 3),
    ):
        with pytest.raises(ValueError, match=r"^K: expected leading axes"):
            call()


# The true action value, as a critic.


@SIZES
def test_the_exact_critic_satisfies_bellman_for_the_gaussian_policy(n, m):
    lqr, K, cov = system(n, m)
    critic = exact_critic(lqr, K, cov)
    rng = np.random.default_rng(3)
    for _ in range(5):
        x, u = rng.standard_normal(n), rng.standard_normal(m)
        z, ahead = np.concatenate([x, u]), lqr.A @ x + lqr.B @ u
        cost = x @ lqr.Q @ x + u @ lqr.R @ u
        # E of z''Θz'' with z'' = (x', Kx' + e): at the mean of x', and the two noises.
        L = np.concatenate([np.eye(n), K])
        mean = np.concatenate([ahead, K @ ahead])
        expected = mean @ critic.Theta @ mean + critic.const
        expected += np.trace(L.T @ critic.Theta @ L @ lqr.W)
        expected += np.trace(critic.Theta[n:, n:] @ cov)
        here = z @ critic.Theta @ z + critic.const
        close(here, cost + lqr.gamma * expected, rtol=1e-10)


@SIZES
def test_a_gaussian_policy_adds_to_the_constant_only(n, m):
    lqr, K, cov = system(n, m)
    quiet, noisy = exact_critic(lqr, K), exact_critic(lqr, K, cov)
    assert np.array_equal(quiet.Theta, noisy.Theta)
    close(of_gaussian(lqr, quiet, cov).const, noisy.const, rtol=1e-12)
    assert noisy.const > quiet.const


def test_lstdq_tends_to_the_exact_critic():
    lqr, K = worlds.double_integrator(), np.array([[-1.0, -1.0]])
    rng = np.random.default_rng(2)
    data = rollout(lqr, GaussianPolicy(K, 1.0), 20_000, 60, rng)
    found, true = lstdq(lqr, transitions(data), K), exact_critic(lqr, K)
    close(found.Theta, true.Theta, rtol=0.02, atol=0.02)
    close(found.const, true.const, rtol=0.05)


def test_one_critic_and_many_covariances_make_as_many_critics():
    lqr, K, cov = system(3, 2)
    covs, quiet = np.stack([cov, 2.0 * cov, 3.0 * cov]), exact_critic(lqr, K)
    many = of_gaussian(lqr, quiet, covs)
    for i, one in enumerate(of_gaussian(lqr, quiet, each) for each in covs):
        for part, wanted in zip(many, one, strict=True):
            close(part[i], wanted, rtol=1e-12)


def test_without_discount_there_is_no_constant():
    lqr = dataclasses.replace(worlds.double_integrator(), gamma=1.0, W=np.zeros((2, 2)))
    critic = exact_critic(lqr, np.array([[-1.0, -1.0]]))
    assert critic.const == 0.0
    assert of_gaussian(lqr, critic, 1.0) is critic
    assert np.isfinite(critic.Theta).all()


def test_the_exact_critic_broadcasts():
    lqr, K, cov = system(2, 2)
    gains, covs = np.stack([K, 0.9 * K, 0.8 * K]), np.stack([cov, 2 * cov])[:, None]
    together = exact_critic(lqr, gains, covs)
    assert together.Theta.shape == (2, 3, 4, 4)
    assert together.const.shape == together.rank.shape == (2, 3)
    alone = exact_critic(lqr, gains[1], covs[1, 0])
    close(together.const[1, 1], alone.const)
    close(together.Theta[1, 1], alone.Theta)


@pytest.mark.parametrize(("n", "m", "paths"), [(1, 1, 3), (2, 1, 7), (3, 2, 1)])
def test_moments_of_paths_are_those_of_their_steps(n, m, paths):
    rng = np.random.default_rng(11)
    z, cost = rng.standard_normal((6, n + m, paths)), rng.random((5, paths))
    found = path_moments(z, cost, n)
    every = np.ones(paths)
    steps = [moments(z[t], cost[t], z[t + 1, :n], every) for t in range(len(cost))]
    for one, parts in zip(found, zip(*steps, strict=True), strict=True):
        close(one, sum(parts), rtol=1e-12)


def test_moments_of_no_path_are_zero():
    for part in path_moments(np.ones((4, 3, 0)), np.ones((3, 0)), 2):
        assert not part.any()
