"""The hack on fixed data, over a grid: computed, or as it was recorded."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.studies.hack_paths import (
    COUNTS,
    COVS,
    DATA,
    SETTINGS,
    HackPath,
    HackSettings,
    blocks_of,
    descents,
    hack_path,
    stable_gain,
)
from lqrlib.studies.record import Record
from lqrlib.studies.setting import Setting

__all__ = [
    "COUNTS",
    "COVS",
    "DATA",
    "HackPath",
    "HackSettings",
    "HackStudy",
    "hack_path",
    "hack_study",
    "recorded_hack",
]


class HackStudy(NamedTuple):
    """Descents over a grid; its axes are data, covariances and counts, in this order.

    Parameters
    ----------
    covs : tuple of float
        σ².
    counts : tuple of int
        N.
    settings : HackSettings
    paths : HackPath
        Of arrays [2, C, N, updates + 1, runs, ...].
    optimum : float
        J*.
    """

    covs: tuple[float, ...]
    counts: tuple[int, ...]
    settings: HackSettings
    paths: HackPath
    optimum: float


def hack_study(
    lqr: LQR,
    K0: ArrayLike,
    *,
    covs: Sequence[float] = COVS,
    counts: Sequence[int] = COUNTS,
    runs: int = 10,
    settings: HackSettings = SETTINGS,
    executor: Executor | None = None,
) -> HackStudy:
    """Descents for both kinds of data, each point of a grid, and several seeds.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        A stable gain.
    covs : sequence of float
    counts : sequence of int
    runs : int
        Data sets for each point, of the seeds 0, 1, …
    settings : HackSettings
    executor : concurrent.futures.Executor, optional
        Does blocks of runs in parallel; the numbers do not depend on it.

    Returns
    -------
    HackStudy

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or K0 is not one stable gain.
    """
    _validate.instance("settings", settings, HackSettings)
    first, seeds = stable_gain(lqr, K0), range(_validate.count("runs", runs))
    variances = [_validate.above_zero("covs", c) for c in _entries("covs", covs)]
    sizes = [_validate.count("counts", c) for c in _entries("counts", counts)]
    points = list(itertools.product(variances, seeds))
    # The large ones first, so that no worker is left with one of them at the end.
    kinds = list(itertools.product(DATA, sorted(sizes, reverse=True)))
    blocks = [block for kind in kinds for block in blocks_of(*kind, points)]
    mapped = map if executor is None else executor.map
    found = mapped(partial(descents, lqr, first, settings), blocks)
    parts: dict[tuple[str, int], list[HackPath]] = {kind: [] for kind in kinds}
    for block, path in zip(blocks, found, strict=True):
        parts[block.data, block.size].append(path)

    def collected(field: int) -> Array:
        """One part of all paths, [data, C, N, updates + 1, runs, ...]."""
        rows = [
            [np.concatenate([p[field] for p in parts[data, N]], axis=1) for N in sizes]
            for data in DATA
        ]
        whole = np.array(rows)  # [data, N, updates + 1, C · runs, ...]
        shape = *whole.shape[:3], len(variances), len(seeds), *whole.shape[4:]
        return np.moveaxis(whole.reshape(shape), 3, 1)

    return HackStudy(
        tuple(variances),
        tuple(sizes),
        settings,
        HackPath(*map(collected, range(len(HackPath._fields)))),
        float(exact.cost(lqr, exact.optimal_gain(lqr))),
    )


def recorded_hack(setting: Setting, record: Record) -> HackStudy:
    """The study of the hack on fixed data, as it was recorded.

    Parameters
    ----------
    setting : Setting
        The double integrator.
    record : Record

    Returns
    -------
    HackStudy
    """
    # From [data, C, N, runs, updates + 1, entries of K, cost and effective size].
    found = np.moveaxis(record.results, 3, 4)
    K = found[..., :-2].reshape(*found.shape[:-1], *setting.K0.shape)
    return HackStudy(
        record.axes["cov"],
        record.axes["size"],
        SETTINGS,
        HackPath(K, found[..., -2], found[..., -1]),
        setting.optimum,
    )


def _entries(name: str, values: Sequence[float]) -> list[float]:
    _validate.real_array(name, values)
    return np.ravel(values).tolist()
