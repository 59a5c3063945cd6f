r"""Discrete Lyapunov equations by doubling, for many systems at once.

For a matrix F with spectral radius below 1 the two equations

    X = D + F X F'          (forward: moments of the state)
    P = C + F' P F          (adjoint: values of the state)

have the solutions Σ_k Fᵏ D F'ᵏ and Σ_k F'ᵏ C Fᵏ. Squaring F doubles the number of
summed terms, so about log₂(1/(1 − ρ)) + 5 rounds suffice, and both equations share
the powers of F. (Smith's squared iteration: R. A. Smith, 1968, "Matrix equation
XA + BX = C", SIAM Journal on Applied Mathematics 16(1).) Near ρ = 1 it loses about
eps/(1 − ρ), like every other method.

Where ρ(F) ≥ 1 the answer is nan: a finite matrix may solve the equation there without
being the sum that is meant. So it is where the sum is too large for a float. Of D and C
only the symmetric part counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lqrlib import _validate
from lqrlib._validate import Array, Flags

# The remainder after summing 2ʲ terms is F^(2ʲ) X F'^(2ʲ), so its relative size is at
# most the squared norm of that power: stop once it is below rounding.
_NEGLIGIBLE = np.finfo(np.float64).eps / 8
_MOST_ROUNDS = 64


class _Term(NamedTuple):
    name: str
    constant: Array
    adjoint: bool


def spectral_radius(F: Array) -> Array:
    """ρ(F) = max |λᵢ(F)|; inf where F has entries too large to be finite.

    Parameters
    ----------
    F : array, shape [..., n, n]

    Returns
    -------
    array, shape [...]

    Raises
    ------
    ValueError
        If F is not real with two equal last axes.
    """
    F = _validate.square("F", F)
    finite: Flags = np.isfinite(F)
    eigenvalues = np.linalg.eigvals(np.where(finite, F, 0.0))
    radius = np.abs(eigenvalues).max(axis=-1)
    return np.where(finite.all(axis=(-2, -1)), radius, np.inf)


def forward(F: Array, D: Array) -> Array:
    """The solution of X = D + F X F'.

    Parameters
    ----------
    F : array, shape [..., n, n]
    D : array, shape [..., n, n], symmetric, broadcasting against F

    Returns
    -------
    array, shape [..., n, n]
        Symmetric; nan where ρ(F) ≥ 1.

    Raises
    ------
    ValueError
        If F or D is not real, square and of one size, or leading axes clash.
    """
    return _solve(F, [_Term("D", D, adjoint=False)])[0]


def adjoint(F: Array, C: Array) -> Array:
    """The solution of P = C + F' P F.

    Parameters
    ----------
    F : array, shape [..., n, n]
    C : array, shape [..., n, n], symmetric, broadcasting against F

    Returns
    -------
    array, shape [..., n, n]
        Symmetric; nan where ρ(F) ≥ 1.

    Raises
    ------
    ValueError
        If F or C is not real, square and of one size, or leading axes clash.
    """
    return _solve(F, [_Term("C", C, adjoint=True)])[0]


def both(F: Array, D: Array, C: Array) -> tuple[Array, Array]:
    """`forward` (F, D) and `adjoint` (F, C) for the price of one set of powers.

    Parameters
    ----------
    F : array, shape [..., n, n]
    D, C : array, shape [..., n, n], symmetric, broadcasting against F

    Returns
    -------
    X, P : array, shape [..., n, n]
        Symmetric; nan where ρ(F) ≥ 1.

    Raises
    ------
    ValueError
        If F or one of D, C is not real, square and of one size, or leading axes clash.
    """
    X, P = _solve(F, [_Term("D", D, adjoint=False), _Term("C", C, adjoint=True)])
    return X, P


def _solve(F: Array, terms: Sequence[_Term]) -> list[Array]:
    F = _validate.square("F", F)
    shape, constants = F.shape, []
    for term in terms:
        constants.append(_validate.square(term.name, term.constant, shape))
        shape = np.broadcast_shapes(shape, constants[-1].shape)
    stable = np.broadcast_to(spectral_radius(F) < 1.0, shape[:-2])

    def systems(M: Array) -> Array:
        return np.broadcast_to(M, shape)[stable]

    with np.errstate(over="ignore", invalid="ignore"):
        sums = [systems(constant) for constant in constants]
        _double(systems(F), sums, [term.adjoint for term in terms])
        return [_spread(S, stable) for S in sums]


def _double(F: Array, sums: list[Array], adjoints: Sequence[bool]) -> None:
    """Grow ``sums`` [N, n, n] from constants to series, dropping systems when done."""
    active = np.arange(len(F))
    for _ in range(_MOST_ROUNDS):
        for S, adjoint in zip(sums, adjoints, strict=True):
            left = F.mT if adjoint else F
            S[active] += left @ S[active] @ left.mT
        F = F @ F
        going = np.square(F).sum(axis=(-2, -1)) > _NEGLIGIBLE
        active, F = active[going], F[going]
        if not active.size:
            break


def _spread(S: Array, stable: Flags) -> Array:
    """Symmetric solutions back in their places among all systems, nan elsewhere."""
    full = np.full((*stable.shape, *S.shape[-2:]), np.nan)
    finite = np.isfinite(S).all(axis=(-2, -1), keepdims=True)
    full[stable] = np.where(finite, 0.5 * S + 0.5 * S.mT, np.nan)
    return full
