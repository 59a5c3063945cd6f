"""Policies: how an action is drawn, how likely it was, and its score.

Rows are samples: states are [..., N, n] and actions [..., N, m], so that a batch of
gains [..., m, n] acts on a batch of data by broadcasting its leading axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class _Deterministic:
    """What no deterministic policy has."""

    def log_prob(self, x: ArrayLike, u: ArrayLike) -> Array:  # noqa: ARG002
        """Refused: given x, the action has no density.

        Parameters
        ----------
        x : array, shape [..., N, n]
        u : array, shape [..., N, m]

        Raises
        ------
        ValueError
            Always. All probability sits on the one action K x (a Dirac measure), so
            neither a log-density nor a ratio of two of them exists.
        """
        raise _no_density()

    def score(self, x: ArrayLike, u: ArrayLike) -> Array:  # noqa: ARG002
        """Refused: without a density there is no derivative of its logarithm.

        Parameters
        ----------
        x : array, shape [..., N, n]
        u : array, shape [..., N, m]

        Raises
        ------
        ValueError
            Always, for the reason given at `log_prob`.
        """
        raise _no_density()


@dataclass(frozen=True, eq=False, init=False)
class LinearPolicy(_Deterministic):
    """The deterministic policy u = K x.

    Parameters
    ----------
    K : array, shape [..., m, n]

    Raises
    ------
    ValueError
        If K is not real and finite with at least two axes.
    """

    K: Array

    def __init__(self, K: ArrayLike) -> None:
        object.__setattr__(self, "K", _gain(K))

    def act(self, x: ArrayLike, rng: np.random.Generator | None = None) -> Array:  # noqa: ARG002
        """u = K x; ``rng`` is accepted, and not used, so that policies are alike.

        Parameters
        ----------
        x : array, shape [..., N, n]
        rng : numpy.random.Generator, optional

        Returns
        -------
        array, shape [..., N, m]

        Raises
        ------
        ValueError
            If x is not real and finite with last axis n.
        """
        return _states(x, self.K, self.K.shape[:-2]) @ self.K.mT


@dataclass(frozen=True, eq=False, init=False)
class StagePolicy(_Deterministic):
    """The deterministic policy u_t = K_t x_t: a gain for each of T stages.

    Parameters
    ----------
    K : array, shape [..., T, m, n]

    Raises
    ------
    ValueError
        If K is not real and finite with at least three axes.
    """

    K: Array

    def __init__(self, K: ArrayLike) -> None:
        gains = _gain(K)
        if gains.ndim < 3:
            raise _validate.error("K", "shape (…, T, m, n)", gains.shape)
        object.__setattr__(self, "K", gains)

    @property
    def horizon(self) -> int:
        """T, the number of stages."""
        return int(self.K.shape[-3])

    def act(
        self,
        x: ArrayLike,
        rng: np.random.Generator | None = None,  # noqa: ARG002
        *,
        stage: int,
    ) -> Array:
        """u = K_t x at the stage t; ``rng`` is accepted, and not used.

        Parameters
        ----------
        x : array, shape [..., N, n]
        rng : numpy.random.Generator, optional
        stage : int
            t, from 0 to T − 1.

        Returns
        -------
        array, shape [..., N, m]

        Raises
        ------
        ValueError
            If x is not real and finite with last axis n, or there is no such stage.
        """
        whole = isinstance(stage, int | np.integer) and not isinstance(stage, bool)
        if not whole or stage not in range(self.horizon):
            raise _validate.error("stage", f"one of 0 … {self.horizon - 1}", stage)
        K = self.K[..., stage, :, :]
        return _states(x, K, K.shape[:-2]) @ K.mT


@dataclass(frozen=True, eq=False, init=False)
class GaussianPolicy:
    """The policy u ~ N(K x, Σ), with a covariance that does not depend on x.

    Parameters
    ----------
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Σ ≻ 0; a number σ² means σ²I. (σ² is a covariance, not a deviation.)

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry, or cov is not positive definite.
    """

    K: Array
    cov: Array

    def __init__(self, K: ArrayLike, cov: ArrayLike) -> None:
        gain = _gain(K)
        Sigma = _validate.covariance("cov", cov, gain.shape[-2], strict=True)
        _validate.leading("cov", Sigma, 2, gain.shape[:-2])
        Sigma.setflags(write=False)
        object.__setattr__(self, "K", gain)
        object.__setattr__(self, "cov", Sigma)

    def act(self, x: ArrayLike, rng: np.random.Generator) -> Array:
        """Draw u = K x + L z with LL' = Σ and z standard normal.

        Parameters
        ----------
        x : array, shape [..., N, n]
        rng : numpy.random.Generator

        Returns
        -------
        array, shape [..., N, m]

        Raises
        ------
        ValueError
            If x is not real and finite with last axis n, or rng no generator.
        """
        rng = _validate.generator("rng", rng)
        mean = self._states(x) @ self.K.mT
        # A batch of covariances draws its own noise for each, as a batch of gains does.
        noise = rng.standard_normal(self._spread(mean.shape))
        return mean + noise @ np.linalg.cholesky(self.cov).mT

    @_overflow_is_data
    def log_prob(self, x: ArrayLike, u: ArrayLike) -> Array:
        """log N(u; K x, Σ), in nats.

        Parameters
        ----------
        x : array, shape [..., N, n]
        u : array, shape [..., N, m]

        Returns
        -------
        array, shape [..., N]
            −inf where the action is too far away for a float.

        Raises
        ------
        ValueError
            If x or u is not real and finite with last axis n or m.
        """
        error = self._error(x, u)
        quadratic = (error * self._precise(error)).sum(axis=-1)
        quadratic = np.where(np.isfinite(quadratic), quadratic, np.inf)
        log_det = np.linalg.slogdet(2.0 * np.pi * self.cov).logabsdet
        return -0.5 * (quadratic + log_det[..., None])

    @_overflow_is_data
    def score(self, x: ArrayLike, u: ArrayLike) -> Array:
        """∇_K log N(u; K x, Σ) = Σ⁻¹ (u − K x) x', one matrix a sample.

        Parameters
        ----------
        x : array, shape [..., N, n]
        u : array, shape [..., N, m]

        Returns
        -------
        array, shape [..., N, m, n]
            inf or nan where it is too large for a float.

        Raises
        ------
        ValueError
            If x or u is not real and finite with last axis n or m.

        Notes
        -----
        Williams (1992), "Simple statistical gradient-following algorithms",
        for a Gaussian unit whose mean is linear in its input.
        """
        whitened = self._precise(self._error(x, u))
        return whitened[..., :, None] * self._states(x)[..., None, :]

    def _error(self, x: ArrayLike, u: ArrayLike) -> Array:
        actions, mean = _rows("u", u, self.K.shape[-2]), self._states(x) @ self.K.mT
        _validate.leading("u", actions, 1, self._spread(mean.shape)[:-1])
        return actions - mean

    def _states(self, x: ArrayLike) -> Array:
        return _states(x, self.K, self._spread(self.K.shape)[:-2])

    def _spread(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``shape`` with its leading axes broadcast against those of the covariance."""
        return np.broadcast_shapes(shape, (*self.cov.shape[:-2], 1, 1))

    def _precise(self, error: Array) -> Array:
        """Rows of ``error`` times Σ⁻¹ (Σ is symmetric)."""
        return np.linalg.solve(self.cov, error.mT).mT


def _no_density() -> ValueError:
    return _validate.error(
        "policy",
        "a policy with a density (cov > 0)",
        "the deterministic u = Kx, whose actions form a Dirac measure",
    )


def _gain(K: ArrayLike) -> Array:
    array = _validate.real_array("K", K)
    if array.ndim < 2:
        raise _validate.error("K", "shape (…, m, n)", array.shape)
    array.setflags(write=False)
    return array


def _states(x: ArrayLike, K: Array, lead: tuple[int, ...]) -> Array:
    states = _rows("x", x, K.shape[-1])
    _validate.leading("x", states, 2, lead)
    return states


def _rows(name: str, value: ArrayLike, size: int) -> Array:
    array = _validate.real_array(name, value)
    if array.ndim < 2 or array.shape[-1] != size:
        raise _validate.error(name, f"shape (…, N, {size})", array.shape)
    return array
