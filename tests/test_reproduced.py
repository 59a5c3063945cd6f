"""Numbers that papers or their published code print, as in `book/reproduced.md`."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.integrate
from systems import MOST, SYSTEMS, close, radius, spd, system, z_scores

from lqrlib import LQR, GaussianPolicy, descent, exact, finite_horizon, lyapunov, worlds
from lqrlib.model import fit
from lqrlib.rollout import rollout, transitions
from lqrlib.weights import effective_sample_size, second_moment

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


# Recht's policy gradients, simulated here without the library.


def batch_mean(lqr, start, K, sigma, z, baseline):
    """Mean of (c − b) Σ v x' and of c over a batch; z [..., size, T, m+n]."""
    x = np.broadcast_to(start, (*z.shape[:-2], lqr.n))
    cost, scores = 0.0, 0.0
    for step in np.moveaxis(z, -2, 0):
        v = sigma * step[..., : lqr.m]
        u = x @ K.mT + v
        scores = scores + v[..., :, None] * x[..., None, :]
        noise = step[..., lqr.m :] * np.sqrt(np.diag(lqr.W))
        x = x @ lqr.A.T + u @ lqr.B.T + noise
        cost = cost + ((x @ lqr.Q) * x).sum(-1) + ((u @ lqr.R) * u).sum(-1)
    weighted = (cost - baseline)[..., None, None] * scores
    return weighted.mean(axis=-3), cost.mean(axis=-1, keepdims=True)


def learn(lqr, start, K, noise, sigma, rule, *, baseline=True, reach=1e3):
    """The last gain; noise [updates, ..., size, T, m+n]."""
    b = 0.0
    for z in noise:
        g, mean = batch_mean(lqr, start, K, sigma, z, b)
        b = mean if baseline else 0.0
        K = np.clip(K - rule(g), -reach, reach)
    return K


def adam(step):
    M, V, k = 0.0, 0.0, 0

    def rule(g):
        nonlocal M, V, k
        M, V, k = 0.9 * M + 0.1 * g, 0.999 * V + 0.001 * g * g, k + 1
        return step * M / (1 - 0.9**k) / np.sqrt(V / (1 - 0.999**k))

    return rule


def constant(step):
    return lambda g: step * g


def score(lqr, K):
    """tr P where ρ(A + BK) < 1 − 10⁻⁶, his border."""
    stable = lyapunov.spectral_radius(lqr.closed_loop(K)) < 1 - 1e-6
    return np.where(stable, exact.cost(quiet(lqr, np.eye(lqr.n)), K), np.inf)


def his_noise(rs, lqr, rollouts, T, square):
    """Of one trial, after the model's draws and before those of two searches."""
    mn, steps = lqr.m * lqr.n, (rollouts, T, lqr.m + lqr.n)
    rs.standard_normal(steps)
    first, z = rs.standard_normal((lqr.m, lqr.n)), rs.standard_normal(steps)
    rs.standard_normal(mn)
    rs.standard_normal((rollouts // 2, mn + 2 * T * lqr.n))
    for _ in range(rollouts if square else 0):
        rs.uniform(size=mn)
        rs.standard_normal(T * lqr.n)
    return first, z


def his_ten(rs, lqr, start, counts, T, size, sigma, rule, *, square, spread=0, **more):
    """Scores of his ten trials after each number of rollouts."""
    scores = []
    for rollouts in counts:
        trials = [his_noise(rs, lqr, rollouts, T, square) for _ in range(10)]
        first, z = (np.array(part) for part in zip(*trials, strict=True))
        noise = z.reshape(10, -1, size, *z.shape[2:]).swapaxes(0, 1)
        K = learn(lqr, start, spread * first, noise, sigma, rule(), **more)
        scores.append(score(lqr, K))
    return np.array(scores)


def after_one_rollout():
    rs = np.random.RandomState(1337)
    rs.standard_normal((10, 3))
    return rs


START = np.array([-1.0, 0.0])


def test_his_seed_gives_the_medians_of_his_figure_with_adam():
    counts, read = [40, 80, 200, 280, 480, 1000, 2000], [9.1, 8.2, 6.8, 6.7, 6.05]
    ten = his_ten(
        after_one_rollout(),
        RECHT,
        START,
        counts,
        10,
        8,
        0.1,
        lambda: adam(0.05),
        square=True,
    )
    close(np.median(ten, axis=1)[2:], read, rtol=0, atol=0.05)


def test_his_first_version_has_infinite_medians_and_is_seldom_stable():
    counts = [40, 80, 200, 280, 480, 1000, 2000, 3000, 4000, 5000]
    ten = his_ten(
        after_one_rollout(),
        RECHT,
        START,
        counts,
        10,
        40,
        0.05,
        lambda: constant(2.0),
        square=True,
        spread=1e-3,
        reach=2.0,
    )
    assert np.isinf(np.median(ten, axis=1)[:6]).all()
    assert np.isfinite(ten).mean(axis=1).max() == 0.9


def test_his_seed_gives_the_stable_shares_of_his_datacenter_figure():
    rs = np.random.RandomState(1337)
    start = rs.standard_normal(3)
    rs.standard_normal((100, 6))
    counts = [40, 80, 160, 240]
    ten = his_ten(
        rs, CENTER, start, counts, 100, 8, 0.1, lambda: adam(0.01), square=False
    )
    close(np.isfinite(ten).mean(axis=1), [0, 0.3, 0.4, 0.7])


def fresh_scores(rule, trials, rollouts, *, baseline=True):
    rng = np.random.default_rng(11)
    noise = (rng.standard_normal((trials, 8, 10, 3)) for _ in range(rollouts // 8))
    K = np.zeros((trials, 1, 2))
    return score(RECHT, learn(RECHT, START, K, noise, 0.1, rule, baseline=baseline))


@pytest.mark.parametrize("baseline", [False, True])
def test_no_constant_step_arrives_in_three_thousand_rollouts(baseline):
    steps = np.repeat(0.0025 * 2.0 ** np.arange(7), 20)[:, None, None]
    ends = fresh_scores(constant(steps), 140, 3000, baseline=baseline).reshape(7, 20)
    assert ((ends < 1.05 * 5.931125).mean(axis=1) <= 0.2).all()
    assert np.isfinite(ends[0]).mean() > 0.8 > 0.2 > np.isfinite(ends[-1]).mean()


def test_a_step_of_fixed_length_arrives_as_adam_does():
    def fixed(g):
        return 0.05 * g / np.linalg.norm(g, axis=(-2, -1), keepdims=True)

    for rule in (fixed, adam(0.05)):
        assert (fresh_scores(rule, 40, 3000) < 1.05 * 5.931125).mean() > 0.6


def test_plain_descent_arrives_with_sixteen_times_the_rollouts():
    ends = fresh_scores(constant(0.01), 20, 48_000, baseline=False)
    assert (ends < 1.05 * 5.931125).mean() > 0.7


# Metelli et al. (2018): what weights of two Gaussians are worth.


@pytest.mark.parametrize("apart", [0.5, 1.0])
def test_effective_share_of_two_gaussians_with_one_covariance(apart):
    rng = np.random.default_rng(5)
    cov, delta = spd(3, rng), rng.standard_normal(3)
    precision = np.linalg.inv(cov)
    delta *= apart / np.sqrt(delta @ precision @ delta)
    xi = rng.multivariate_normal(np.zeros(3), cov, size=(20, 50_000))
    log_w = xi @ precision @ delta - 0.5 * apart**2
    share = effective_sample_size(log_w) / 50_000
    assert abs(z_scores(share, np.exp(-(apart**2)))) < MOST


@SYSTEMS
def test_a_one_step_weight_averages_that_formula_over_the_states(n, m):
    lqr, K, cov = system(n, m)
    change = np.random.default_rng(6).standard_normal((m, n))
    S = change.T @ np.linalg.solve(cov, change)
    largest = np.linalg.eigvals(2 * lqr.X0 @ S).real.max()
    for share in (0.3, 0.9):
        near = np.sqrt(share / largest)
        left = np.linalg.det(np.eye(n) - 2 * near**2 * lqr.X0 @ S)
        close(second_moment(lqr, K + near * change, K, cov, 1), left**-0.5)
    past = np.sqrt(1.01 / largest)
    assert second_moment(lqr, K + past * change, K, cov, 1) == np.inf


# Tu & Recht (2019), Theorem 2.5: A = ρUU', B = ρU, Q = I, R = 0, at K* = −U'.


def squared_lengths(n, d, T, samples, rng, rho=0.25):
    """|g|² with cost to go, less its mean, and with the advantage: [3, samples]."""
    U = np.eye(n)[:, :d]
    eta = rng.standard_normal((samples, T, d))
    pushed = rho * eta @ U.T
    ahead = pushed + rng.standard_normal((samples, T, n))  # x_{t+1}, as A + BK* = 0
    x = np.concatenate([np.zeros((samples, 1, n)), ahead[:, :-1]], axis=1)
    to_go = (ahead**2).sum(-1)[:, ::-1].cumsum(axis=1)[:, ::-1]
    mean = (n + rho**2 * d) * np.arange(T, 0, -1)
    advantage = (pushed**2).sum(-1) - rho**2 * d
    psi = np.stack([to_go, to_go - mean, advantage])
    return (np.einsum("bst,std,stn->bsdn", psi, eta, x) ** 2).sum((-2, -1))


def traces(n, d, T, rho=0.25):
    """The page's closed forms for the means of the three."""
    r, k = rho**2, np.arange(T - 1)
    mu, v = n + r * d, 2 * (n - d + d * (1 + r) ** 2)
    a2, a3 = d * (d + 2), d * (d + 2) * (d + 4)
    ac, acc = d * n + r * a2, n * (n + 2) * d + (2 * n + 4) * r * a2 + r * r * a3
    simple = acc + 2 * k * mu * ac + d * (k * v + k**2 * mu**2)
    value = acc - 2 * mu * ac + d * mu**2 + d * k * v
    advantage = r**2 * (2 * d * d + 8 * d) * np.ones(T - 1)
    return mu * np.array([simple.sum(), value.sum(), advantage.sum()])


def test_variance_of_reinforce_in_a_scalar_world_by_hand():
    # n = d = 1, T = 2: E x² E[η²(ρη + w)⁴], with E η² = 1, E η⁴ = 3, E η⁶ = 15.
    r = 0.25**2
    simple, _, advantage = traces(1, 1, 2)
    assert simple == pytest.approx((1 + r) * (3 + 18 * r + 15 * r**2))
    # E η²(η² − 1)² = 15 − 6 + 1.
    assert advantage == pytest.approx((1 + r) * 10 * r**2)


@pytest.mark.parametrize("setting", [(1, 1, 2), (4, 2, 5), (4, 2, 10), (8, 2, 10)])
def test_simulated_variance_of_reinforce_has_the_closed_form(setting):
    samples = squared_lengths(*setting, 40_000, np.random.default_rng(setting))
    assert np.abs(z_scores(samples.T, traces(*setting))).max() < MOST


def test_variance_of_reinforce_grows_with_horizon_and_states_as_in_the_theorem():
    orders = [8, 4, 2]
    close(traces(4, 2, 2000) / traces(4, 2, 1000), orders, rtol=0.002)
    close(traces(2000, 2, 10) / traces(1000, 2, 10), orders, rtol=0.002)
    recorded = {
        (4, 2, 5): (5.0e3, 720, 1.55),
        (4, 2, 10): (4.4e4, 3.2e3, 3.5),
        (4, 2, 20): (3.6e5, 1.34e4, 7.35),
        (8, 2, 10): (3.2e5, 1.22e4, 6.9),
        (16, 2, 10): (2.4e6, 4.7e4, 13.6),
    }
    for setting, values in recorded.items():
        close(traces(*setting), values, rtol=0.02)


# Silver et al. (2014), section 5.1: a bandit, in its own coordinates, run by run.


def critic(features, costs):
    """Least squares with a bias: slopes and bias."""
    full = np.column_stack([features, np.ones(len(costs))])
    w = np.linalg.lstsq(full, costs)[0]
    return w[:-1], w[-1]


def scores(theta, variance, actions):
    """Of N(theta, variance I), in theta and in the logarithm of the variance."""
    away = actions - theta
    wide = 0.5 * ((away**2).sum(axis=1) / variance - actions.shape[1])
    return np.column_stack([away / variance, wide])


def stochastic(theta, variance, actions, costs, *, bias, one=False):
    """The mean over the batch, or over its first action, of score times critic."""
    phi = scores(theta, variance, actions)
    w, v = critic(phi, costs)
    return (phi * (phi @ w + bias * v)[:, None])[: 1 if one else None].mean(axis=0)


def deterministic(theta, variance, actions, costs):
    return np.append(critic(actions - theta, costs)[0], 0.0)


def bandit_end(actor, m, step, deviation, seed, **reading):
    """Cost of the mean action after 10,000 actions."""
    rng = np.random.default_rng([31, seed])
    U = np.linalg.qr(rng.standard_normal((m, m)))[0]
    C = U * rng.choice([0.1, 1.0], size=m) @ U.T
    theta, y = np.zeros(m), 2 * np.log(deviation)
    for _ in range(10_000 // (2 * m)):
        actions = theta + np.exp(y / 2) * rng.standard_normal((2 * m, m))
        costs = (((actions - 4.0) @ C) * (actions - 4.0)).sum(axis=1)
        change = step * actor(theta, np.exp(y), actions, costs, **reading)
        theta, y = theta - change[:-1], y - change[-1]
    return (theta - 4.0) @ C @ (theta - 4.0)


def median_end(*arm, **reading):
    return np.median([bandit_end(*arm, seed, **reading) for seed in range(20)])


def test_the_batch_mean_of_a_compatible_critic_is_reinforce():
    # Least squares leaves residuals orthogonal to the features.
    rng = np.random.default_rng(0)
    theta, costs = rng.standard_normal(6), rng.exponential(size=30)
    actions = theta + 0.7 * rng.standard_normal((30, 6))
    phi = scores(theta, 0.49, actions)
    v = critic(phi, costs)[1]
    for bias, kept in ((0, costs - v), (1, costs)):
        found = stochastic(theta, 0.49, actions, costs, bias=bias)
        close(found, kept @ phi / 30, rtol=1e-9, atol=1e-12)


def test_a_score_is_the_slope_of_the_log_density():
    theta, y, h = np.array([0.3, -1.0]), 0.4, 1e-6
    a = np.array([1.0, 0.5])

    def log_density(theta, y):
        return -0.5 * np.exp(-y) * ((a - theta) ** 2).sum() - y

    shifts = h * np.eye(3)
    slope = [
        (log_density(theta + e[:2], y + e[2]) - log_density(theta - e[:2], y - e[2]))
        / (2 * h)
        for e in shifts
    ]
    close(scores(theta, np.exp(y), a[None])[0], slope, rtol=1e-7)


def test_two_opposite_actions_show_the_deterministic_actor_the_exact_slope():
    # (t + s - 4)² − (t − s − 4)² = 4 s (t − 4), over 2s: twice the distance.
    actions = np.array([[1.5], [0.5]])
    found = deterministic(np.array([1.0]), 0.25, actions, (actions[:, 0] - 4) ** 2)
    close(found, [-6.0, 0.0])


def test_with_its_baseline_the_stochastic_actor_ends_where_the_deterministic_does():
    m, step = 25, 10**-0.5
    follows = median_end(deterministic, m, step, 0.01)
    with_baseline = median_end(stochastic, m, step, 0.01, bias=0)
    without = median_end(stochastic, m, 1e-3, 3.0, bias=1)
    assert 1 / 5 < with_baseline / follows < 5
    assert without > 1e5 * with_baseline
    assert 80 < without < 160


def test_one_action_of_the_batch_costs_the_stochastic_actor_orders_of_magnitude():
    ends = [
        median_end(stochastic, m, step, 0.01, bias=0, one=one)
        for m, step, one in ((25, 10**-0.5, False), (25, 10**-1.5, True))
    ]
    assert 1 < ends[1] < 15
    assert ends[1] > 1000 * ends[0]


def test_what_is_left_of_the_deterministic_actors_cost_falls_with_its_variance():
    ends = [median_end(deterministic, 10, 0.1, s) for s in (0.01, 0.1)]
    assert ends[1] / ends[0] == pytest.approx(100, rel=0.2)
    close(ends[0], 2.1e-5, rtol=0.5)


# The deterministic gradient with the states of other data: −2 E_K X_β.


def value_by_solving(A, B, Q, R, gamma, K):
    """P of many systems at once, from the equation for its entries."""
    F, n = A + B @ K, A.shape[-1]
    squared = np.einsum("...ki,...lj->...ijkl", F, F)
    left = np.eye(n * n) - gamma * squared.reshape(*F.shape[:-2], n * n, n * n)
    right = (Q + K.mT @ R @ K).reshape(*F.shape[:-2], n * n, 1)
    return np.linalg.solve(left, right).reshape(F.shape)


def off_policy_walk(lqrs, X, step, updates):
    """Gains after K ← K − step E_K X / |R + γB'PB| from 0; those before they leave."""
    A, B, Q, R = (np.array([getattr(lqr, M) for lqr in lqrs]) for M in "ABQR")
    K, gamma, left = 0.0 * B.mT, lqrs[0].gamma, np.zeros(len(lqrs), bool)
    for _ in range(updates):
        P = value_by_solving(A, B, Q, R, gamma, K)
        C = R + gamma * B.mT @ P @ B
        E = C @ K + gamma * B.mT @ P @ A
        ahead = K - step * E @ X / np.linalg.norm(C, 2, (-2, -1), keepdims=True)
        rho = np.abs(np.linalg.eigvals(A + B @ ahead)).max(axis=-1)
        left |= np.sqrt(gamma) * rho >= 1
        K = np.where(left[:, None, None], K, ahead)
    return K, left


def last_mode(F):
    """The eigenvalue of largest size, v and w with v'F = λv', Fw = λw, v'w = 1."""
    values, W = np.linalg.eig(F)
    i = np.abs(values).argmax()
    return values[i], np.linalg.inv(W)[i], W[:, i]


@pytest.fixture(scope="module")
def held_out():
    """Two hundred worlds that the page does not use, with arbitrary states."""
    rngs = [np.random.default_rng(seed) for seed in range(400, 600)]
    lqrs = [worlds.random(3, 2, rng) for rng in rngs]
    X = np.array([spd(3, rng) for rng in rngs])
    return lqrs, X / np.linalg.norm(X, 2, (-2, -1), keepdims=True)


def test_few_off_policy_paths_leave_with_short_steps_and_where_they_may(held_out):
    lqrs, X = held_out
    K, left = off_policy_walk(lqrs, X, 0.01, 300)
    assert 1 <= left.sum() <= 12
    for i in np.flatnonzero(left):
        mode, v, w = last_mode(lqrs[i].closed_loop(K[i]))
        assert mode.imag != 0 or (v @ X[i] @ w).real < 0


def test_no_path_leaves_with_short_steps_and_the_first_gains_own_states(held_out):
    lqrs, _ = held_out
    X = np.array([exact.state_moment(lqr, np.zeros((2, 3)), 1.0) for lqr in lqrs])
    X /= np.linalg.norm(X, 2, (-2, -1), keepdims=True)
    assert not off_policy_walk(lqrs, X, 0.01, 300)[1].any()


def test_all_paths_arrive_with_the_states_divided_out(held_out):
    lqrs, _ = held_out
    K, left = off_policy_walk(lqrs, np.eye(3), 1.0, 1000)
    assert not left.any()
    close(K, [exact.optimal_gain(lqr) for lqr in lqrs], rtol=0, atol=1e-6)


def at_the_border(lqr, K, rng):
    """A gain just inside the border, where a real eigenvalue reaches it."""
    while True:
        way = rng.standard_normal(K.shape)
        far = 1.0
        while radius(lqr, K + far * way) < 1:
            far *= 2
        near = 0.0
        while far - near > 1e-9:
            middle = 0.5 * (near + far)
            inside = radius(lqr, K + middle * way) < 1
            near, far = (middle, far) if inside else (near, middle)
        found = K + (near - 1e-6) * way
        if abs(last_mode(lqr.closed_loop(found))[0].imag) == 0:
            return found


def opposed(v, w):
    """Second moment of states with v'Xw < 0, for v and w that are not parallel."""
    v, w = v / np.linalg.norm(v), w / np.linalg.norm(w)
    between = v @ w  # X = dd' + cI with d = v − w
    return np.outer(v - w, v - w) + 0.5 * (1 - between) ** 2 * np.eye(len(v))


@SYSTEMS
def test_at_the_border_the_states_of_the_data_decide_the_direction(n, m):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng([n, m])
    K = at_the_border(lqr, K, rng)
    mode, v, w = (part.real for part in last_mode(lqr.closed_loop(K)))
    E, stage = exact.gain_error(lqr, K), lqr.Q + K.T @ lqr.R @ K
    growth = (w @ stage @ w) / (1 - lqr.gamma * mode**2)
    push = lqr.gamma * growth * abs(mode) * np.sum((lqr.B.T @ v) ** 2)
    states = [np.eye(n), exact.state_moment(lqr, K), spd(n, rng)]
    states += [opposed(v, w)] if n > 1 else []
    for X in states:
        change = 1e-8 / np.linalg.norm(E @ X) * E @ X
        ahead, behind = (radius(lqr, K + s * change) for s in (-1, 1))
        rate = (ahead - behind) / 2e-8 * np.linalg.norm(E @ X) / np.sqrt(lqr.gamma)
        close(rate, -push * (v @ X @ w), rtol=0.01)
    assert n == 1 or rate > 0  # out, with the last


def flow(lqr, start, X):
    """Where K' = −2 E_K X ends: at the border, or close to K*."""
    goal = exact.optimal_gain(lqr).ravel()

    def velocity(t, k):
        K = k[None]
        E = exact.gain_error(lqr, K) if radius(lqr, K) < 1 else 0.0 * K
        return -(E @ X).ravel() / (np.linalg.norm(E @ X) + 0.01)

    def room(t, k):
        return 1 - 1e-6 - radius(lqr, k[None])

    def away(t, k):
        return np.linalg.norm(k - goal) - 0.01

    room.terminal = away.terminal = True
    found = scipy.integrate.solve_ivp(
        velocity, (0, 100), np.array(start), events=(room, away), rtol=1e-8, atol=1e-10
    )
    return found.y[:, -1]


def test_states_of_a_sensible_gain_drive_the_integrator_out():
    lqr = worlds.double_integrator()
    X = exact.state_moment(lqr, [[-2.0, -3.0]], 1.0)
    close(X, [[9.396, -4.054], [-4.054, 5.267]], atol=5e-4)
    end = flow(lqr, [-0.2, 0.4], X)
    close(end, [0.0491, 0.0709], rtol=0, atol=2e-4)
    assert radius(lqr, end[None]) > 0.9999
    close(flow(lqr, [-0.2, 0.4], np.eye(2)), exact.optimal_gain(lqr)[0], atol=0.011)


def test_without_discount_a_loop_that_settles_is_driven_out_too():
    lqr = replace(quiet(worlds.double_integrator(), np.eye(2)), gamma=1.0)
    X = exact.state_moment(lqr, [[-2.0, -3.0]])
    end = flow(lqr, [-0.2, -0.1], X)
    close(end, [0.0, -0.4279], rtol=0, atol=2e-4)
    close(flow(lqr, [-0.2, -0.1], np.eye(2)), exact.optimal_gain(lqr)[0], atol=0.011)
