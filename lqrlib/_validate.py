"""The boundary: every public argument passes through here once.

A fault raises ``ValueError("name: expected …, found …")``. Nothing is repaired
silently, and the caller's arrays are never written to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

# Relative to the largest entry: a user's Q from a product such as C'C is symmetric
# only up to rounding, and an absolute tolerance would reject it when Q is large.
_SYMMETRY = 1e-10
_DEFINITENESS = 1e-12
_LARGEST_SIZE = int(np.iinfo(np.intp).max)


def error(name: str, expected: str, found: object) -> ValueError:
    """The one form of every complaint: argument, expectation, finding."""
    return ValueError(f"{name}: expected {expected}, found {found}")


def real_array(name: str, value: Any, *, infinite: bool = False) -> Array:
    """A float64 copy of ``value``: real, not empty, finite (or +inf if allowed)."""
    array = _real(name, value).copy()
    if np.isfinite(array).all():
        return array
    if not infinite or np.isnan(array).any() or (array == -np.inf).any():
        bad = "nan" if np.isnan(array).any() else "inf" if not infinite else "-inf"
        raise error(name, "finite entries" + " or inf" * infinite, bad)
    return array


def number(name: str, value: Any) -> float:
    """One finite real number."""
    array = real_array(name, value)
    if array.ndim != 0:
        raise error(name, "a number", f"shape {array.shape}")
    return float(array)


def above_zero(name: str, value: Any) -> float:
    """One finite real number > 0."""
    found = number(name, value)
    if found <= 0.0:
        raise error(name, "a number above 0", value)
    return found


def count(name: str, value: Any) -> int:
    """A whole number, at least 1, that can be the size of an array."""
    if not _is_whole(value) or value < 1:
        raise error(name, "a whole number, at least 1", value)
    if value > _LARGEST_SIZE:
        raise error(name, f"a whole number, at most {_LARGEST_SIZE}", value)
    return int(value)


def seed(name: str, value: Any) -> int:
    """A whole number, at least 0, however large."""
    if not _is_whole(value) or value < 0:
        raise error(name, "a whole number, at least 0", value)
    return int(value)


def flag(name: str, value: Any) -> bool:
    """True or False: "no" and [False] would both count as yes."""
    if not isinstance(value, bool | np.bool_):
        raise error(name, "True or False", repr(value))
    return bool(value)


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """One of the known words."""
    words = tuple(known)
    if not isinstance(value, str) or value not in words:
        raise error(name, f"one of {words}", repr(value))
    return value


def function(name: str, value: Any) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise error(name, "a callable", type(value).__name__)


def listed(name: str, value: Any) -> tuple[Any, ...]:
    """The members of what is listed; a text is not a list of letters."""
    if isinstance(value, str | bytes | Mapping):
        raise error(name, "a sequence", repr(value))
    try:
        return tuple(value)
    except TypeError as single:
        raise error(name, "a sequence", repr(value)) from single


def sequence(name: str, value: Any) -> tuple[Any, ...]:
    """The members of what is listed, at least one."""
    found = listed(name, value)
    if not found:
        raise error(name, "at least one", "none")
    return found


def generator(name: str, value: Any) -> np.random.Generator:
    """A NumPy random generator: a seed or global state is not enough."""
    if not isinstance(value, np.random.Generator):
        raise error(name, "a numpy.random.Generator", type(value).__name__)
    return value


@contextmanager
def within_floats(name: str) -> Iterator[None]:
    """Refuse an argument that leads beyond the floats, where inf is no answer."""
    try:
        with np.errstate(over="raise", invalid="raise"):
            yield
    except (FloatingPointError, np.linalg.LinAlgError) as left:
        raise error(name, "what leads to finite numbers", str(left)) from left


def instance(name: str, value: object, *kinds: type) -> None:
    """Refuse what is not of one of the kinds."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise error(name, f"{wanted}", type(value).__name__)


def matrix(name: str, value: Any, shape: Sequence[int | None]) -> Array:
    """A finite real matrix; ``None`` in ``shape`` leaves that size free."""
    array = real_array(name, value)
    if array.ndim != 2 or any(
        want not in (None, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise error(name, f"shape {_shape_words(shape)}", array.shape)
    return array


def stack(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Finite real matrices of one shape under any number of leading axes."""
    array = real_array(name, value)
    if array.shape[-len(shape) :] != shape:
        wanted = "(…, " + ", ".join(map(str, shape)) + ")"
        raise error(name, f"shape {wanted}", array.shape)
    return array


def stages(name: str, value: Any, shape: tuple[int, int]) -> Array:
    """Finite real [..., T, m, n]: a matrix for each of T stages."""
    array = stack(name, value, shape)
    if array.ndim < 3:
        m, n = shape
        raise error(name, f"shape (…, T, {m}, {n})", array.shape)
    return array


def view(
    name: str, value: Any, shape: tuple[int, ...], other: tuple[int, ...]
) -> Array:
    """Finite real [*lead, *shape], not copied: data are large, and laid out."""
    array = _real(name, value)
    if array.shape[-len(shape) :] != shape:
        wanted = "(…, " + ", ".join(map(str, shape)) + ")"
        raise error(name, f"shape {wanted}", array.shape)
    # The sum tells in one pass without a temporary; only then is it worth looking.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(array.sum())
    if suspicious and not np.isfinite(array).all():
        raise error(name, "finite entries", "nan" if np.isnan(array).any() else "inf")
    leading(name, array, len(shape), other)
    return array


def rows(name: str, value: Any, core: int) -> Array:
    """Real data with at least ``core`` axes, not copied; may hold inf, not nan."""
    array = _real(name, value)
    if array.ndim < core:
        raise error(name, f"at least {core} axes", f"shape {array.shape}")
    if np.isnan(array.min()):  # of any entry, in one pass
        raise error(name, "finite entries or inf", "nan")
    return array


def logarithms(name: str, value: Any) -> Array:
    """Real [..., N] with −inf for the logarithm of 0."""
    array = _real(name, value)
    if array.ndim == 0:
        raise error(name, "shape (…, N)", array.shape)
    if not (array < np.inf).all():
        bad = "nan" if np.isnan(array).any() else "inf"
        raise error(name, "finite entries or -inf", bad)
    return array


def leading(name: str, array: Array, core: int, other: tuple[int, ...]) -> None:
    """Refuse leading axes of ``array`` that do not broadcast against ``other``."""
    own = array.shape[:-core]
    try:
        np.broadcast_shapes(own, other)
    except ValueError as clash:
        raise error(name, f"leading axes that broadcast to {other}", own) from clash


def semidefinite(name: str, value: Any, size: int, *, strict: bool = False) -> Array:
    """A symmetric matrix with eigenvalues ≥ 0 (> 0 if ``strict``)."""
    array = matrix(name, value, (size, size))
    _check_definite(name, array, strict)
    return _symmetrised(array)


def square(name: str, value: Any, like: tuple[int, ...] | None = None) -> Array:
    """Real [..., n, n], not copied; a result of arithmetic, so it may hold nan, inf."""
    array = _real(name, value)
    wanted = array.shape[-1:] * 2 if like is None else like[-2:]
    if array.ndim < 2 or array.shape[-2:] != wanted:
        n = "n, n" if like is None else f"{like[-2]}, {like[-1]}"
        raise error(name, f"shape (…, {n})", array.shape)
    if like is not None:
        leading(name, array, 2, like[:-2])
    return array


def result(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Real, not copied; a result of arithmetic, so it may hold nan, inf."""
    array = _real(name, value)
    if shape is not None and array.shape != shape:
        raise error(name, f"shape {shape}", array.shape)
    return array


def flags(name: str, value: Any, shape: tuple[int, ...]) -> Flags:
    """Booleans of one shape, not copied."""
    try:
        array = np.asarray(value)
    except ValueError as ragged:
        raise error(name, "booleans", type(value).__name__) from ragged
    if array.dtype != bool or array.shape != shape:
        found = f"{array.dtype} of shape {array.shape}"
        raise error(name, f"booleans of shape {shape}", found)
    return array


def covariance(name: str, value: Any, size: int, *, strict: bool = False) -> Array:
    """Σ as [..., m, m] from a scalar σ² (meaning σ²I), a matrix or ``None`` (0)."""
    array = real_array(name, 0.0 if value is None else value)
    if array.ndim == 0:
        if array <= 0.0 if strict else array < 0.0:
            raise _indefinite(name, strict, float(array))
        return array * np.eye(size)
    if array.shape[-2:] != (size, size):
        raise error(name, f"a scalar or shape (…, {size}, {size})", array.shape)
    _check_definite(name, array, strict)
    return _symmetrised(array)


def discount(name: str, value: Any) -> float:
    """γ in (0, 1]."""
    array = real_array(name, value)
    if array.ndim != 0 or not 0.0 < array <= 1.0:
        raise error(name, "a number in (0, 1]", value)
    return float(array)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _real(name: str, value: Any) -> Array:
    """``value`` as float64, not empty; a copy only where it has to be."""
    # NumPy would show what a mask hides.
    if np.ma.is_masked(value):
        raise error(name, "a real array", "masked entries")
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as ragged:
        raise error(name, "a real array", type(value).__name__) from ragged
    if raw.dtype.kind not in "fiu":
        raise error(name, "a real array", f"dtype {raw.dtype}")
    if raw.size == 0:
        raise error(name, "a non-empty array", f"shape {raw.shape}")
    if raw.dtype == np.float64:
        return raw
    with np.errstate(over="ignore"):
        return raw.astype(np.float64, copy=False)


def _check_definite(name: str, array: Array, strict: bool) -> None:
    scale = np.abs(array).max(axis=(-2, -1), keepdims=True)
    skew = np.abs(0.5 * array - 0.5 * array.mT)  # halves, as in _symmetrised
    if (skew > 0.5 * _SYMMETRY * scale).any():
        gap = 2.0 * float(skew.max())
        raise error(name, "a symmetric matrix", f"asymmetry {gap:.3g}")
    lowest = np.linalg.eigvalsh(_symmetrised(array)).min(axis=-1)
    floor = _DEFINITENESS * scale[..., 0, 0]
    if (lowest <= floor if strict else lowest < -floor).any():
        raise _indefinite(name, strict, float(lowest.min()))


def _indefinite(name: str, strict: bool, lowest: float) -> ValueError:
    kind = "positive definite" if strict else "positive semidefinite"
    return error(name, f"a {kind} matrix", f"eigenvalue {lowest:.3g}")


def _symmetrised(array: Array) -> Array:
    # Halves first: the sum of two entries near the largest float would overflow.
    return 0.5 * array + 0.5 * array.mT


def _shape_words(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
