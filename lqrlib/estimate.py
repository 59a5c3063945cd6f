"""What every sampled expression returns: a gradient with its own estimate of error."""

from typing import NamedTuple

import numpy as np

from lqrlib._validate import Array


class GradientEstimate(NamedTuple):
    """A sampled gradient in K, with its own estimate of its error.

    Parameters
    ----------
    gradient : array, shape [..., m, n]
        nan where trajectories of an unstable gain left the floats.
    standard_error : array, shape [..., m, n]
        Over trajectories; linearised where the estimate is no plain mean of them. It
        knows only what was drawn: where weights have no second moment it is mostly
        too small.
    effective_sample_size : array, shape [...]
        Of the weights of whole trajectories; N where there are no weights.
    """

    gradient: Array
    standard_error: Array
    effective_sample_size: Array


def mean_and_error(terms: Array, shift: Array | float = 0.0) -> tuple[Array, Array]:
    """The mean of terms over their last axis; its error is that of terms − shift.

    Parameters
    ----------
    terms : array, shape [..., N]
    shift : array, shape [..., N], or float
        What a term takes from the rest of the estimate, where it is no plain mean.

    Returns
    -------
    mean, standard_error : array, shape [...]
        nan where the mean is not finite; the error of a single term is inf.
    """
    gradient = terms.mean(axis=-1)
    N = terms.shape[-1]
    moved = terms - shift
    squares = np.square(moved - moved.mean(axis=-1, keepdims=True)).sum(axis=-1)
    error = np.sqrt(squares / N / (N - 1)) if N > 1 else np.full(gradient.shape, np.inf)
    lost = ~np.isfinite(gradient)
    return np.where(lost, np.nan, gradient), np.where(lost, np.nan, error)
