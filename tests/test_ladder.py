"""Mean and variance of every rung: by hand, densely, and sampled."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from systems import FIRST_GAINS, MOST, NAMED, close, gaussian_data, system

from lqrlib import GaussianPolicy, exact, finite_horizon, gradients, ladder, worlds
from lqrlib.critic import exact_critic
from lqrlib.ladder import RUNGS, spread
from lqrlib.rollout import rollout
from lqrlib.weights import breakdown, second_moment

MAIN, FIRST = worlds.double_integrator(), FIRST_GAINS["double_integrator"]
every_rung = pytest.mark.parametrize("rung", RUNGS)
SHORT = 5


def off_policy(n, m):
    """A random world, a gain, a nearby one that makes the data, and a covariance."""
    lqr, K, cov = system(n, m)
    near = np.random.default_rng([n, m]).standard_normal(K.shape)
    step = 0.3 * breakdown(lqr, K, near, cov, SHORT)
    return lqr, K, K + min(float(step), 0.1) * near, cov


# By hand.


def test_one_step_of_a_scalar_world_by_hand():
    # g = s c with s = e x/σ², c = Qx² + R(Kx + e)²; x ~ N(0, X₀), e ~ N(0, σ²).
    lqr, K, s2 = worlds.scalar(), np.array([[-0.4]]), 0.3
    q, r, k, X = lqr.Q[0, 0], lqr.R[0, 0], K[0, 0], lqr.X0[0, 0]
    x2, x4, x6 = X, 3 * X**2, 15 * X**3
    a = q + r * k**2
    # c = a x² + 2 r k x e + r e²; E over e of e² c², then over x.
    e2, e4, e6 = s2, 3 * s2**2, 15 * s2**3
    second = x6 * a**2 * e2 + x4 * (4 * r**2 * k**2 + 2 * a * r) * e4 + x2 * r**2 * e6
    mean = 2 * r * k * x2
    found = spread(lqr, K, K, s2, 1, "per-decision")
    close(found.mean, [[mean]])
    close(found.variance, [[second / s2**2 - mean**2]])


def test_at_one_step_a_weight_for_each_cost_is_that_of_the_trajectory():
    lqr, K, K_b, cov = off_policy(3, 2)
    one, other = (spread(lqr, K, K_b, cov, 1, rung) for rung in RUNGS[:2])
    close(one.mean, other.mean)
    close(one.variance, other.variance, rtol=1e-9)


# Densely: states and actions as linear maps of the normals that drive them, every pair
# of steps by itself, and products of forms one by one.


def form(left, right, middle=None):
    """(Lz)'M(Rz) as a symmetric matrix."""
    M = left.T @ (right if middle is None else middle @ right)
    return 0.5 * (M + M.T)


def product_mean(C, forms):
    """E of a product of z'Az + c, z ~ N(0, C): E[z'Az f(z)] = E[tr(AC) f + z'AC∇f]."""
    if not forms:
        return 1.0
    (A, c), *rest = forms
    total = (np.trace(A @ C) + c) * product_mean(C, rest)
    for i, (B, _) in enumerate(rest):
        joined = (A @ C @ B + B @ C @ A, 0.0)
        total += product_mean(C, [joined, *rest[:i], *rest[i + 1 :]])
    return total


def tilted_mean(exponent, forms):
    """E[exp(z'Mz) Π forms] for standard normal z."""
    precision = np.eye(len(exponent)) - 2.0 * exponent
    assert np.linalg.eigvalsh(precision).min() > 0.0
    mass = np.linalg.det(precision) ** -0.5
    return mass * product_mean(np.linalg.inv(precision), forms)


class Joint:
    """A trajectory of T steps under N(K_b x, Σ), and the forms of all its steps."""

    def __init__(self, lqr, K, K_b, cov, T):
        n, m = lqr.n, lqr.m
        ends = np.cumsum([n, *[m, n] * T])
        z = np.split(np.eye(ends[-1]), ends[:-1])
        x, u = [np.linalg.cholesky(lqr.X0) @ z[0]], []
        for t in range(T):
            u.append(K_b @ x[t] + np.linalg.cholesky(cov) @ z[2 * t + 1])
            noise = np.linalg.cholesky(lqr.W) @ z[2 * t + 2]
            x.append(lqr.A @ x[t] + lqr.B @ u[t] + noise)
        self.lqr, self.x, self.T, inverse = lqr, x, T, np.linalg.inv(cov)
        own, other = ([u[t] - gain @ x[t] for t in range(T)] for gain in (K, K_b))
        self.scores = [inverse @ e for e in own]
        self.slopes = [2.0 * exact.gain_error(lqr, K) @ x[t] for t in range(T)]
        squares = [[form(e, e, 0.5 * inverse) for e in part] for part in (other, own)]
        ratios = np.subtract(*squares)
        self.log_w = [0.0 * ratios[0], *np.cumsum(ratios, axis=0)]  # w_{−1} first
        critic, P = exact_critic(lqr, K, cov), exact.value_matrix(lqr, K)
        value = critic.const + np.trace(critic.Theta[n:, n:] @ cov)
        pairs = [np.concatenate(pair) for pair in zip(x, u, strict=False)]
        self.V = [(form(y, y, P), value) for y in x]
        self.Q = [(form(z, z, critic.Theta), critic.const) for z in pairs]
        self.c = [form(x[t], x[t], lqr.Q) + form(u[t], u[t], lqr.R) for t in range(T)]
        stages = finite_horizon.constant(lqr, K, T)
        X = finite_horizon.state_moments(lqr, stages, cov)[:-1]
        paid = np.einsum("tij,ij->t", X, lqr.Q + K.T @ lqr.R @ K)
        self.mean_costs = paid / lqr.gamma ** np.arange(T) + np.trace(lqr.R @ cov)

    def terms(self, rung, i, j):
        """Of the entry (i, j): t + 1 for the weight w_t, a factor, and forms."""
        one = [
            (form(e[[i]], x[[j]]), 0.0)
            for e, x in zip(self.scores, self.x, strict=False)
        ]
        S = np.cumsum([M for M, _ in one], axis=0)
        before = (0.0 * S[0], *S)
        for t in range(self.T):
            paid = self.at_step(rung, t)
            D = form(self.slopes[t][[i]], self.x[t][[j]])
            scores = {"S": (S[t], 0.0), "s": one[t], "last": (S[-1], 0.0)}
            scores |= {"S before": (before[t], 0.0), "D": (D, 0.0)}
            for weight, score, forms in paid:
                yield weight, self.lqr.gamma**t, [scores[score], *forms]

    def at_step(self, rung, t):
        """What is paid for which score, with which weight."""
        c, V, Q, ahead, g = (
            self.c[t],
            self.V[t],
            self.Q[t],
            self.V[t + 1],
            self.lqr.gamma,
        )
        minus_V, now = (-V[0], -V[1]), t + 1
        delta = c + g * ahead[0] - V[0], g * ahead[1] - V[1]
        return {
            "trajectory": [(self.T, "last", [(c, 0.0)])],
            "per-decision": [(now, "S", [(c, 0.0)])],
            "time baseline": [(now, "S", [(c, -self.mean_costs[t])])],
            "value baseline": [(now, "S", [(c, 0.0)]), (now, "s", [minus_V])],
            "doubly robust": [
                (now, "S", [(c - Q[0], -Q[1])]),
                (t, "S before", [V]),
                (t, "D", []),
            ],
            "TD error": [(now, "s", [delta])],
            "advantage": [(now, "s", [(Q[0] - V[0], Q[1] - V[1])])],
            "action integrated out": [(t, "D", [])],
            "deterministic gradient": [(0, "D", [])],
        }[rung]

    def moments(self, rung, i, j):
        """Mean and second moment of the entry (i, j), under N(K_b x, Σ)."""
        terms = list(self.terms(rung, i, j))
        mean = sum(g * tilted_mean(self.log_w[t], forms) for t, g, forms in terms)
        second = sum(
            g * h * tilted_mean(self.log_w[t] + self.log_w[s], [*forms, *others])
            for (t, g, forms), (s, h, others) in itertools.product(terms, repeat=2)
        )
        return mean, second


@every_rung
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_both_moments_are_those_of_all_pairs_of_steps(rung, n, m):
    lqr, K_b, cov = system(n, m)
    way, T = exact.optimal_gain(lqr) - K_b, 3
    K = K_b + 0.7 * breakdown(lqr, K_b, way, cov, T) * way
    assert second_moment(lqr, K, K_b, cov, T) > 1.3  # weights that matter
    joint, found = Joint(lqr, K, K_b, cov, T), spread(lqr, K, K_b, cov, T, rung)
    for i, j in np.ndindex(m, n):
        mean, second = joint.moments(rung, i, j)
        assert found.mean[i, j] == pytest.approx(mean, rel=1e-9, abs=1e-10)
        assert found.variance[i, j] == pytest.approx(second - mean**2, rel=1e-8)


# Means.


@every_rung
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_the_mean_is_the_gradient_that_the_rung_speaks_of(rung, n, m):
    lqr, K, K_b, cov = off_policy(n, m)
    T = 7
    stages = {
        name: finite_horizon.constant(lqr, g, T) for name, g in (("K", K), ("b", K_b))
    }
    whose = "b" if rung == "deterministic gradient" else "K"
    X = finite_horizon.state_moments(lqr, stages[whose], cov)[:-1].sum(axis=0)
    expected = 2 * exact.gain_error(lqr, K) @ X
    if rung in RUNGS[:5]:
        expected = finite_horizon.gradient(lqr, stages["K"], cov).sum(axis=0)
    found = spread(lqr, K, K_b, cov, T, rung).mean
    close(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# Where there is none.


@every_rung
@pytest.mark.parametrize("world", FIRST_GAINS)
def test_a_rung_has_a_variance_where_its_weights_have_a_second_moment(world, rung):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    way = exact.optimal_gain(lqr) - K_b
    wall = breakdown(lqr, K_b, way, 1.0, SHORT)
    K = K_b + np.array([0.5, 0.9, 0.999, 1.001, 1.5])[:, None, None] * wall * way
    K = K[exact.is_stable(lqr, K)]
    variance = spread(lqr, K, K_b, 1.0, SHORT, rung).variance
    exists = np.isfinite(second_moment(lqr, K, K_b, 1.0, SHORT))
    # The last weight is w_{T−2} where no cost of the last step is weighted.
    if rung == "action integrated out":
        exists = np.isfinite(second_moment(lqr, K, K_b, 1.0, SHORT - 1))
    if rung == "deterministic gradient":
        exists = np.ones_like(exists)
    assert np.array_equal(np.isfinite(variance).all(axis=(1, 2)), exists)
    assert (variance > 0.0).all()


def test_variances_grow_towards_the_wall():
    way = exact.optimal_gain(MAIN) - FIRST
    wall = breakdown(MAIN, FIRST, way, 1.0, 20)
    K = FIRST + np.array([0.8, 0.95, 0.999, 0.99999])[:, None, None] * wall * way
    for rung in RUNGS[:-2]:
        deviation = spread(MAIN, K, FIRST, 1.0, 20, rung).deviation
        assert (np.diff(deviation) > 0).all()


# Shapes.


@every_rung
def test_broadcasting_is_looping(rung):
    lqr, K, K_b, cov = off_policy(2, 2)
    gains, covs = np.stack([K, 0.5 * (K + K_b)]), np.stack([cov, 2.0 * cov, 3.0 * cov])
    together = spread(lqr, gains, K_b, covs[:, None], SHORT, rung)
    assert together.variance.shape == together.mean.shape == (3, 2, 2, 2)
    assert together.deviation.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        alone = spread(lqr, gains[j], K_b, covs[i], SHORT, rung)
        close(together.mean[i, j], alone.mean, rtol=1e-10, atol=1e-12)
        close(together.variance[i, j], alone.variance, rtol=1e-9)


def test_a_number_is_a_multiple_of_the_identity():
    lqr, K, K_b, _ = off_policy(2, 2)
    for rung in RUNGS:
        one, other = (
            spread(lqr, K, K_b, cov, 3, rung) for cov in (0.7, 0.7 * np.eye(2))
        )
        assert np.array_equal(one.variance, other.variance)


# Sampled: the library's own estimators, with the exact critic.


def estimators(lqr, K, cov):
    critic = exact_critic(lqr, K, cov)
    actor_critic = functools.partial(gradients.actor_critic_is, critic=critic, cov=cov)
    return {
        "trajectory": functools.partial(gradients.trajectory_is, cov=cov),
        "per-decision": functools.partial(gradients.per_decision_is, cov=cov),
        "doubly robust": functools.partial(
            gradients.doubly_robust_is, cov=cov, critic=critic
        ),
        "TD error": functools.partial(actor_critic, signal="TD error"),
        "advantage": functools.partial(actor_critic, signal="advantage"),
        "action integrated out": functools.partial(actor_critic, signal="expectation"),
        "deterministic gradient": functools.partial(gradients.dpg, critic=critic),
    }


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("world", FIRST_GAINS)
def test_each_estimator_has_the_mean_and_the_spread_of_its_rung(world, share):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    cov, N, T, sets = 0.7 * np.eye(lqr.m), 300, 8, 100
    way = exact.optimal_gain(lqr) - K_b
    K = K_b + share * breakdown(lqr, K_b, way, cov, T) * way
    made_by = np.broadcast_to(K_b, (sets, *K_b.shape))
    data = gaussian_data(lqr, made_by, cov, N, T)
    for rung, estimate in estimators(lqr, K, cov).items():
        exactly = spread(lqr, K, K_b, cov, T, rung)
        found = estimate(lqr, data, np.broadcast_to(K, made_by.shape))
        z = (found.gradient.mean(axis=0) - exactly.mean) / np.sqrt(
            exactly.variance / (N * sets)
        )
        assert np.abs(z).max() < MOST, rung
        # Each set's standard error, squared and scaled, estimates the variance.
        variances = N * np.square(found.standard_error)
        error = variances.std(axis=0) / np.sqrt(sets)
        z = (variances.mean(axis=0) - exactly.variance) / error
        assert np.abs(z).max() < MOST + 1, rung  # means of skewed variances


def test_baselines_are_those_of_the_ladder():
    lqr, K, cov, T, N = MAIN, FIRST, 0.7 * np.eye(1), 8, 40_000
    data = rollout(lqr, GaussianPolicy(K, cov), N, T, np.random.default_rng(5))
    e = (data.u - data.x[:, :-1] @ K.T) / 0.7
    s = np.einsum("itm,itn->itmn", e, data.x[:, :-1])
    S, discount = np.cumsum(s, axis=1), lqr.gamma ** np.arange(T)
    X = finite_horizon.state_moments(lqr, finite_horizon.constant(lqr, K, T), cov)
    per_step = lqr.Q + K.T @ lqr.R @ K
    means = np.einsum("tij,ij->t", X[:-1], per_step) / discount + 0.7 * lqr.R[0, 0]
    P, critic = exact.value_matrix(lqr, K), exact_critic(lqr, K, cov)
    V = np.einsum(
        "atp,pq,atq->at",
        data.x[:, :-1],
        P,
        data.x[:, :-1],
    )
    V = V + critic.const + critic.Theta[2, 2] * 0.7
    paid = {
        "time baseline": S * (discount * (data.cost - means))[..., None, None],
        "value baseline": S * (discount * data.cost)[..., None, None]
        - s * (discount * V)[..., None, None],
    }
    for rung, terms in paid.items():
        g = terms.sum(axis=1)
        exactly = spread(lqr, K, K, cov, T, rung)
        z = (g.mean(axis=0) - exactly.mean) / np.sqrt(exactly.variance / N)
        assert np.abs(z).max() < MOST
        square = np.square(g - exactly.mean)
        z = (square.mean(axis=0) - exactly.variance) / square.std(axis=0) * np.sqrt(N)
        assert np.abs(z).max() < MOST


# The values that were sampled when the ladder was drawn first, and ours.

REFERENCE = {  # standard deviation over |∇J| at σ² = .01, .1, 1
    "trajectory": (393, 125, 40),
    "per-decision": (187, 59, 19),
    "time baseline": (133, 42, 13),
    "value baseline": (33, 10, 3.6),
    "TD error": (14, 4.6, 1.8),
    "advantage": (1.3, 1.3, 1.2),
    "deterministic gradient": (1.1, 1.1, 1.1),
}


@pytest.mark.parametrize("rung", REFERENCE)
def test_the_ladder_on_its_own_data(rung):
    covs = np.array([0.01, 0.1, 1.0])[:, None, None]
    size = np.linalg.norm(exact.gradient(MAIN, FIRST, covs), axis=(1, 2))
    found = spread(MAIN, FIRST, FIRST, covs, 100, rung).deviation / size
    close(found, REFERENCE[rung], rtol=0.1)


# What is refused.


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("rung", lambda: spread(MAIN, FIRST, FIRST, 1.0, 5, "top")),
        ("rung", lambda: spread(MAIN, FIRST, FIRST, 1.0, 5, 3)),
        ("horizon", lambda: spread(MAIN, FIRST, FIRST, 1.0, 0, "advantage")),
        ("cov", lambda: spread(MAIN, FIRST, FIRST, 0.0, 5, "advantage")),
        ("K", lambda: spread(MAIN, -FIRST, FIRST, 1.0, 5, "advantage")),
        ("K_behaviour", lambda: spread(MAIN, FIRST, FIRST.T, 1.0, 5, "advantage")),
        (
            "gamma",
            lambda: spread(
                dataclasses.replace(MAIN, gamma=1.0), FIRST, FIRST, 1.0, 5, "advantage"
            ),
        ),
    ],
)
def test_what_has_no_answer_is_refused(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()


def test_the_module_names_its_rungs_from_below():
    assert ladder.RUNGS[0] == "trajectory"
    assert ladder.RUNGS[-1] == "deterministic gradient"
