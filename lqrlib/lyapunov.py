r"""Discrete Lyapunov equations by doubling, for many systems at once.

For a matrix F with spectral radius below 1 the two equations

    X = D + F X F'          (forward: moments of the state)
    P = C + F' P F          (adjoint: values of the state)

have the solutions Σ_k Fᵏ D F'ᵏ and Σ_k F'ᵏ C Fᵏ. Squaring F doubles the number of
summed terms, so about log₂(1/(1 − ρ)) + 5 rounds suffice, and both equations share
the powers of F. (Smith's squared iteration: R. A. Smith, 1968, "Matrix equation
XA + BX = C", SIAM Journal on Applied Mathematics 16(1).) Near ρ = 1 it loses about
eps/(1 − ρ) for a normal F, and in general eps ‖F‖² ‖(I − F⊗F)⁻¹‖, like every other
method: for a loop that is far from normal that is up to eps/(1 − ρ)^(2n−1). Where it
exceeds 1 no digit of a solution is known, nor whether ρ is below 1.

Where ρ(F) ≥ 1 the answer is nan: a finite matrix may solve the equation there without
being the sum that is meant. So it is where the sum is too large for a float. Of D and C
only the symmetric part counts.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lqrlib import _validate
from lqrlib._validate import Array, Flags

# The remainder after summing 2ʲ terms is F^(2ʲ) X F'^(2ʲ), so its relative size is at
# most the squared norm of that power: stop once it is below rounding.
_NEGLIGIBLE = np.finfo(np.float64).eps / 8
_MOST_ROUNDS = 64
# Bytes of F that are worked on at a time: with sums and products they fill a cache.
_CACHED = 1 << 16

# Of the powers of unstable systems, and of sums that no float can hold.
_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


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


@_overflow_is_data
def is_stable(F: Array) -> Flags:
    """Whether ρ(F) < 1: whether the powers of F go to zero.

    Told from the same powers as the solutions are made of, so that a system is stable
    if and only if its sums exist; `spectral_radius` may round to the other side of 1.

    Parameters
    ----------
    F : array, shape [..., n, n]

    Returns
    -------
    array of bool, shape [...]

    Raises
    ------
    ValueError
        If F is not real with two equal last axes.
    """
    F = _validate.square("F", F)
    return _double_all(F, [], [])


@_overflow_is_data
def _solve(F: Array, terms: Sequence[_Term]) -> list[Array]:
    F = _validate.square("F", F)
    shape, constants = F.shape, []
    for term in terms:
        constants.append(_validate.square(term.name, term.constant, shape))
        shape = np.broadcast_shapes(shape, constants[-1].shape)
    sums = [np.empty(shape) for _ in terms]
    for S, constant in zip(sums, constants, strict=True):
        S[...] = constant
    if F.shape != shape:
        F = np.broadcast_to(F, shape)
    stable = _double_all(F, sums, [term.adjoint for term in terms])
    return [_finished(S, stable) for S in sums]


def _double_all(F: Array, sums: Sequence[Array], adjoints: Sequence[bool]) -> Flags:
    """`_double`, a part of the systems at a time, so that it stays in the cache."""
    lead, core = F.shape[:-2], F.shape[-2:]
    number, size = math.prod(lead), _CACHED // (F.itemsize * math.prod(core)) or 1
    if number == 1:
        parts = [S.reshape(core) for S in sums]
        return np.full(lead, _double_one(F.reshape(core), parts, adjoints))
    F, stable = F.reshape(number, *core), np.empty(number, dtype=bool)
    flat = [S.reshape(number, *core) for S in sums]
    for start in range(0, number, size):
        block = slice(start, start + size)
        stable[block] = _double(F[block], [S[block] for S in flat], adjoints)
    return stable.reshape(lead)


def _double(F: Array, sums: Sequence[Array], adjoints: Sequence[bool]) -> Flags:
    """Grow ``sums`` in place from constants to series, until the powers of F are gone.

    Parameters
    ----------
    F : array, shape [N, n, n]
    sums : sequence of array, each of the shape of F
    adjoints : sequence of bool

    Returns
    -------
    array of bool, shape [N]
        Whether the powers went to zero; where not, the sums mean nothing.
    """
    stable = np.zeros(len(F), dtype=bool)
    active: Any = slice(None)  # all of them, then the places of those that go on
    for _ in range(_MOST_ROUNDS):
        for S, adjoint in zip(sums, adjoints, strict=True):
            left = F.mT if adjoint else F
            S[active] += left @ S[active] @ left.mT
        F = F @ F
        done = np.einsum("...ij,...ij->...", F, F) <= _NEGLIGIBLE
        # |tr Fᵏ| ≤ n ρᵏ: with n or more, or nan, there is no hope left.
        going = (np.abs(np.einsum("...ii->...", F)) < F.shape[-1]) & ~done
        if going.all():
            continue
        stable[active] = done
        if not going.any():
            break
        places = np.flatnonzero(going)
        active = places if isinstance(active, slice) else active[places]
        F = F[places]
    return stable


def _double_one(F: Array, sums: Sequence[Array], adjoints: Sequence[bool]) -> bool:
    """`_double` for one system, where calls cost more than the work: 4 times as fast.

    Parameters
    ----------
    F : array, shape [n, n]
    sums : sequence of array, each of the shape of F
    adjoints : sequence of bool

    Returns
    -------
    bool
    """
    for _ in range(_MOST_ROUNDS):
        for S, adjoint in zip(sums, adjoints, strict=True):
            left = F.T if adjoint else F
            S += left.dot(S).dot(left.T)
        F = F.dot(F)
        if np.vdot(F, F) <= _NEGLIGIBLE:
            return True
        if not abs(F.trace()) < len(F):
            break
    return False


def _finished(S: Array, stable: Flags) -> Array:
    """Symmetric; nan where there is no sum, or none that a float can hold."""
    half = 0.5 * S
    found = half + half.mT
    known = stable & np.isfinite(found).all(axis=(-2, -1))
    return found if known.all() else np.where(known[..., None, None], found, np.nan)
