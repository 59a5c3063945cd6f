"""What queries of policies can do, over a grid: computed, or as it was recorded."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.studies.queries import (
    GAINS,
    POINTS,
    STAGES,
    asked,
    excess_along,
    kind_of,
    query_gradient,
)
from lqrlib.studies.record import Record
from lqrlib.studies.setting import Setting

__all__ = [
    "GAINS",
    "POINTS",
    "STAGES",
    "QueryStudy",
    "query_gradient",
    "query_study",
    "recorded_queries",
]


class QueryStudy(NamedTuple):
    """Errors of estimates at K₀, and descents along them, over a grid.

    The leading axes are points, gains, radii and counts, in this order.

    Parameters
    ----------
    radii : tuple of float
    counts : tuple of int
        m, trajectories for each gain that is perturbed.
    error : array, shape [2, 2, R, M, seeds]
        ‖ĝ − g‖/‖g‖ at K₀; inf where a trajectory left the floats.
    excess : array, shape [2, 2, R, M, updates + 1, runs]
        J − J*, of the problem without an end or of the one with stages.
    exact : array, shape [2, updates + 1]
        J − J* along the exact gradient with the same steps, for each kind of gains.
    optimum : array, shape [2]
        J* for each kind of gains.
    """

    radii: tuple[float, ...]
    counts: tuple[int, ...]
    error: Array
    excess: Array
    exact: Array
    optimum: Array


def query_study(
    lqr: LQR,
    K0: ArrayLike,
    *,
    radii: Sequence[float],
    counts: Sequence[int],
    updates: int = 30,
    seeds: int = 20,
    runs: int = 20,
    seed: int = 0,
    executor: Executor | None = None,
) -> QueryStudy:
    """Estimate at K₀, and descend from it, for each point of a grid.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world in which K₀ is stable.
    K0 : array, shape [m, n]
    radii : sequence of float
    counts : sequence of int
    updates : int
        Length of each descent.
    seeds, runs : int
        Estimates and descents for each point.
    seed : int
        Points with the same m share their directions, starts and noise.
    executor : concurrent.futures.Executor, optional
        Does the points in parallel; the numbers do not depend on it.

    Returns
    -------
    QueryStudy

    Raises
    ------
    ValueError
        If K0 has a wrong shape or entry.
    """
    first = lqr.gain(K0)
    grid = list(itertools.product(POINTS, GAINS, radii, counts))
    mapped = map if executor is None else executor.map
    cell = partial(
        asked, lqr, first, seed=seed, updates=updates, seeds=seeds, runs=runs
    )
    found = list(mapped(cell, *zip(*grid, strict=True)))
    shape = len(POINTS), len(GAINS), len(radii), len(counts)
    error, excess = (np.array(part) for part in zip(*found, strict=True))
    return _study(
        lqr,
        first,
        (radii, counts),
        error.reshape(*shape, *error.shape[1:]),
        excess.reshape(*shape, *excess.shape[1:]),
    )


def recorded_queries(setting: Setting, record: Record) -> QueryStudy:
    """The study of queries, as it was recorded.

    Parameters
    ----------
    setting : Setting
        The double integrator.
    record : Record

    Returns
    -------
    QueryStudy
    """
    axes, found = record.axes, record.results[..., 0, :, :]
    grid = axes["radius"], axes["size"]
    error, excess = found[..., 0, :], found[..., 1:, :]
    return _study(setting.lqr, setting.K0, grid, error, excess)


def _study(
    lqr: LQR,
    first: Array,
    grid: tuple[Sequence[float], Sequence[int]],
    error: Array,
    excess: Array,
) -> QueryStudy:
    """With what is exact beside it."""
    kinds, updates = [kind_of(lqr, first, g) for g in GAINS], excess.shape[-2] - 1
    return QueryStudy(
        tuple(grid[0]),
        tuple(grid[1]),
        error,
        excess,
        np.stack([excess_along(lqr, k, k.start, k.gradient, updates) for k in kinds]),
        np.array([k.best for k in kinds]),
    )
