"""Good input in unusual clothes gives the right answer and stays as it was."""

import warnings

import numpy as np
import pytest
from arguments import ARGUMENTS


def frozen(good):
    array = np.array(good)
    array.setflags(write=False)
    return array


def every_second(good):
    """The same values on memory with gaps."""
    wide = np.zeros((*np.shape(good), 2))
    wide[..., 0] = good
    return wide[..., 0]


def as_matrix(good):
    """NumPy's old class for two axes, whose * is a product of matrices."""
    array = np.array(good, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(array) if array.ndim == 2 else array


UNUSUAL = {
    "integers": lambda good: np.array(good, dtype=np.int64),
    "small integers": lambda good: np.array(good, dtype=np.int8),
    "single precision": lambda good: np.array(good, dtype=np.float32),
    "extended precision": lambda good: np.array(good, dtype=np.longdouble),
    "other byte order": lambda good: np.array(good, dtype=">f8"),
    "nested lists": lambda good: np.array(good).tolist(),
    "Fortran order": lambda good: np.asfortranarray(np.array(good, dtype=float)),
    "a matrix": as_matrix,
    "a mask that hides nothing": np.ma.masked_array,
    "negative strides": lambda good: np.array(good, dtype=float)[::-1].copy()[::-1],
    "gaps in memory": every_second,
    "read-only": frozen,
}


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("clothes", UNUSUAL)
@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda a: f"{a.owner}({a.name})")
def test_good_input_in_unusual_clothes_gives_the_same_and_stays_as_it_was(
    argument, clothes
):
    unusual = UNUSUAL[clothes](argument.good)
    before = np.array(unusual)
    expected = argument.call(np.array(argument.good, dtype=float))
    found = argument.call(unusual)
    np.testing.assert_array_equal(unusual, before)
    for have, want in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-14, atol=1e-14)
        assert have.dtype == want.dtype
