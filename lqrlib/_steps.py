"""The loop under every rollout: many trajectories, and many worlds, at once.

Memory is ordered [..., T+1, n+m, N]: a step is one block of states stacked on actions,
trajectories last, so that moving all of them is one matrix product into place.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from lqrlib._validate import Array

# Writes the normals of a step into the place for them, [..., m+n, N]; actions first.
Noise = Callable[[int, Array], None]


def root(covariance: Array) -> Array:
    """L with LL' = covariance, by eigenvalues, so that singular ones have one too.

    Parameters
    ----------
    covariance : array, shape [..., n, n], symmetric, ⪰ 0

    Returns
    -------
    array, shape [..., n, n]
    """
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]


def solved(M: Array, right: Array) -> Array:
    """M⁻¹ right; nan where M is singular to the last bit, others beside it or not.

    Parameters
    ----------
    M : array, shape [..., n, n]
    right : array, shape [..., n, k]

    Returns
    -------
    array, shape [..., n, k]
    """
    try:
        return np.linalg.solve(M, right)
    except np.linalg.LinAlgError:  # which does not say which of them it was
        regular = (np.linalg.slogdet(M).sign != 0.0)[..., None, None]
        safe = np.where(regular, M, np.eye(M.shape[-1]))
        return np.where(regular, np.linalg.solve(safe, right), np.nan)


def step_matrix(A: Array, B: Array, W_root: Array, K: Array, cov_root: Array) -> Array:
    """The matrix that takes (x_t, ξ_t, ζ_t) to (u_t, x_{t+1}).

    [[K, L_Σ, 0], [A + BK, B L_Σ, L_W]] for actions K x + L_Σ ξ and noise L_W ζ.

    Parameters
    ----------
    A : array, shape [..., n, n]
    B : array, shape [..., n, m]
    W_root : array, shape [..., n, n]
    K : array, shape [..., m, n]
    cov_root : array, shape [..., m, m]

    Returns
    -------
    array, shape [..., m+n, n+m+n]
    """
    actions = [K, cov_root, np.zeros((K.shape[-2], K.shape[-1]))]
    states = [A + B @ K, B @ cov_root, W_root]
    lead = np.broadcast_shapes(*(M.shape[:-2] for M in (*actions, *states)))

    def beside(blocks: list[Array]) -> Array:
        return np.concatenate(
            [np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in blocks], axis=-1
        )

    return np.concatenate([beside(actions), beside(states)], axis=-2)


def simulate(
    steps: Iterable[Array],
    stage: Array,
    starts: Array,
    noise: Noise,
    horizon: int,
    which: NDArray[np.int64] | None = None,
) -> tuple[Array, Array]:
    """Trajectories and their stage costs; what overflows becomes inf, never nan.

    Parameters
    ----------
    steps : iterable of array, shape [..., m+n, n+m+n]
        From `step_matrix`, one for each step.
    stage : array, shape [n+m, n+m], symmetric, ⪰ 0
        Stage cost z'(stage)z of z = (x, u).
    starts : array, shape [..., N, n]
        With all leading axes of the result.
    noise : callable
        Standard normals of each step.
    horizon : int
        T.
    which : array of int, shape [T, N], optional
        Which law each trajectory follows at each step: a place on the first axis of
        every entry of ``steps``, which then has one axis more.

    Returns
    -------
    z : array, shape [..., T+1, n+m, N]
        States stacked on actions; the last action is 0.
    cost : array, shape [..., T, N]
    """
    *lead, N, n = starts.shape
    width, factor = len(stage), _factor(stage)
    # x_0, u_0, x_1, u_1, …, and room for what the last step leaves behind.
    rows = np.empty((*lead, horizon * width + n + max(width - n, len(factor)), N))
    rows[..., :n, :] = starts.mT
    cost, before = np.empty((*lead, horizon, N)), np.empty((*lead, n + width, N))
    step: Array | None = None
    law: Array = before  # until the first step
    with np.errstate(over="ignore", invalid="ignore"):
        for t, here in zip(range(horizon), steps, strict=False):
            if here is not step:
                step, law = here, _with_cost(here, factor, n)
            x = t * width
            before[..., :n, :] = rows[..., x : x + n, :]
            noise(t, before[..., n:, :])
            # One product gives (u_t, x_{t+1}) in their places, and after them, where
            # the next step will write, the terms whose squares sum to the cost.
            after = rows[..., x + n : x + n + law.shape[-2], :]
            if which is None:
                np.matmul(law, before, out=after)
            else:
                _by_law(law, before, which[t], after)
            terms = after[..., width:, :]
            np.square(terms, out=terms).sum(axis=-2, out=cost[..., t, :])
        rows = rows[..., : (horizon + 1) * width, :]
        rows[..., n - width :, :] = 0.0
        # The last states cost nothing, and are looked at on their own.
        overflowed = not np.isfinite(cost.sum() + rows[..., -width:, :].sum())
    if overflowed:
        rows[np.isnan(rows)] = np.inf
        cost[np.isnan(cost)] = np.inf
    return rows.reshape(*lead, horizon + 1, width, N), cost


def _factor(stage: Array) -> Array:
    """G with G'G = stage, without its rows of zeros."""
    G = root(stage).T
    return G[G.any(axis=-1)]


def _with_cost(step: Array, factor: Array, n: int) -> Array:
    """The step's matrix, and below it the one that gives Gz of the same step.

    Parameters
    ----------
    step : array, shape [..., m+n, n+m+n]
    factor : array, shape [r, n+m]
        G.
    n : int

    Returns
    -------
    array, shape [..., m+n+r, n+m+n]
    """
    m = factor.shape[-1] - n
    terms = factor[:, n:] @ step[..., :m, :]
    terms[..., :n] += factor[:, :n]
    return np.concatenate([step, terms], axis=-2)


def _by_law(laws: Array, before: Array, which: NDArray[np.int64], out: Array) -> None:
    """Each column of ``before`` times the law that is named for it."""
    for number, law in enumerate(laws):
        those = np.flatnonzero(which == number)
        out[..., those] = law @ before[..., those]
