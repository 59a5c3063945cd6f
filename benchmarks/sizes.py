"""Cost against size: one thing grows at a time, the others stay where they are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.comparison import Run
from benchmarks.worlds import gains, world
from lqrlib import GaussianPolicy, exact
from lqrlib import worlds as named
from lqrlib.critic import lstdq
from lqrlib.mbpo import MBPOSettings, sweep
from lqrlib.rollout import rollout, transitions


class Growth(NamedTuple):
    """What grows: in words, its sizes, and what is run at each."""

    work: str
    letter: str
    sizes: Sequence[int]
    prepare: Callable[[int], Run]


def _rollouts(n: int, N: int, T: int) -> Run:
    lqr, rng = world(n), np.random.default_rng(0)
    policy = GaussianPolicy(np.zeros((1, n)), 1.0)
    return lambda: rollout(lqr, policy, N, T, rng)


def _critic(n: int) -> Run:
    lqr = world(n)
    data = rollout(
        lqr, GaussianPolicy(np.zeros((1, n)), 1.0), 100, 50, np.random.default_rng(0)
    )
    rows, K = transitions(data), exact.optimal_gain(lqr)
    return lambda: lstdq(lqr, rows, K)


def _sweep(cells: int) -> Run:
    settings = MBPOSettings(
        np.array([[-1.0, -1.0]]), updates=10, n_trajectories=20, horizon=20
    )
    axes = {
        "cov": np.geomspace(0.1, 10.0, cells // 5),
        "real_ratio": [0, 0.2, 0.4, 0.6, 0.8],
    }
    return lambda: sweep(named.double_integrator(), settings, axes, [0])


def _evaluations(n: int) -> Run:
    lqr = world(n)
    every = gains(lqr, 1_000)
    return lambda: exact.evaluate(lqr, every)


GROWTHS = {
    "N": Growth(
        "Rollouts of 50 steps, n = 2",
        "N",
        (10, 100, 1_000, 10_000, 100_000),
        lambda N: _rollouts(2, N, 50),
    ),
    "T": Growth(
        "Rollouts of 1,000 trajectories, n = 2",
        "T",
        (1, 10, 100, 1_000),
        lambda T: _rollouts(2, 1_000, T),
    ),
    "n-rollout": Growth(
        "Rollouts of 1,000 trajectories, T = 50",
        "n",
        (1, 2, 4, 8, 16, 32, 64),
        lambda n: _rollouts(n, 1_000, 50),
    ),
    "n-critic": Growth("LSTDQ on 5,000 rows", "n", (1, 2, 4, 8, 16, 24), _critic),
    "n-exact": Growth(
        "J and ∇J of 1,000 gains", "n", (1, 2, 4, 8, 16, 32), _evaluations
    ),
    "cells": Growth(
        "Ten updates of a sweep, N = T = 20", "cells", (5, 25, 125, 500, 2_000), _sweep
    ),
}
