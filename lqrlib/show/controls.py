"""The controls of an explorer: what a reader may set, and how each value is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lqrlib import _validate


@dataclass(frozen=True)
class Slider:
    """A number that the reader slides.

    Parameters
    ----------
    name : str
        The keyword under which `Explorer.update` receives the value.
    label : str
        What the reader sees beside it, with the unit.
    values : sequence of float
        The grid of the built page, ascending; a live slider takes every value between.
    default : float
        One of ``values``.
    log : bool
        Whether a live slider moves in equal ratios (the grid should, too).

    Raises
    ------
    ValueError
        If ``values`` does not ascend, or ``default`` is not one of them.
    """

    name: str
    label: str
    values: Sequence[float]
    default: float
    log: bool = False

    def __post_init__(self) -> None:
        grid = _validate.real_array(self.name, self.values)
        if grid.ndim != 1 or (np.diff(grid) <= 0).any():
            raise _validate.error(self.name, "ascending values", self.values)
        object.__setattr__(self, "values", tuple(float(v) for v in grid))
        _check_default(self.name, self.values, self.default)

    def written(self) -> list[str]:
        """Each value as code writes it."""
        return [f"{value:.6g}" for value in self.values]

    def keys(self) -> list[str]:
        """Each value as the URL names it."""
        return self.written()

    def spoken(self) -> list[str]:
        """Each value as the page shows it."""
        return [text.replace("-", "\N{MINUS SIGN}") for text in self.written()]


@dataclass(frozen=True)
class Choice:
    """One of a few named options.

    Parameters
    ----------
    name : str
        The keyword under which `Explorer.update` receives the option.
    label : str
        What the reader sees beside it.
    values : sequence of str
        The options.
    default : str
        One of ``values``.
    names : sequence of str, optional
        What the reader sees for each value; by default the value.

    Raises
    ------
    ValueError
        If ``default`` is not one of ``values``, or there is not a name for each.
    """

    name: str
    label: str
    values: Sequence[str]
    default: str
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "names", tuple(self.names or self.values))
        if len(self.names) != len(self.values):
            wanted = f"{len(self.values)} names"
            raise _validate.error(self.name, wanted, len(self.names))
        _check_default(self.name, self.values, self.default)

    def written(self) -> list[str]:
        """Each option as code writes it."""
        return [repr(value) for value in self.values]

    def keys(self) -> list[str]:
        """Each option as the URL names it."""
        return list(self.values)

    def spoken(self) -> list[str]:
        """Each option as the page shows it."""
        return list(self.names)


def _check_default(name: str, values: Sequence[object], default: object) -> None:
    if default not in values:
        raise _validate.error(name, f"a default among {list(values)}", default)
