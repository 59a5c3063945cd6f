r"""The discounted linear-quadratic regulator (LQR): the problem, checked and frozen.

minimise  J(K, Σ) = E Σ_{t≥0} γᵗ (x_t'Q x_t + u_t'R u_t)
where     x_{t+1} = A x_t + B u_t + w_t,   w_t ~ N(0, W),   x_0 ~ N(0, X0)
and       u_t ~ N(K x_t, Σ)     (u = K x when Σ = 0; note the plus sign).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array


@dataclass(frozen=True, eq=False, init=False)
class LQR:
    """A linear-quadratic regulator: minimise Σ γᵗ (x'Qx + u'Ru), with u = Kx.

    Law of motion x₊ = A x + B u + w; no factor ½ in the cost; rows are samples in
    data, columns are states here. Arrays are copied, stored as read-only float64.

    Parameters
    ----------
    A : array, shape [n, n]
        Dynamics of the state.
    B : array, shape [n, m]
        Effect of the action.
    Q : array, shape [n, n]
        State cost, symmetric, Q ⪰ 0.
    R : array, shape [m, m]
        Action cost, symmetric, R ≻ 0.
    W : array, shape [n, n]
        Covariance of the noise w, symmetric, W ⪰ 0; zero means no noise.
    X0 : array, shape [n, n]
        Second moment E[x₀x₀'] of the initial state, symmetric, X0 ⪰ 0.
    gamma : float
        Discount γ in (0, 1]. At γ = 1 the total cost is finite only without noise;
        `lqrlib.exact.average_cost` serves the noisy case.

    Raises
    ------
    ValueError
        Naming the argument, what was expected and what was found: wrong shape or type,
        nan or inf, asymmetric, not definite, γ outside (0, 1]. Also when Q does not
        see a mode of √γ A that fails to decay: an unstable gain could then have a
        finite cost, and J = inf for unstable gains would be false.

    Examples
    --------
    >>> lqr = LQR(A=[[1.0]], B=[[1.0]], Q=[[1.0]], R=[[1.0]], W=[[0.0]], X0=[[1.0]],
    ...           gamma=0.9)
    >>> lqr.n, lqr.m
    (1, 1)
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    W: Array
    X0: Array
    gamma: float

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        W: ArrayLike,
        X0: ArrayLike,
        gamma: float,
    ) -> None:
        n = len(_validate.matrix("A", A, (None, None)))
        action_effect = _validate.matrix("B", B, (n, None))
        checked = {
            "A": _validate.matrix("A", A, (n, n)),
            "B": action_effect,
            "Q": _validate.semidefinite("Q", Q, n),
            "R": _validate.semidefinite("R", R, action_effect.shape[1], strict=True),
            "W": _validate.semidefinite("W", W, n),
            "X0": _validate.semidefinite("X0", X0, n),
        }
        for name, array in checked.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "gamma", _validate.discount("gamma", gamma))
        _check_detectable(self)

    def __reduce__(self) -> tuple[type["LQR"], tuple[object, ...]]:
        # Copies and unpickled worlds are built anew, so that they are read-only, too.
        parts = self.A, self.B, self.Q, self.R, self.W, self.X0, self.gamma
        return LQR, parts

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self.A)

    @property
    def m(self) -> int:
        """Number of actions."""
        return int(self.B.shape[1])

    def gain(self, K: ArrayLike) -> Array:
        """K as a checked float64 array; the copy is the caller's.

        Parameters
        ----------
        K : array, shape [..., m, n]

        Returns
        -------
        array, shape [..., m, n]

        Raises
        ------
        ValueError
            If K is not real and finite with last axes (m, n).
        """
        return _validate.stack("K", K, (self.m, self.n))

    def closed_loop(self, K: ArrayLike) -> Array:
        """The matrix A + BK that moves the state under u = Kx.

        Parameters
        ----------
        K : array, shape [..., m, n]

        Returns
        -------
        array, shape [..., n, n]
            May hold inf when K is so large that the product overflows.

        Raises
        ------
        ValueError
            If K is not real and finite with last axes (m, n).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self.A + self.B @ self.gain(K)


def _check_detectable(lqr: LQR) -> None:
    """Hautus test: [λI − √γA; Q] has full rank n at each mode with |λ| ≥ 1.

    Both blocks are scaled to size 1, so that the units of cost do not decide the rank.
    """
    quarter = 0.25  # exact, and keeps the size of a mode below the largest float
    F = quarter * np.sqrt(lqr.gamma) * lqr.A
    Q = lqr.Q / (np.abs(lqr.Q).max() or 1.0)
    for mode in np.linalg.eigvals(F):
        if abs(mode) < quarter:
            continue
        pencil = np.vstack([np.eye(lqr.n) - F / mode, Q])
        if np.linalg.matrix_rank(pencil) < lqr.n:
            raise _validate.error(
                "Q",
                "a cost on every mode of sqrt(gamma) A that does not decay",
                f"none on the mode of size {abs(mode) / quarter:.4g}",
            )
