"""Likelihood-ratio estimates as loops over steps, and the exact values they aim at."""

import functools

import numpy as np
import pytest
from systems import FIRST_GAINS, NAMED, gaussian_data, spd, system

from lqrlib import GaussianPolicy, exact
from lqrlib.critic import Critic
from lqrlib.rollout import concatenate
from lqrlib.weights import moment

HORIZON = 8
every_world = pytest.mark.parametrize("world", FIRST_GAINS)


def off_policy(n=3, m=2, n_trajectories=6, horizon=4):
    """A world, data of two policies in it, and a third policy."""
    lqr, K, cov = system(n, m)
    half = n_trajectories // 2
    data = concatenate(
        [
            gaussian_data(lqr, K, cov, half, horizon, seed=1),
            gaussian_data(lqr, 0.9 * K, 1.2 * cov, half, horizon, seed=2),
        ]
    )
    rng = np.random.default_rng(3)
    target = K + 0.1 * rng.standard_normal(K.shape)
    return lqr, data, target, cov + 0.1 * spd(m, rng)


def on_its_own(data):
    """The same data with a policy written out for every trajectory."""
    return concatenate([data])


def parts_by_hand(lqr, data, K, cov):
    """Weights, discounted costs and summed scores of each trajectory and step."""
    ratios, scores = steps_by_hand(data, K, cov)
    c = data.cost * lqr.gamma ** np.arange(data.cost.shape[-1])
    return np.cumprod(ratios, axis=1), c, np.cumsum(scores, axis=1)


def steps_by_hand(data, K, cov):
    """Ratio and score of each single step."""
    target, (N, T) = GaussianPolicy(K, cov), data.cost.shape
    ratios, scores = np.zeros((N, T)), np.zeros((N, T, *K.shape))
    for i in range(N):
        made_by = GaussianPolicy(data.policy.K[i], data.policy.cov[i])
        for t in range(T):
            step = data.x[i, t][None], data.u[i, t][None]
            logs = target.log_prob(*step) - made_by.log_prob(*step)
            ratios[i, t], scores[i, t] = np.exp(logs[0]), target.score(*step)[0]
    return ratios, scores


def mixture_by_hand(data, K, cov):
    """The weight of each trajectory and step over the mean of all policies'."""
    target, (N, T) = GaussianPolicy(K, cov), data.cost.shape
    policies = [
        GaussianPolicy(*one) for one in zip(data.policy.K, data.policy.cov, strict=True)
    ]
    w = np.zeros((N, T))
    for i in range(N):
        for t in range(T):
            steps = data.x[i, : t + 1], data.u[i, : t + 1]
            others = [np.exp(policy.log_prob(*steps).sum()) for policy in policies]
            w[i, t] = np.exp(target.log_prob(*steps).sum()) / np.mean(others)
    return w


def fit_by_hand(x, values, w):
    """Weighted least squares on 1 and the products of x, at each step on its own."""
    N, T = values.shape
    fitted = np.zeros((N, T))
    for t in range(T):
        features = np.array(
            [
                [1.0, *(a * b for k, a in enumerate(x[i, t]) for b in x[i, t][k:])]
                for i in range(N)
            ]
        )
        root = np.sqrt(w[:, t])
        theta = np.linalg.lstsq(root[:, None] * features, root * values[:, t])[0]
        fitted[:, t] = features @ theta
    return fitted


def mean_and_error(terms):
    """Of terms [N, m, n]."""
    return terms.mean(axis=0), terms.std(axis=0, ddof=1) / np.sqrt(len(terms))


def truncated_cost(lqr, K, cov, horizon):
    """The exact cost of so many steps, without conjugates: K may be complex."""
    F, X, total = lqr.A + lqr.B @ K, lqr.X0, 0.0
    for t in range(horizon):
        stage = np.trace((lqr.Q + K.T @ lqr.R @ K) @ X) + np.trace(lqr.R @ cov)
        total = total + lqr.gamma**t * stage
        X = F @ X @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
    return total


def truncated_gradient(lqr, K, cov, horizon):
    units = np.eye(K.size).reshape(-1, *K.shape)
    slopes = [truncated_cost(lqr, K + 1e-30j * e, cov, horizon).imag for e in units]
    return 1e30 * np.reshape(slopes, K.shape)


def slope(function, K, h=1e-5):
    """Central differences of a function of a gain."""
    units = np.eye(K.size).reshape(-1, *K.shape)
    change = [function(K + h * e) - function(K - h * e) for e in units]
    return np.reshape(change, K.shape) / (2 * h)


def exact_critic(lqr, K, const=0.0):
    Theta = exact.q_matrix(lqr, K)
    lead = Theta.shape[:-2]
    return Critic(Theta, np.full(lead, const), np.ones(lead, int), np.ones(lead))


def wrong_critic(lqr):
    """An action value that is nobody's."""
    width, none = lqr.n + lqr.m, np.zeros(())
    Theta = spd(width, np.random.default_rng(9))
    return Critic(Theta, none + 0.7, none.astype(int), none + 1.0)


@functools.cache
def many_sets(world, n_trajectories=300, batch=200):
    """A batch of data sets from where the book starts, and a gain nearby."""
    lqr, K = NAMED[world](), FIRST_GAINS[world]
    cov = np.eye(lqr.m)
    data = gaussian_data(
        lqr, np.broadcast_to(K, (batch, *K.shape)), cov, n_trajectories, HORIZON
    )
    reach = 0.01 if world == "laplacian" else 0.02
    target = K + reach * np.random.default_rng(4).standard_normal(K.shape)
    assert moment(lqr, target, K, cov, HORIZON, 4.0) < 1.3  # of the weights
    return lqr, data, target, cov
