"""MBPO over a grid, against one run at a time, and against JAX over the same grid."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.comparison import Comparison, Contender, Run
from benchmarks.peers import jax_mbpo, numpy_mbpo
from lqrlib import worlds
from lqrlib.history import Status
from lqrlib.mbpo import MBPOSettings, sweep

LQR = worlds.double_integrator()
AXES = {"cov": np.geomspace(0.3, 30.0, 9), "real_ratio": np.linspace(0.0, 1.0, 9)}
UPDATES = 100


def grid(expression: str, N: int, T: int) -> Comparison:
    """A seed of the grid; more seeds cost as much each."""
    whole = MBPOSettings(
        np.array([[-1.0, -1.0]]),
        expression=expression,
        n_trajectories=N,
        horizon=T,
        updates=UPDATES,
    )
    middle = [(4, 0), (4, 4), (4, 8)]  # without real rows, with half, with real ones

    def one_at_a_time() -> Run:
        cells = [
            replace(whole, cov=AXES["cov"][c], real_ratio=AXES["real_ratio"][r])
            for c, r in middle
        ]
        return lambda: [
            numpy_mbpo.run(LQR, cell, np.random.default_rng(0)) for cell in cells
        ]

    def agree(runs: Mapping[str, Run]) -> None:
        """The loop draws as the library does; JAX is given its draws.

        A path that leaves the stable set ends in the library; in JAX it goes on.
        """
        history = runs["lqrlib"]().history
        K, kept = history.K[..., 0, :, :], history.status[..., 0] != Status.DIVERGED
        assert kept.sum() > 40
        paths = runs["NumPy, one run at a time"]()
        for (c, r), path in zip(middle, paths, strict=True):
            if kept[c, r]:
                np.testing.assert_allclose(K[:, c, r], path, rtol=1e-5, atol=1e-7)
        path = jax_mbpo.with_draws_of(LQR, whole, AXES, np.random.default_rng(0))
        np.testing.assert_allclose(K[:, kept], path[:, kept], rtol=1e-5, atol=1e-7)

    return Comparison(
        f"MBPO ({expression}), {UPDATES} updates of 9 × 9 cells, {N} × {T} steps",
        {
            "lqrlib": Contender(lambda: lambda: sweep(LQR, whole, AXES, [0]), rounds=1),
            "NumPy, one run at a time": Contender(
                one_at_a_time, share=len(middle) / 81, rounds=1
            ),
            "JAX, vmap and scan": Contender(
                lambda: jax_mbpo.grid(LQR, whole, AXES), rounds=1
            ),
        },
        reach={"NumPy, one run at a time": 35.0, "JAX, vmap and scan": 1.0},
        agree=agree,
        items=81,
        unit="cells",
    )


COMPARISONS = {
    "sweep-dpg-20": lambda: grid("dpg", 20, 20),
    "sweep-hack-20": lambda: grid("hack", 20, 20),
    "sweep-dpg-100": lambda: grid("dpg", 100, 60),  # the puzzle's sizes
    "sweep-hack-100": lambda: grid("hack", 100, 60),
}
