"""Where the book's experiments start from: three worlds, each with its first gain.

Trajectories are long enough that the best gain for their T steps is within .1 % of J*:
what fails in these experiments does not fail for having been cut short.
"""

from typing import NamedTuple

import numpy as np

from lqrlib import _validate, exact, worlds
from lqrlib._validate import Array
from lqrlib.problem import LQR


class Setting(NamedTuple):
    """A world, the gain that makes its data, and the length of a trajectory.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        Makes the data, and is the first gain to be improved.
    horizon : int
        T.
    """

    lqr: LQR
    K0: Array
    horizon: int = 60

    @property
    def distance(self) -> float:
        """|K* − K₀|, in the Frobenius norm."""
        return float(np.linalg.norm(exact.optimal_gain(self.lqr) - self.K0))

    @property
    def optimum(self) -> float:
        """J*, the optimal cost."""
        return float(exact.cost(self.lqr, exact.optimal_gain(self.lqr)))

    @property
    def length(self) -> float:
        """The length of a normalised step, a fortieth of the way to K*."""
        return self.distance / 40


def checked(setting: Setting) -> Setting:
    """A setting whose parts are what they should be.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    Setting

    Raises
    ------
    ValueError
        If it is no setting, or a part of it has a wrong shape or type.
    """
    _validate.instance("setting", setting, Setting)
    lqr, K0, horizon = setting
    _validate.instance("setting.lqr", lqr, LQR)
    K0 = _validate.matrix("setting.K0", K0, (lqr.m, lqr.n))
    return Setting(lqr, K0, _validate.count("setting.horizon", horizon))


def settings() -> dict[str, Setting]:
    """The double integrator, three rooms, and the Laplacian system, by name.

    Returns
    -------
    dict of str to Setting
    """
    return {
        "double integrator": Setting(
            worlds.double_integrator(), np.array([[-1.0, -1.0]])
        ),
        "three rooms": Setting(worlds.three_rooms(), np.zeros((2, 3))),
        "Laplacian": Setting(worlds.laplacian(), -0.1 * np.eye(3), horizon=150),
    }
