"""What papers say about plans with models, as in `book/reproduced.md`."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from systems import MOST, SYSTEMS, close, stabilised

from lqrlib import GaussianPolicy, critic, ensemble, exact, lyapunov, model, worlds
from lqrlib.rollout import rollout, transitions

QUIET = {"W": np.zeros((3, 3)), "X0": np.eye(3), "gamma": 1.0}
CENTER = replace(worlds.laplacian(), gamma=1.0)  # as the datacenter, costs / 1000


def fitted(noise, start, last_only=False):
    """Models of the datacenter from rollouts with given noise, one for each set."""
    *sets, N, T, _ = noise.shape
    still = GaussianPolicy(np.zeros((*sets, 3, 3)), 1.0)
    x0 = np.broadcast_to(start, (*sets, N, 3))
    data = rollout(CENTER, still, N, T, np.random.default_rng(0), x0=x0, noise=noise)
    if last_only:
        parts = data.x[..., -2:, :], data.u[..., -1:, :], data.cost[..., -1:]
        data = data._replace(x=parts[0], u=parts[1], cost=parts[2])
    return model.fit(transitions(data))


def stable(seen):
    """Which plans stabilise the datacenter."""
    K = np.nan_to_num(ensemble.optimal_gain(CENTER, ensemble.stack([seen])).K)
    return lyapunov.spectral_radius(CENTER.closed_loop(K)) < 1


def test_eighty_of_a_hundred_plans_from_all_steps_and_not_from_the_last_ones():
    # Dean et al. (2020), Figure 2: after 60 rollouts of six steps.
    noise = np.random.default_rng(0).standard_normal((400, 60, 6, 6))
    p = np.array([stable(fitted(noise, 0.0, last)).mean() for last in (False, True)])
    z = (p - 0.8) / np.sqrt(p * (1 - p) * (1 / 400 + 1 / 100))
    assert abs(z[0]) < 2.5
    assert z[1] < -MOST


def test_plans_fail_only_for_models_with_a_diagonal_entry_below_one():
    rng = np.random.default_rng(1)
    start = rng.standard_normal((400, 1, 3))
    seen = fitted(rng.standard_normal((400, 2, 100, 6)), start)
    low = np.diagonal(seen.A, axis1=-2, axis2=-1).min(axis=-1) < 1
    lost = ~stable(seen)
    assert lost[low].sum() > 20
    assert (~low).sum() > 20
    assert not lost[~low].any()


@pytest.mark.parametrize(("seed", "excess"), [(1337, np.inf), (1336, 0.387)])
def test_one_rollout_of_the_datacenter_with_his_two_seeds(seed, excess):
    draws = np.random.RandomState(seed)
    start = draws.standard_normal((1, 3))
    seen = fitted(draws.standard_normal((1, 100, 6)), start)
    quiet = replace(CENTER, **QUIET)
    K = exact.optimal_gain(replace(quiet, A=seen.A, B=seen.B))
    J_star = exact.cost(quiet, exact.optimal_gain(quiet))
    assert exact.cost(quiet, K) / J_star - 1 == pytest.approx(excess, abs=5e-4)


@pytest.mark.parametrize("gamma", [0.6, 0.9, 0.99])
@pytest.mark.parametrize(("policy", "error"), [(0.1, 0.01), (0.5, 0.4), (0.2, 0.3)])
def test_the_best_whole_branch_is_the_first_with_an_error_below_the_models(
    gamma, policy, error
):
    # Janner et al. (2019), Theorems 4.3 and 4.2, in units of 2 r_max.
    k = np.arange(2000)
    far, near = gamma ** (k + 1) * policy / (1 - gamma) ** 2, gamma**k * policy
    current = far + (near + k * error) / (1 - gamma)
    before = far + (near + 2 * policy + k * (error + 2 * policy)) / (1 - gamma)
    assert current.argmin() == np.argmax(gamma**k * policy <= error)
    assert before.argmin() == 0


def law_of_rows(lqr, world, K, spread):
    """LSTDQ's exact moments for x ~ N(0, I), u = Kx + spread e, by quadrature."""
    t, mass = np.polynomial.hermite_e.hermegauss(3)
    y = np.array(list(itertools.product(t, repeat=lqr.n + lqr.m))).T
    mass = np.prod(list(itertools.product(mass / mass.sum(), repeat=len(y))), axis=1)
    x = y[: lqr.n]
    u = K @ x + spread * y[lqr.n :]
    cost = ((lqr.Q @ x) * x).sum(axis=0) + ((lqr.R @ u) * u).sum(axis=0)
    found = critic.moments(np.vstack([x, u]), cost, world.A @ x + world.B @ u, mass)
    found.C[:, :-1] += np.outer(found.G[:, -1], world.W[np.triu_indices(lqr.n)])
    return found


def two_worlds(n, m):
    """A world, a slightly wrong model of it, a stable gain."""
    lqr, K, rng = stabilised(n, m, seed=11)
    A = lqr.A + 0.01 * rng.standard_normal((n, n))
    return lqr, replace(lqr, A=A, B=1.05 * lqr.B), K


def solved(lqr, real, made_up, r, K):
    mixed = (r * a + (1 - r) * b for a, b in zip(real, made_up, strict=True))
    return critic.solve(lqr, critic.Moments(*mixed), K)


@SYSTEMS
def test_rows_with_one_action_law_plan_like_an_ensemble_of_world_and_model(n, m):
    lqr, wrong, K_b = two_worlds(n, m)
    both = [model.LinearModel(w.A, w.B, w.W, np.ones(())) for w in (lqr, wrong)]
    K = ensemble.optimal_gain(lqr, ensemble.stack(both)).K
    real = law_of_rows(lqr, lqr, K_b, 0.7)
    alike = solved(lqr, real, law_of_rows(lqr, wrong, K_b, 0.7), 0.5, K)
    close(alike.gauss_newton(K), np.zeros((m, n)), atol=1e-9)
    other = solved(lqr, real, law_of_rows(lqr, wrong, K, 0.3), 0.5, K)
    assert np.abs(other.gauss_newton(K)).max() > 1e-6


@SYSTEMS
def test_rows_without_noise_fix_the_value_of_the_gain_at_the_models(n, m):
    lqr, wrong, K = two_worlds(n, m)
    real = law_of_rows(lqr, lqr, 0.9 * K, 0.7)
    found = solved(lqr, real, law_of_rows(lqr, wrong, K, 0.0), 1e-7, K)
    graph = np.vstack([np.eye(n), K])
    P = exact.value_matrix(wrong, K)
    close(graph.T @ found.Theta @ graph, P, rtol=1e-3, atol=1e-3 * np.abs(P).max())
    assert np.abs(exact.value_matrix(lqr, K) - P).max() > 3e-3 * np.abs(P).max()
