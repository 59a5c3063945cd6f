"""Numbers that papers or their published code print, as in `book/reproduced.md`."""

from dataclasses import replace

import numpy as np
import pytest
from systems import close

from lqrlib import LQR, GaussianPolicy, descent, exact, finite_horizon, lyapunov, worlds
from lqrlib.model import fit
from lqrlib.rollout import rollout, transitions

RECHT = worlds.recht_double_integrator()
CENTER = replace(worlds.laplacian(), Q=np.eye(3), R=1000 * np.eye(3), gamma=1.0)


def learned(lqr, start, horizon, draws):
    """A model from one trajectory; his order of draws is that of our noise."""
    explore = GaussianPolicy(np.zeros((lqr.m, lqr.n)), 1.0)
    noise = draws.standard_normal((1, horizon, lqr.m + lqr.n))
    unused = np.random.default_rng(0)
    return fit(
        transitions(rollout(lqr, explore, 1, horizon, unused, x0=start, noise=noise))
    )


@pytest.fixture(scope="module")
def integrator():
    """Start and fitted model of his double integrator."""
    start = np.array([[-1.0, 0.0]])
    return start, learned(RECHT, start, 10, np.random.RandomState(1337))


@pytest.fixture(scope="module")
def datacenter():
    """Start and fitted model of his datacenter."""
    draws = np.random.RandomState(1337)
    start = draws.standard_normal((1, 3))
    return start, learned(CENTER, start, 100, draws)


def quiet(lqr, X0):
    return replace(lqr, W=np.zeros_like(lqr.W), X0=X0)


def excess(lqr, fitted):
    """tr P of the planned gain, less the optimal one."""
    world = quiet(lqr, np.eye(lqr.n))
    planned = exact.optimal_gain(replace(world, A=fitted.A, B=fitted.B))
    return exact.cost(world, planned) - exact.cost(world, exact.optimal_gain(world))


def excess_of_stages(lqr, start, fitted, horizon):
    """The same for T steps from the start, planned stage by stage."""
    world = quiet(lqr, start.T @ start)
    planned, best = (
        finite_horizon.optimal_gains(w, horizon, terminal=lqr.Q)
        for w in (replace(world, A=fitted.A, B=fitted.B), world)
    )
    costs = finite_horizon.cost(world, np.stack([planned, best]), terminal=lqr.Q)
    return costs[0] - costs[1]


def test_the_notebooks_model_of_the_integrator_has_its_printed_digits(integrator):
    _, fitted = integrator
    printed = [[1.00032885, 0.999484822], [2.11465750e-04, 0.999153277]]
    half = [[5e-9, 5e-10], [5e-13, 5e-10]]
    assert (np.abs(fitted.A - printed) <= half).all()
    close(fitted.B, [[-0.00174996], [0.99998723]], rtol=0, atol=5e-9)


def test_the_notebooks_excess_costs_of_the_integrator(integrator):
    start, fitted = integrator
    forever = excess(RECHT, fitted)
    assert forever == pytest.approx(6.2260945030701009e-06, rel=0, abs=1e-14)
    ten_steps = excess_of_stages(RECHT, start, fitted, 10)
    assert ten_steps == pytest.approx(3.5546858458967989e-06, rel=0, abs=1e-14)


def test_the_notebooks_model_of_the_datacenter_has_its_printed_digits(datacenter):
    _, fitted = datacenter
    A = [[1.0060899, 0.02890157, -0.04003236], [0.01811646, 0.977807, 0.01502689]]
    B = [[1.03370983, -0.03851686, 0.05284074], [-0.02613046, 1.08991257, 0.12648793]]
    close(fitted.A, [*A, [0.0064803, 0.03830107, 0.93786707]], rtol=0, atol=5e-9)
    close(fitted.B, [*B, [-0.09418694, 0.07736949, 0.84805014]], rtol=0, atol=5e-9)


def test_the_datacenters_plan_is_unstable_and_costs_what_he_printed(datacenter):
    start, fitted = datacenter
    assert excess(CENTER, fitted) == np.inf
    hundred = excess_of_stages(CENTER, start, fitted, 100)
    assert hundred == pytest.approx(46.306420715048787, rel=0, abs=1e-10)


@pytest.mark.parametrize(
    ("lqr", "printed", "half_digit"),
    [(RECHT, 5.931125, 5e-7), (CENTER, 137.28716597811132, 5e-12)],
    ids=["integrator", "datacenter"],
)
def test_optimal_cost_without_noise_from_a_unit_start(lqr, printed, half_digit):
    world = quiet(lqr, np.eye(lqr.n))
    J = float(exact.cost(world, exact.optimal_gain(world)))
    assert pytest.approx(printed, rel=0, abs=half_digit) == J


def test_gauss_newton_needs_four_updates_with_forty_states():
    # Fazel et al. (2018), Theorem 7, from K = 0.
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A, eye = rng.standard_normal((40, 40)), np.eye(40)
        A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
        B = rng.standard_normal((40, 8))
        lqr = LQR(A, B, eye, np.eye(8), 0 * eye, eye, 1.0)
        step = descent.descend(
            lqr,
            np.zeros((8, 40)),
            lambda K, w=lqr: exact.gauss_newton(w, K),
            1.0,
            updates=4,
        )
        error = step.cost / exact.cost(lqr, exact.optimal_gain(lqr)) - 1
        assert error[3] > 1e-6 >= error[4]


def test_the_exact_run_of_hamblys_figure_in_the_reconstructed_world():
    lqr, start = worlds.hambly(), np.full((10, 2, 4), -0.05)
    best = finite_horizon.optimal_gains(lqr, 10, terminal=lqr.Q)
    path = descent.descend_stages(
        lqr,
        start,
        lambda K: finite_horizon.gradient(lqr, K, terminal=lqr.Q),
        5e-4,
        terminal=lqr.Q,
        updates=130,
    )
    error = path.cost / finite_horizon.cost(lqr, best, terminal=lqr.Q) - 1
    close(error[[0, 20, 80]], [0.842, 0.0163, 0.0114], rtol=0, atol=5e-4)
    assert np.argmax(error < 0.01) == 123


def point_queries(lqr, K, x, U, r):
    """Squared length of one- and two-point estimates from shared starts x."""
    P = exact.value_matrix(lqr, np.stack([K + r * U, K - r * U]))
    above, below = np.einsum("ni,snij,nj->sn", x, P, x)
    return (K.size / r * above) ** 2, (K.size / r * (above - below) / 2) ** 2


@pytest.mark.parametrize("distance", [0.3, 0.03, 0.0])
def test_two_points_calm_down_near_the_optimum_and_one_point_does_not(distance):
    # Malik et al. (2020); the expectation at small r, written out by derivatives of P.
    lqr, r, rng = (
        quiet(worlds.double_integrator(), np.eye(2)),
        0.01,
        np.random.default_rng(3),
    )
    K = exact.optimal_gain(lqr) + distance * np.array([[0.6, 0.8]])
    U, x = rng.standard_normal((4000, 1, 2)), rng.standard_normal((4000, 2))
    U /= np.linalg.norm(U, axis=(-2, -1), keepdims=True)
    one, two = point_queries(lqr, K, x, U, r)
    at, change = exact.evaluate(lqr, K), np.eye(2)[:, None, :]
    slope = change.mT @ at.E
    G = lyapunov.adjoint(np.sqrt(lqr.gamma) * lqr.closed_loop(K), slope + slope.mT)
    expected_one = (2 / r) ** 2 * (np.trace(at.P) ** 2 + 2 * np.sum(at.P**2))
    expected_two = 2 * (np.sum(at.gradient**2) + 2 * np.sum(G**2))
    assert abs(one.mean() - expected_one) < 4 * one.std() / np.sqrt(4000)
    # Terms in r² are left over.
    assert abs(two.mean() - expected_two) < 4 * two.std() / np.sqrt(4000) + 1e-7
