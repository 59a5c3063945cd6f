"""Plans with a member drawn at every step: equations put back, by hand, and sampled."""

import numpy as np
import pytest
from systems import FIRST_GAIN, MOST, SYSTEMS, close, gaussian_data, system

from lqrlib import LinearModel, ensemble, exact, lyapunov, worlds
from lqrlib._steps import root, simulate, step_matrix
from lqrlib.model import fit, fit_ensemble
from lqrlib.rollout import given_noise, stage_matrix, transitions

MAIN = worlds.double_integrator()


def model_of(lqr):
    return LinearModel(lqr.A, lqr.B, lqr.W, np.array(1.0))


def around(lqr, rng, size=4, spread=0.05):
    """Members scattered about the truth, stacked."""
    return ensemble.stack(
        [
            LinearModel(
                lqr.A + spread * rng.standard_normal(lqr.A.shape),
                lqr.B + spread * rng.standard_normal(lqr.B.shape),
                lqr.W,
                np.array(1.0),
            )
            for _ in range(size)
        ]
    )


@SYSTEMS
@pytest.mark.parametrize("size", [1, 3])
def test_members_that_agree_plan_like_one(n, m, size):
    lqr, K, _ = system(n, m)
    members = ensemble.stack([model_of(lqr)] * size)
    P = ensemble.value_matrix(lqr, members, K)
    close(P, exact.value_matrix(lqr, K), rtol=1e-9)
    close(ensemble.q_matrix(lqr, members, P), exact.q_matrix(lqr, K), rtol=1e-9)
    plan = ensemble.optimal_gain(lqr, members)
    close(plan.K, exact.optimal_gain(lqr), rtol=1e-7, atol=1e-9)
    close(plan.P, exact.value_matrix(lqr, plan.K), rtol=1e-9)
    radius = np.sqrt(lqr.gamma) * lyapunov.spectral_radius(lqr.closed_loop(K))
    one_step = ensemble.second_moment_map(lqr, members, K)
    close(np.abs(np.linalg.eigvals(one_step)).max(), radius**2, rtol=1e-9)


@SYSTEMS
def test_the_value_solves_its_equation_and_the_optimum_is_stationary(n, m):
    lqr, K, _ = system(n, m)
    members = around(lqr, np.random.default_rng(n), spread=0.02)
    P = ensemble.value_matrix(lqr, members, K)
    after = np.zeros((n, n))
    for A, B in zip(members.A, members.B, strict=True):
        F = A + B @ K
        after += F.T @ P @ F / len(members.A)
    close(P, lqr.Q + K.T @ lqr.R @ K + lqr.gamma * after, rtol=1e-9)
    plan = ensemble.optimal_gain(lqr, members)
    Theta = ensemble.q_matrix(lqr, members, plan.P)
    close(Theta[n:, n:] @ plan.K + Theta[n:, :n], 0.0, atol=1e-7)
    rng = np.random.default_rng(m)
    for _ in range(5):
        nearby = plan.K + 1e-3 * rng.standard_normal(plan.K.shape)
        other = ensemble.value_matrix(lqr, members, nearby)
        assert np.trace(other) > np.trace(plan.P)


def test_disagreement_is_added_to_the_price_of_an_action():
    members = around(MAIN, np.random.default_rng(0))
    P = exact.value_matrix(MAIN, FIRST_GAIN)
    Theta = ensemble.q_matrix(MAIN, members, P)
    mean = members.B.mean(axis=0)
    spread = sum((B - mean).T @ P @ (B - mean) for B in members.B) / len(members.B)
    close(Theta[2:, 2:], MAIN.R + MAIN.gamma * (mean.T @ P @ mean + spread))
    assert spread.item() > 0


def test_one_state_by_hand():
    lqr = worlds.scalar(a=1.1, b=1.0, q=2.0, r=0.5, gamma=0.9)
    a, b, K = np.array([1.2, 0.9, 1.1]), np.array([0.8, 1.3, 1.0]), -0.6
    members = LinearModel(
        a.reshape(3, 1, 1), b.reshape(3, 1, 1), np.zeros((3, 1, 1)), np.ones(3)
    )
    f = np.mean((a + b * K) ** 2)
    P = ensemble.value_matrix(lqr, members, [[K]])
    close(P, (2.0 + 0.5 * K * K) / (1 - 0.9 * f))
    plan = ensemble.optimal_gain(lqr, members)
    p, uu = plan.P.item(), 0.5 + 0.9 * np.mean(b * b) * plan.P.item()
    close(plan.K, -0.9 * np.mean(a * b) * p / uu, rtol=1e-7)
    close(p, 2.0 + 0.9 * np.mean(a * a) * p - uu * plan.K.item() ** 2, rtol=1e-7)


def test_the_imagined_cost_is_that_of_rollouts_with_a_member_a_step():
    members = around(MAIN, np.random.default_rng(1), size=3, spread=0.1)
    rng, N, T = np.random.default_rng(2), 4000, 200
    law = step_matrix(
        members.A, members.B, root(members.W), FIRST_GAIN, np.zeros((1, 1))
    )
    noise = given_noise(np.moveaxis(rng.standard_normal((T, 3, N)), -1, 0))
    starts, which = rng.standard_normal((N, 2)), rng.integers(3, size=(T, N))
    _, cost = simulate([law] * T, stage_matrix(MAIN), starts, noise, T, which)
    returns = MAIN.gamma ** np.arange(T) @ cost
    P = ensemble.value_matrix(MAIN, members, FIRST_GAIN)
    known = np.trace(P) + MAIN.gamma / (1 - MAIN.gamma) * np.sum(P * MAIN.W)
    z = (returns.mean() - known) / (returns.std() / np.sqrt(N))
    assert abs(z) < MOST
    one = exact.cost(MAIN, FIRST_GAIN)
    assert abs(returns.mean() - one) > 4 * returns.std() / np.sqrt(N)


def test_every_column_follows_the_law_that_is_named_for_it():
    rng = np.random.default_rng(3)
    laws, noise = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 3, 6))
    starts, which = rng.standard_normal((6, 2)), rng.integers(2, size=(4, 6))
    normals = given_noise(np.moveaxis(noise, -1, 0))
    z, _ = simulate([laws] * 4, np.eye(3), starts, normals, 4, which)
    for i in range(6):
        x = starts[i]
        for t in range(4):
            after = laws[which[t, i]] @ np.concatenate([x, noise[t, :, i]])
            close(z[t, :, i], np.concatenate([x, after[:1]]), rtol=1e-12)
            x = after[1:]


def test_infinite_costs_are_nan_and_not_a_finite_solution():
    members = around(MAIN, np.random.default_rng(4), spread=0.01)
    gains = np.stack([FIRST_GAIN, -20 * FIRST_GAIN])
    stable = ensemble.is_stable(MAIN, members, gains)
    np.testing.assert_array_equal(stable, [True, False])
    P = ensemble.value_matrix(MAIN, members, gains)
    assert np.isfinite(P[0]).all()
    assert np.isnan(P[1]).all()


def test_no_gain_of_finite_cost_is_nan():
    lqr = worlds.scalar(a=1.3, gamma=1.0, w=0.0)
    B = np.array([[[1.0]], [[-1.0]]])  # the action's sign is a coin toss
    members = LinearModel(np.full((2, 1, 1), 1.3), B, np.zeros((2, 1, 1)), np.ones(2))
    plan = ensemble.optimal_gain(lqr, members)
    assert np.isnan(plan.K).all()
    assert np.isnan(plan.P).all()


def test_leading_axes_of_gains_and_data_sets_are_loops():
    lqr, K, cov = system(3, 2)
    data = transitions(gaussian_data(lqr, np.stack([K, 0.9 * K]), cov, 20, 15))
    members = ensemble.stack(fit_ensemble(data, 4, np.random.default_rng(0)))
    gains = np.stack([K, 0.5 * K, 0 * K])[:, None]
    together = ensemble.value_matrix(lqr, members, gains)
    plans = ensemble.optimal_gain(lqr, members)
    assert together.shape == (3, 2, 3, 3)
    for d in range(2):
        alone = LinearModel(*(part[:, d] for part in members))
        close(plans.K[d], ensemble.optimal_gain(lqr, alone).K, rtol=1e-7)
        for g in range(3):
            P = ensemble.value_matrix(lqr, alone, gains[g, 0])
            close(together[g, d], P, rtol=1e-10)


def test_with_many_rows_the_members_and_their_plan_are_those_of_one_fit():
    data = transitions(gaussian_data(MAIN, FIRST_GAIN, 1.0, 2000, 30))
    members = ensemble.stack(fit_ensemble(data, 5, np.random.default_rng(0)))
    certain = exact.optimal_gain(fit(data).problem(MAIN))
    close(ensemble.optimal_gain(MAIN, members).K, certain, atol=0.02)


def test_models_of_different_sizes_or_none_are_refused_by_name():
    scalar = worlds.scalar()
    for members in ([], [model_of(MAIN), model_of(scalar)]):
        with pytest.raises(ValueError, match=r"^members: expected .+, found .+"):
            ensemble.stack(members)


def test_a_gain_that_does_not_fit_is_refused_by_name():
    members = ensemble.stack([model_of(MAIN)])
    for function in (
        ensemble.value_matrix,
        ensemble.is_stable,
        ensemble.second_moment_map,
    ):
        with pytest.raises(ValueError, match=r"^K: expected .+, found .+"):
            function(MAIN, members, np.zeros((2, 2)))


def test_members_that_do_not_fit_the_world_are_refused_by_name():
    alone = LinearModel(MAIN.A, MAIN.B, MAIN.W, np.array(1.0))
    other = ensemble.stack([model_of(worlds.scalar())])
    for members in (alone, other):
        for call in (
            lambda m: ensemble.optimal_gain(MAIN, m),
            lambda m: ensemble.q_matrix(MAIN, m, np.eye(2)),
            lambda m: ensemble.value_matrix(MAIN, m, FIRST_GAIN),
        ):
            with pytest.raises(ValueError, match=r"^members.A: expected .+, found .+"):
                call(members)
