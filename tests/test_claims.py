"""Claims that are seen in simulation, with seeds that no page has used."""

from dataclasses import replace

import numpy as np

from lqrlib import (
    GaussianPolicy,
    MBPOSettings,
    critic,
    exact,
    observed,
    rollout,
    worlds,
)
from lqrlib.critic import Moments
from lqrlib.mbpo import sweep

LQR = worlds.double_integrator()
FIRST = np.array([[-1.0, -1.0]])
BEST = float(exact.cost(LQR, exact.optimal_gain(LQR)))


def mixed_end(share, seed, *, rows=1000, wrong=2.0):
    """J above J* after policy iteration on real rows mixed with a wrong model's."""
    rng = np.random.default_rng([seed, 8])
    noisy = GaussianPolicy(FIRST, 1.0)
    data = rollout.transitions(rollout.rollout(LQR, noisy, rows // 50, 50, rng))
    real, imagined = critic.sums(LQR, data), replace(LQR, B=wrong * LQR.B)
    K = FIRST
    for _ in range(20):
        starts = data.x[rng.integers(rows, size=200)]
        here = GaussianPolicy(K, 1.0)
        branch = rollout.rollout(imagined, here, 200, 5, rng, x0=starts)
        made_up = critic.sums(LQR, rollout.transitions(branch))
        parts = zip(real, made_up, strict=True)
        both = Moments(*(share * a / rows + (1 - share) * b / 1000 for a, b in parts))
        K = K - 0.5 * critic.solve(LQR, both, K).gauss_newton(K)
        if not exact.is_stable(LQR, K):
            return np.inf
    return float(exact.cost(LQR, K)) / BEST - 1


def test_a_quarter_of_real_rows_beats_none_and_all_where_the_model_is_wrong():
    none, quarter, everything = (
        np.median([mixed_end(share, seed) for seed in range(40)])
        for share in (0.0, 0.25, 1.0)
    )
    assert quarter < 0.8 * none
    assert quarter < 0.8 * everything


def test_real_rows_do_not_cure_a_lag():
    base = MBPOSettings(FIRST, "dpg", lag=0.8, updates=40, branch_length=5)
    axes = {"cov": (0.3, 1.0, 3.0), "real_ratio": (0.0, 0.5, 1.0)}
    found = sweep(LQR, base, axes, range(1000, 1012)).history.cost[-1]
    world = worlds.with_lag(LQR, 0.8)
    best = observed.best_gain(world, FIRST)
    least = float(exact.cost(world, observed.widen(world, best)))
    assert np.median(found, axis=-1).min() > 1.01 * least
