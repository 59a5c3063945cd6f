"""What every descent returns: the path, its exact cost, and how it ended, in words."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrlib import _validate
from lqrlib._validate import Array


class Status(IntEnum):
    """How a path of gains ended.

    CONVERGED, DESCENDING, STALLED, DIVERGED or REFUSED; in words: `History.reason`.
    """

    CONVERGED = 0
    DESCENDING = 1
    STALLED = 2
    DIVERGED = 3
    REFUSED = 4


_REASONS = {
    Status.CONVERGED: "ended within {within:.3g} (relative) of the optimal cost",
    Status.DESCENDING: "not there yet: the last gain is the best one so far",
    Status.STALLED: "stopped short: an earlier gain was as good or better",
    Status.DIVERGED: "left the stable set: the cost became infinite",
    Status.REFUSED: "refused: the data do not determine the critic",
}


@dataclass(frozen=True, eq=False)
class History:
    """A path of gains with its exact cost; one path for each leading axis.

    Build it with `History.judge`, which decides the status.

    Parameters
    ----------
    K : array, shape [updates + 1, ..., m, n]
        Gains, the first one before any update; with an axis [T] before m for stages.
    cost : array, shape [updates + 1, ...]
        Exact cost of each gain; inf where the gain is unstable.
    status : array of int, shape [...]
        A `Status` for each path.
    within : float
        The relative tolerance that `Status.CONVERGED` stands for.
    """

    K: Array
    cost: Array
    status: NDArray[np.int8]
    within: float

    @classmethod
    def judge(
        cls,
        K: ArrayLike,
        cost: ArrayLike,
        optimum: float,
        *,
        within: float = 0.01,
        stages: bool = False,
    ) -> "History":
        """Record a path and decide how it ended.

        Parameters
        ----------
        K : array, shape [updates + 1, ..., m, n]
        cost : array, shape [updates + 1, ...]
            Exact cost of each gain, inf where unstable.
        optimum : float
            The optimal cost J*.
        within : float
            Relative tolerance: converged means cost ≤ (1 + within) J* at the end.
        stages : bool
            Whether K [updates + 1, ..., T, m, n] holds a gain for each of T stages.

        Returns
        -------
        History

        Raises
        ------
        ValueError
            If K has fewer axes than that or is not finite, if ``cost`` does not have
            the leading axes of ``K`` or holds nan, or if ``optimum`` or ``within`` is
            not a finite number, or ``within`` is negative.
        """
        gains, stages = _validate.real_array("K", K), _validate.flag("stages", stages)
        core = 3 if stages else 2
        if gains.ndim <= core:
            wanted = "shape (updates + 1, …, " + "T, " * stages + "m, n)"
            raise _validate.error("K", wanted, gains.shape)
        costs = _validate.real_array("cost", cost, infinite=True)
        if costs.shape != gains.shape[:-core]:
            raise _validate.error("cost", f"shape {gains.shape[:-core]}", costs.shape)
        optimum = _validate.number("optimum", optimum)
        within = _validate.number("within", within)
        if within < 0.0:
            raise _validate.error("within", "a tolerance of at least 0", within)
        status = _ended(costs, optimum * (1.0 + within))
        for array in (gains, costs, status):
            array.setflags(write=False)
        return cls(gains, costs, status, within)

    @property
    def reason(self) -> NDArray[np.str_]:
        """The status of each path as a sentence, shape [...]."""
        words = [_REASONS[s].format(within=self.within) for s in Status]
        return np.array(words)[self.status]

    def share(self, status: Status) -> float:
        """The share of paths that ended with ``status``, in [0, 1].

        Parameters
        ----------
        status : Status

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If ``status`` is not a `Status`.
        """
        whole = isinstance(status, int | np.integer) and not isinstance(status, bool)
        if not whole or status not in tuple(Status):
            raise _validate.error("status", "a Status", repr(status))
        return float(np.mean(self.status == status))


def _ended(cost: Array, threshold: float) -> NDArray[np.int8]:
    last = cost[-1]
    falling = (last < cost[:-1]).all(axis=0) & (len(cost) > 1)
    return np.select(
        [~np.isfinite(cost).all(axis=0), last <= threshold, falling],
        [Status.DIVERGED, Status.CONVERGED, Status.DESCENDING],
        default=Status.STALLED,
    ).astype(np.int8)
