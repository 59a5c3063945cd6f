"""The world as a Gymnasium environment, stepped as an agent would."""

import gymnasium
import numpy as np

from lqrlib import LQR


class Loop(gymnasium.Env):
    """x' = Ax + Bu + w; the reward is minus the stage cost."""

    def __init__(self, lqr: LQR) -> None:
        self.lqr = lqr
        self.noise_root = np.linalg.cholesky(lqr.W)
        self.start_root = np.linalg.cholesky(lqr.X0)
        whole = gymnasium.spaces.Box(-np.inf, np.inf, (lqr.n,), np.float64)
        self.observation_space = whole
        self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (lqr.m,), np.float64)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict | None = None,  # noqa: ARG002
    ) -> tuple[np.ndarray, dict]:
        """Start at x₀ ~ N(0, X0)."""
        super().reset(seed=seed)
        self.x = self.start_root @ self.np_random.standard_normal(self.lqr.n)
        return self.x, {}

    def step(self, u: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One step of the world."""
        lqr, x = self.lqr, self.x
        cost = x @ lqr.Q @ x + u @ lqr.R @ u
        noise = self.noise_root @ self.np_random.standard_normal(lqr.n)
        self.x = lqr.A @ x + lqr.B @ u + noise
        return self.x, -float(cost), False, False, {}


def episodes(
    lqr: LQR,
    K: np.ndarray,
    sigma: float,
    count: int,
    horizon: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Costs [count, horizon] of episodes under u = Kx + σξ."""
    env, costs = Loop(lqr), np.empty((count, horizon))
    env.reset(seed=int(rng.integers(2**31)))
    for i in range(count):
        x, _ = env.reset()
        for t in range(horizon):
            u = K @ x + sigma * rng.standard_normal(lqr.m)
            x, reward, _, _, _ = env.step(u)
            costs[i, t] = -reward
    return costs
