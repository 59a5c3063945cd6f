"""T stages: equations put back, all states as one vector, draws by z-score."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.linalg import block_diag
from scipy.optimize import minimize
from systems import (
    FIRST_GAIN,
    MOST,
    SYSTEMS,
    close,
    spd,
    stabilised_systems,
    system,
    z_scores,
)

from lqrlib import StagePolicy, exact, finite_horizon, worlds
from lqrlib.finite_horizon import constant, optimal_gains
from lqrlib.rollout import rollout

MAIN = worlds.double_integrator()
T = 4


def staged(n, m, horizon=T):
    """A world, gains that differ from stage to stage, a covariance, a last cost."""
    lqr, K, cov = system(n, m)
    rng = np.random.default_rng(11)
    gains = K + 0.3 * rng.standard_normal((horizon, m, n))
    return lqr, gains, cov, spd(n, rng)


def stacked_cost(lqr, gains, cov, terminal):
    """J from all states as one vector, x = M (x_0, n_0, n_1, …); gains may be complex.

    Written without conjugates, for the complex step.
    """
    horizon, n = len(gains), lqr.n
    size = (horizon + 1) * n
    F = block_diag(*(lqr.A + lqr.B @ K for K in gains))
    moves = np.zeros((size, size), dtype=F.dtype)
    moves[n:, :-n] = F
    M = np.linalg.inv(np.eye(size) - moves)
    noise = lqr.W + lqr.B @ cov @ lqr.B.T
    covariance = M @ block_diag(lqr.X0, *[noise] * horizon) @ M.T
    discounts = lqr.gamma ** np.arange(horizon + 1)
    stages = [lqr.Q + K.T @ lqr.R @ K for K in gains] + [terminal]
    weight = block_diag(*(d * S for d, S in zip(discounts, stages, strict=True)))
    exploring = discounts[:-1].sum() * np.trace(lqr.R @ cov)
    return np.trace(weight @ covariance) + exploring


def units(K):
    """The unit matrices of K's shape, one for each entry."""
    return np.eye(K.size).reshape(K.size, *K.shape)


# The equations, put back.


@SYSTEMS
def test_values_put_back_leave_nothing_over(n, m):
    lqr, gains, _, S = staged(n, m)
    P = finite_horizon.value_matrices(lqr, gains, terminal=S)
    assert P.shape == (T + 1, n, n)
    close(P[T], S, rtol=1e-14)
    for t, K in enumerate(gains):
        F = lqr.A + lqr.B @ K
        ahead = lqr.Q + K.T @ lqr.R @ K + lqr.gamma * F.T @ P[t + 1] @ F
        close(P[t], ahead, rtol=1e-12, atol=1e-12)


@SYSTEMS
def test_moments_put_back_leave_nothing_over(n, m):
    lqr, gains, cov, _ = staged(n, m)
    X = finite_horizon.state_moments(lqr, gains, cov)
    assert X.shape == (T + 1, n, n)
    np.testing.assert_array_equal(X[0], lqr.X0)
    noise = lqr.W + lqr.B @ cov @ lqr.B.T
    for t, K in enumerate(gains):
        F = lqr.A + lqr.B @ K
        after = lqr.gamma * F @ X[t] @ F.T + lqr.gamma ** (t + 1) * noise
        close(X[t + 1], after, rtol=1e-12, atol=1e-12)


def test_two_scalar_stages_by_hand():
    # F = −1, ½; noise 1 + 9·1 = 10. P = 4, 5 + 7/4 + ½·¼·4 = 7.25, 5 + 7 + ½·7.25.
    lqr = worlds.scalar(a=2.0, b=3.0, q=5.0, r=7.0, w=1.0, x0=2.0, gamma=0.5)
    gains, S = [[[-1.0]], [[-0.5]]], [[4.0]]
    found = finite_horizon.evaluate(lqr, gains, 1.0, terminal=S)
    close(found.P.ravel(), [15.625, 7.25, 4.0], rtol=1e-14)
    close(found.X.ravel(), [2.0, 6.0, 3.25], rtol=1e-14)
    # (7 + ½·9·7.25)(−1) + ½·3·7.25·2 and (7 + ½·9·4)(−½) + ½·3·4·2.
    close(found.E.ravel(), [-17.875, -0.5], rtol=1e-14)
    close(found.gradient.ravel(), [-71.5, -6.0], rtol=1e-14)
    # (5 + 7)2 + 7, then (5 + 7/4)6 + ½·7, then 4·3.25.
    assert found.cost == pytest.approx(31.0 + 44.0 + 13.0, rel=1e-14)


# A peer without any recursion, and differences.


@SYSTEMS
def test_cost_is_that_of_all_stages_stacked(n, m):
    lqr, gains, cov, S = staged(n, m)
    expected = stacked_cost(lqr, gains, cov, S)
    found = finite_horizon.cost(lqr, gains, cov, terminal=S)
    assert found == pytest.approx(expected, rel=1e-11)
    plain = stacked_cost(lqr, gains, 0.0 * cov, 0.0 * S)
    assert finite_horizon.cost(lqr, gains) == pytest.approx(plain, rel=1e-11)


@SYSTEMS
def test_gradient_is_the_complex_step_through_the_stacked_cost(n, m):
    lqr, gains, cov, S = staged(n, m)
    slopes = [
        stacked_cost(lqr, gains + 1e-30j * e, cov, S).imag / 1e-30 for e in units(gains)
    ]
    found = finite_horizon.gradient(lqr, gains, cov, terminal=S)
    close(found.ravel(), slopes, rtol=1e-9, atol=1e-10 * np.abs(slopes).max())


@SYSTEMS
def test_cost_is_quadratic_in_one_entry_so_that_long_differences_are_exact(n, m):
    lqr, gains, cov, S = staged(n, m)
    ahead, behind = (
        finite_horizon.cost(lqr, gains + h * units(gains), cov, terminal=S)
        for h in (0.5, -0.5)
    )
    found = finite_horizon.gradient(lqr, gains, cov, terminal=S)
    close(found.ravel(), ahead - behind, rtol=1e-9, atol=1e-10 * ahead.max())


@SYSTEMS
def test_the_sum_over_stages_is_the_gradient_in_one_gain_for_all(n, m):
    lqr, gains, cov, S = staged(n, m)
    K, h = gains[0], 1e-5
    ahead, behind = (
        finite_horizon.cost(lqr, constant(lqr, K + d * units(K), T), cov, terminal=S)
        for d in (h, -h)
    )
    found = finite_horizon.gradient(lqr, constant(lqr, K, T), cov, terminal=S)
    slope = (ahead - behind) / (2 * h)
    close(found.sum(axis=0).ravel(), slope, atol=1e-7 * np.abs(slope).max())


@SYSTEMS
def test_cost_by_moments_equals_cost_by_values(n, m):
    lqr, gains, cov, S = staged(n, m)
    X = finite_horizon.state_moments(lqr, gains, cov)
    by_stage = [
        np.trace((lqr.Q + K.T @ lqr.R @ K) @ X[t])
        + lqr.gamma**t * np.trace(lqr.R @ cov)
        for t, K in enumerate(gains)
    ]
    found = finite_horizon.cost(lqr, gains, cov, terminal=S)
    assert found == pytest.approx(sum(by_stage) + np.trace(S @ X[T]), rel=1e-11)


def test_evaluate_agrees_with_the_functions_one_by_one():
    lqr, gains, cov, S = staged(3, 2)
    found = finite_horizon.evaluate(lqr, gains, cov, terminal=S)
    alone = (
        finite_horizon.cost(lqr, gains, cov, terminal=S),
        finite_horizon.gradient(lqr, gains, cov, terminal=S),
        finite_horizon.value_matrices(lqr, gains, terminal=S),
        finite_horizon.state_moments(lqr, gains, cov),
        finite_horizon.gain_errors(lqr, gains, terminal=S),
    )
    for have, want in zip(found, alone, strict=True):
        np.testing.assert_array_equal(have, want)


# The optimum.


@SYSTEMS
def test_at_the_optimal_gains_no_stage_has_a_gain_error(n, m):
    lqr, gains, _, S = staged(n, m)
    best = optimal_gains(lqr, T, terminal=S)
    here, elsewhere = (
        np.abs(finite_horizon.gain_errors(lqr, K, terminal=S)).max()
        for K in (best, gains)
    )
    assert here < 1e-12 * elsewhere
    # They belong to this last cost: without it they are not optimal.
    assert np.abs(finite_horizon.gain_errors(lqr, best)).max() > 0.01


@SYSTEMS
def test_no_change_of_the_optimal_gains_makes_them_cheaper(n, m):
    lqr, _, cov, S = staged(n, m)
    best, rng = optimal_gains(lqr, T, terminal=S), np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-3, 0, (200, 1, 1, 1))
    others = best + size * rng.standard_normal((200, T, m, n))
    lowest = finite_horizon.cost(lqr, best, cov, terminal=S)
    assert (finite_horizon.cost(lqr, others, cov, terminal=S) > lowest).all()


@SYSTEMS
def test_the_optimal_gains_choose_the_actions_of_one_least_squares_problem(n, m):
    lqr, _, _, S = staged(n, m)
    x0 = np.arange(1.0, n + 1.0)
    free, forced = [np.eye(n)], [np.zeros((n, T * m))]
    for t in range(T):  # x_t = free_t x_0 + forced_t (u_0, …, u_{T−1})
        push = np.zeros((n, T * m))
        push[:, t * m : (t + 1) * m] = lqr.B
        free, forced = (
            [*free, lqr.A @ free[t]],
            [*forced, lqr.A @ forced[t] + push],
        )
    weights = [lqr.gamma**t * lqr.Q for t in range(T)] + [lqr.gamma**T * S]
    roots = [np.linalg.cholesky(M + 1e-14 * np.eye(n)).T for M in weights]
    acting = block_diag(
        *(lqr.gamma ** (t / 2) * np.linalg.cholesky(lqr.R).T for t in range(T))
    )
    rows = np.vstack([*(L @ f for L, f in zip(roots, forced, strict=True)), acting])
    target = np.concatenate([L @ f @ x0 for L, f in zip(roots, free, strict=True)])
    target = np.concatenate([target, np.zeros(T * m)])
    actions = np.linalg.lstsq(rows, -target)[0].reshape(T, m)
    x = x0
    for u, K in zip(actions, optimal_gains(lqr, T, terminal=S), strict=True):
        close(K @ x, u, rtol=1e-6, atol=1e-7)
        x = lqr.A @ x + lqr.B @ u


@SYSTEMS
def test_far_from_the_end_the_optimal_gains_are_those_of_no_end(n, m):
    lqr, *_ = staged(n, m)
    gains, best = optimal_gains(lqr, 400), exact.optimal_gain(lqr)
    close(gains[0], best, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(gains[-1], 0.0)
    distance = np.linalg.norm(gains - best, axis=(-2, -1))
    assert distance[-1] > distance[-3] > distance[0]


def test_the_value_matrix_of_no_end_as_last_cost_makes_every_stage_alike():
    best = exact.optimal_gain(MAIN)
    P = exact.value_matrix(MAIN, best)
    close(optimal_gains(MAIN, 5, terminal=P), constant(MAIN, best, 5), rtol=1e-9)


# Many stages, one gain.


@SYSTEMS
def test_one_gain_over_many_stages_costs_and_slopes_as_without_an_end(n, m):
    lqr, K, cov = system(n, m)
    gains = constant(lqr, K, 1500)
    found, limit = finite_horizon.evaluate(lqr, gains, cov), exact.evaluate(lqr, K, cov)
    assert found.cost == pytest.approx(limit.cost, rel=1e-9)
    close(found.P[0], limit.P, rtol=1e-9, atol=1e-9 * np.abs(limit.P).max())
    X = found.X[:-1].sum(axis=0)
    close(X, limit.X, rtol=1e-9, atol=1e-9 * np.abs(limit.X).max())
    total, scale = found.gradient.sum(axis=0), np.abs(limit.gradient).max()
    close(total, limit.gradient, rtol=1e-7, atol=1e-8 * scale)


def test_every_further_stage_costs_something():
    costs = [
        finite_horizon.cost(MAIN, constant(MAIN, FIRST_GAIN, T)) for T in (1, 5, 9)
    ]
    assert 0 < costs[0] < costs[1] < costs[2] < exact.cost(MAIN, FIRST_GAIN)


@pytest.mark.parametrize(
    ("horizon", "excess"), [(10, 2.57), (20, 0.155), (30, 0.009), (50, 0.00025)]
)
def test_the_best_constant_gain_of_few_steps_is_not_that_of_no_end(horizon, excess):
    def scored(k):
        found = finite_horizon.evaluate(MAIN, constant(MAIN, k.reshape(1, 2), horizon))
        return float(found.cost), found.gradient.sum(axis=0).ravel()

    best = minimize(scored, FIRST_GAIN.ravel(), jac=True, options={"gtol": 1e-9}).x
    gains = np.stack([best.reshape(1, 2), exact.optimal_gain(MAIN)])
    lost = -np.diff(exact.cost(MAIN, gains)).item()
    assert lost == pytest.approx(excess, rel=0.01)


# Leading axes.


@pytest.mark.parametrize(
    ("gain_lead", "cov_lead"),
    [((5,), ()), ((), (5,)), ((2, 3), (3,)), ((4, 1), (3,)), ((4,), (4,))],
    ids=str,
)
def test_many_gains_and_covariances_equal_a_loop(gain_lead, cov_lead):
    lqr, gains, _, S = staged(3, 2)
    rng = np.random.default_rng(1)
    K = gains + 0.1 * rng.standard_normal((*gain_lead, T, 2, 3))
    cov = np.array([spd(2, rng) for _ in np.ndindex(cov_lead)])
    cov = cov.reshape(*cov_lead, 2, 2)
    lead = np.broadcast_shapes(gain_lead, cov_lead)
    together = finite_horizon.evaluate(lqr, K, cov, terminal=S)
    assert together.cost.shape == lead
    assert together.gradient.shape == (*lead, T, 2, 3)
    K, cov = np.broadcast_to(K, (*lead, T, 2, 3)), np.broadcast_to(cov, (*lead, 2, 2))
    for i in np.ndindex(lead):
        alone = finite_horizon.evaluate(lqr, K[i], cov[i], terminal=S)
        for have, want in zip(together, alone, strict=True):
            assert have.shape == (*lead, *want.shape)
            close(have[i], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=str)
def test_a_constant_gain_is_the_same_at_every_stage(lead):
    K = np.random.default_rng(0).standard_normal((*lead, 1, 2))
    gains = constant(MAIN, K, 5)
    assert gains.shape == (*lead, 5, 1, 2)
    for t in range(5):
        np.testing.assert_array_equal(gains[..., t, :, :], K)
    assert not gains.flags.writeable


# What is allowed here, and what leaves the floats.


def test_without_a_discount_noise_costs_in_proportion_to_the_stages():
    lqr, K = worlds.recht_double_integrator(), np.array([[-0.3, -1.0]])
    with pytest.raises(ValueError, match="gamma"):
        exact.cost(lqr, K)
    short, long = (
        finite_horizon.cost(lqr, constant(lqr, K, horizon), 0.1)
        for horizon in (400, 500)
    )
    assert long - short == pytest.approx(100 * exact.average_cost(lqr, K, 0.1))


def test_unstable_gains_have_a_finite_cost_and_gradient():
    wild = constant(MAIN, -FIRST_GAIN, 20)
    assert not exact.is_stable(MAIN, -FIRST_GAIN)
    found = finite_horizon.evaluate(MAIN, wild)
    assert all(np.isfinite(part).all() for part in found)


@pytest.mark.parametrize(
    "gains",
    [
        constant(MAIN, [[1e6, 1e6]], 60),
        constant(MAIN, [[1e200, 1.0]], 2),
        constant(MAIN, [[1e170, 0.0]], 1),  # only P_0 leaves the floats
        constant(MAIN, [[1e308, 1e308]], 3),
    ],
    ids=["many stages", "squared", "one stage", "largest"],
)
def test_what_leaves_the_floats_costs_inf_has_nan_for_gradient_and_stays_alone(gains):
    calm = constant(MAIN, FIRST_GAIN, gains.shape[-3])
    found = finite_horizon.evaluate(MAIN, np.stack([gains, calm]), 0.1)
    np.testing.assert_array_equal(found.cost == np.inf, [True, False])
    lost = np.isnan(found.gradient).reshape(2, -1)
    np.testing.assert_array_equal(lost.all(axis=1), [True, False])
    alone = finite_horizon.evaluate(MAIN, calm, 0.1)
    close(found.gradient[1], alone.gradient, rtol=1e-13)
    assert finite_horizon.cost(MAIN, gains, 0.1) == np.inf


def test_an_optimum_that_leaves_the_floats_is_refused_by_the_horizon():
    growing = worlds.scalar(a=4.0, b=0.0)
    np.testing.assert_array_equal(optimal_gains(growing, 50), np.zeros((50, 1, 1)))
    with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
        optimal_gains(growing, 2000)


@pytest.mark.parametrize("horizon", [0, -1, 2.0, True, None, "3", [3]])
def test_a_horizon_that_is_no_number_of_stages_is_refused(horizon):
    for call in (
        lambda: constant(MAIN, FIRST_GAIN, horizon),
        lambda: optimal_gains(MAIN, horizon),
    ):
        with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
            call()


def test_covariances_that_do_not_fit_the_gains_are_refused_by_name():
    two = np.stack([constant(MAIN, FIRST_GAIN, 3)] * 2)
    with pytest.raises(ValueError, match=r"^cov: expected leading axes"):
        finite_horizon.cost(MAIN, two, np.ones((3, 1, 1)))


def test_what_is_returned_can_be_written_to_without_touching_the_arguments():
    lqr, gains, _, S = staged(3, 2)
    before = gains.copy(), S.copy()
    finite_horizon.stages(lqr, gains)[:] = 7.0
    finite_horizon.terminal_cost(lqr, S)[:] = 7.0
    np.testing.assert_array_equal(gains, before[0])
    np.testing.assert_array_equal(S, before[1])


# Every system, and draws.


@given(stabilised_systems())
@settings(deadline=None, max_examples=50, derandomize=True)
def test_on_every_system_the_stages_agree_with_each_other(drawn):
    lqr, K, rng = drawn
    horizon = int(rng.integers(1, 8))
    gains = K + 0.2 * rng.standard_normal((horizon, lqr.m, lqr.n))
    cov, S = spd(lqr.m, rng), spd(lqr.n, rng)
    found = finite_horizon.evaluate(lqr, gains, cov, terminal=S)
    assert found.cost == pytest.approx(stacked_cost(lqr, gains, cov, S), rel=1e-9)
    for stack in (found.P, found.X):
        np.testing.assert_array_equal(stack, stack.mT)
        values = np.linalg.eigvalsh(stack)
        assert (values[..., 0] >= -1e-12 * values[..., -1]).all()
    best = optimal_gains(lqr, horizon, terminal=S)
    lowest = finite_horizon.cost(lqr, best, cov, terminal=S)
    assert lowest <= found.cost * (1 + 1e-12)
    # A quadratic in the gain of one stage: three costs on a line fix it.
    t, D = int(rng.integers(horizon)), np.zeros(gains.shape)
    D[t] = rng.standard_normal((lqr.m, lqr.n))
    scale = np.array([-1.0, 1.0])[:, None, None, None]
    ends = finite_horizon.cost(lqr, gains + scale * D, cov, terminal=S)
    slope = (ends[1] - ends[0]) / 2
    assert np.sum(found.gradient * D) == pytest.approx(
        slope, rel=1e-7, abs=1e-9 * ends.max()
    )


@pytest.mark.parametrize("last", [False, True], ids=["no last cost", "a last cost"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2)])
def test_trajectories_of_stage_gains_cost_what_they_should_on_average(n, m, last):
    lqr, gains, _, S = staged(n, m)
    data = rollout(lqr, StagePolicy(gains), 20_000, T, np.random.default_rng(5))
    returns = data.cost @ lqr.gamma ** np.arange(T)
    if last:
        x = data.x[:, -1]
        returns = returns + lqr.gamma**T * (x * (x @ S)).sum(axis=-1)
    expected = finite_horizon.cost(lqr, gains, terminal=S if last else None)
    assert abs(z_scores(returns, expected)) < MOST
