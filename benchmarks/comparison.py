"""What is compared: one piece of work, done by the library and by others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Run = Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Parameters
    ----------
    prepare : callable
        Makes what is timed; compiling and other costs of the first call belong here.
    share : float
        The timed call does this share of the work: a loop that takes minutes is timed
        over a part of its items, which all cost the same.
    repeat : int
        Calls in one measurement, for what takes microseconds.
    rounds : int
        Measurements in a turn, of which the median counts.
    """

    prepare: Callable[[], Run]
    share: float = 1.0
    repeat: int = 1
    rounds: int = 3


@dataclass(frozen=True)
class Comparison:
    """A row of the table; the library comes first.

    Parameters
    ----------
    work : str
        What is done, in words.
    contenders : mapping of str to Contender
        The first is the library.
    reach : mapping of str to float
        How many times the library's time a contender's should at least be.
    agree : callable, optional
        Asserts that all contenders have found the same; gets their runs by name.
    items : float
        Of the whole work, for a throughput; 0: none is stated.
    unit : str
        Of the items.
    """

    work: str
    contenders: Mapping[str, Contender]
    reach: Mapping[str, float] = field(default_factory=dict)
    agree: Callable[[Mapping[str, Run]], None] | None = None
    items: float = 0.0
    unit: str = ""


def close(found: object, other: object, rtol: float = 1e-9) -> None:
    """Assert that two arrays are equal up to rounding."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(other), rtol=rtol)
