"""Rollouts against the normals they need, Gymnasium's loop, and JAX."""

from collections.abc import Mapping

import numpy as np

from benchmarks.comparison import Comparison, Contender, Run, close
from benchmarks.peers import gym_env, jax_peers
from benchmarks.worlds import world
from lqrlib import GaussianPolicy
from lqrlib.rollout import draw_noise, rollout

N, T = 10_000, 50
EPISODES = 2  # of Gymnasium's loop, of N


def fresh(n: int) -> Comparison:
    """N trajectories with noise of their own."""
    lqr, rng = world(n), np.random.default_rng(0)
    policy = GaussianPolicy(np.zeros((1, n)), 1.0)
    block, starts = np.empty((n + 1, N)), np.empty((N, n))

    def normals() -> Run:
        def draw() -> None:
            rng.standard_normal(out=starts)
            for _ in range(T):
                rng.standard_normal(out=block)

        return draw

    def library() -> Run:
        return lambda: rollout(lqr, policy, N, T, rng)

    def loop() -> Run:
        return lambda: gym_env.episodes(lqr, policy.K, 1.0, EPISODES, T, rng)

    def jax() -> Run:
        return jax_peers.rollouts(lqr, policy.K, 1.0, N, T)

    return Comparison(
        f"Rollouts, {N:,} trajectories of {T} steps, n = {n}",
        {
            "lqrlib": Contender(library),
            "drawing the normals": Contender(normals),
            "Gymnasium, one step at a time": Contender(loop, share=EPISODES / N),
            "JAX, jit and scan": Contender(jax),
        },
        reach={
            "drawing the normals": 1 / 1.35,
            "Gymnasium, one step at a time": 200.0,
            "JAX, jit and scan": 1.25,
        },
        agree=_same_law,
        items=N * T,
        unit="steps",
    )


def given(n: int) -> Comparison:
    """The same with noise that is there already, as when a slider is moved."""
    lqr, rng = world(n), np.random.default_rng(0)
    policy = GaussianPolicy(np.zeros((1, n)), 1.0)
    noise, x0 = draw_noise(N, T, n + 1, rng), rng.standard_normal((N, n))

    def library() -> Run:
        return lambda: rollout(lqr, policy, N, T, rng, x0=x0, noise=noise)

    def copying() -> Run:
        memory = np.ascontiguousarray(np.moveaxis(noise, 0, -1))
        result, costs = np.empty((T, n + 1, N)), np.empty((T, N))

        def copy() -> None:
            np.copyto(result, memory)
            np.copyto(costs, memory[:, 0])

        return copy

    def jax() -> Run:
        return jax_peers.rollouts_given(lqr, policy.K, 1.0, x0, noise)

    return Comparison(
        f"Rollouts with noise given, {N:,} of {T} steps, n = {n}",
        {
            "lqrlib": Contender(library, repeat=3),
            "copying noise and costs": Contender(copying, repeat=3),
            "JAX, jit and scan": Contender(jax, repeat=3),
        },
        agree=_same_paths,
        items=N * T,
        unit="steps",
    )


def _same_law(runs: Mapping[str, Run]) -> None:
    """Each draws its own noise: mean costs agree within five standard errors."""
    costs = [
        np.asarray(runs["lqrlib"]().cost).sum(axis=1),
        np.asarray(runs["JAX, jit and scan"]()[1]).sum(axis=0),
        np.concatenate(
            [runs["Gymnasium, one step at a time"]().sum(axis=1) for _ in range(50)]
        ),
    ]
    means = [c.mean() for c in costs]
    errors = [c.std() / np.sqrt(len(c)) for c in costs]
    for mean, error in zip(means[1:], errors[1:], strict=True):
        assert abs(mean - means[0]) < 5 * np.hypot(error, errors[0])


def _same_paths(runs: Mapping[str, Run]) -> None:
    here, (z, cost) = runs["lqrlib"](), runs["JAX, jit and scan"]()
    close(here.cost, np.asarray(cost).T)
    np.testing.assert_allclose(here.x[:, -1], np.asarray(z[-1]).T, atol=1e-9)


COMPARISONS = {
    "rollout-2": lambda: fresh(2),
    "rollout-4": lambda: fresh(4),
    "given-2": lambda: given(2),
    "given-4": lambda: given(4),
}
