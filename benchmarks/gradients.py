"""The per-decision importance-sampling gradient, against textbooks and autodiff."""

from collections.abc import Mapping

import numpy as np

from benchmarks.comparison import Comparison, Contender, Run, close
from benchmarks.peers import weight_peers
from benchmarks.peers.weight_peers import Data
from benchmarks.worlds import world
from lqrlib import GaussianPolicy, exact
from lqrlib.importance import per_decision_is
from lqrlib.rollout import rollout

N, T = 10_000, 50


def weighted(n: int, m: int) -> Comparison:
    """One gradient from off-policy data."""
    lqr, cov = world(n, m), np.eye(m)
    best = exact.optimal_gain(lqr)
    K_b, K = 0.9 * best, 0.95 * best
    rng = np.random.default_rng(0)
    data = rollout(lqr, GaussianPolicy(K_b, cov), N, T, rng)
    plain = Data(data.x[:, :-1], data.u, data.cost, K_b, K, cov, lqr.gamma)
    plain = Data(*map(np.ascontiguousarray, plain[:-1]), lqr.gamma)

    def agree(runs: Mapping[str, Run]) -> None:
        here, book = runs["lqrlib"](), runs["SciPy, by the book"]()
        close(here.gradient, book[0], rtol=1e-7)
        close(here.standard_error, book[1], rtol=1e-7)
        close(here.effective_sample_size, book[2], rtol=1e-7)
        for name in list(runs)[2:]:
            close(here.gradient, runs[name](), rtol=1e-7)

    return Comparison(
        f"Importance-sampled gradient, {N:,} trajectories of {T}, n = {n}, m = {m}",
        {
            "lqrlib": Contender(lambda: lambda: per_decision_is(lqr, data, K, cov=cov)),
            "SciPy, by the book": Contender(
                lambda: lambda: weight_peers.textbook(plain)
            ),
            "JAX, jit and grad": Contender(
                lambda: weight_peers.differentiated_by_jax(plain)
            ),
            "JAX, jit, grad and scan": Contender(
                lambda: weight_peers.differentiated_scan_by_jax(plain)
            ),
            "PyTorch, autograd": Contender(
                lambda: weight_peers.differentiated_by_torch(plain)
            ),
        },
        reach={
            "SciPy, by the book": 5.0,
            "JAX, jit and grad": 1.5,
            "JAX, jit, grad and scan": 1.5,
            "PyTorch, autograd": 1.5,
        },
        agree=agree,
    )


COMPARISONS = {
    "weighted-2": lambda: weighted(2, 1),
    "weighted-4": lambda: weighted(4, 2),
}
