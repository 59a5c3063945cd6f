"""Exact costs and gradients, of many gains and of one, against Lyapunov solvers."""

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.comparison import Comparison, Contender, Run, close
from benchmarks.peers import jax_peers, lyapunov_peers
from benchmarks.worlds import gains, world
from lqrlib import LQR, exact

COUNT = 10_000
PART = 100  # of the loops, of COUNT


def _loop(evaluate: Callable[[LQR, np.ndarray], tuple], lqr: LQR) -> Contender:
    some = gains(lqr, COUNT)[:PART]
    return Contender(lambda: lambda: [evaluate(lqr, K) for K in some], PART / COUNT)


def many(n: int) -> Comparison:
    """J and its gradient for 10,000 gains."""
    lqr = world(n)
    every = gains(lqr, COUNT)

    def agree(runs: Mapping[str, Run]) -> None:
        here = runs["lqrlib"]()
        for name in ("SciPy, a loop", "QuantEcon, a loop"):
            costs, gradients = zip(*runs[name](), strict=True)
            close(here.cost[:PART], costs)
            close(here.gradient[:PART], gradients, rtol=1e-7)
        cost, gradient = runs["JAX, batched doubling"]()
        close(here.cost, cost)
        close(here.gradient, gradient, rtol=1e-7)

    return Comparison(
        f"J and ∇J of {COUNT:,} gains, n = {n}",
        {
            "lqrlib": Contender(lambda: lambda: exact.evaluate(lqr, every)),
            "SciPy, a loop": _loop(lyapunov_peers.scipy, lqr),
            "QuantEcon, a loop": _loop(lyapunov_peers.quantecon, lqr),
            "JAX, batched doubling": Contender(lambda: jax_peers.landscape(lqr, every)),
        },
        reach={"SciPy, a loop": 30.0 if n == 2 else 15.0},
        agree=agree,
        items=COUNT,
        unit="gains",
    )


def one(n: int) -> Comparison:
    """One gradient: two equations."""
    lqr = world(n)
    K = gains(lqr, 1)[0]

    def agree(runs: Mapping[str, Run]) -> None:
        found = [np.asarray(run()) for run in runs.values()]
        for other in found[1:]:
            close(found[0], other, rtol=1e-8)

    peers = {
        "SciPy, twice": lyapunov_peers.scipy,
        "QuantEcon, twice": lyapunov_peers.quantecon,
        "python-control, twice": lyapunov_peers.control,
    }
    return Comparison(
        f"One exact gradient, n = {n}",
        {
            "lqrlib": Contender(lambda: lambda: exact.gradient(lqr, K), repeat=50),
            **{
                name: Contender(lambda solve=solve: lambda: solve(lqr, K)[1], repeat=50)
                for name, solve in peers.items()
            },
        },
        reach={"SciPy, twice": 1.0},
        agree=agree,
    )


COMPARISONS = {
    "landscape-2": lambda: many(2),
    "landscape-10": lambda: many(10),
    "gradient-2": lambda: one(2),
    "gradient-10": lambda: one(10),
}
