"""A sweep's grid: which settings its cells have, and where their results belong."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _validate

# Axes that change no shape: they become leading axes of one program.
BATCHED = ("cov", "real_ratio")


class Plan(NamedTuple):
    """What a sweep runs.

    Parameters
    ----------
    axes : dict
        Name of each axis and its values.
    seeds : tuple of int
    variants : list
        Settings, one for each combination of values of the looped axes.
    names : list of str
        Of each variant and seed; seeds change faster.
    """

    axes: dict[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    variants: list[Any]
    names: list[str]

    def arranged(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Results [time, C, R, …] of each variant and seed as [time, axes…, seed, …].

        Parameters
        ----------
        blocks : sequence of array
            Seeds change faster than variants.

        Returns
        -------
        array
        """
        looped = [name for name in self.axes if name not in BATCHED]
        sizes = [len(self.axes[name]) for name in looped]
        found = np.stack(blocks).reshape(*sizes, len(self.seeds), *blocks[0].shape)
        names = [*looped, "seed", "time"]
        for name in BATCHED:
            if name in self.axes:
                names.append(name)
            else:
                found = np.take(found, 0, axis=len(names))
        order = [names.index(name) for name in ("time", *self.axes, "seed")]
        return found.transpose(*order, *range(len(names), found.ndim))


def plan(
    settings: Any,
    axes: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    allowed: set[str],
) -> Plan:
    """Check a grid, and list the settings that are looped over.

    Parameters
    ----------
    settings : dataclass
        What the axes do not change.
    axes : mapping of str to sequence
    seeds : sequence of int
    allowed : set of str
        Names that an axis may have.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If an axis is not allowed or has no values, or a seed is no whole number, or
        values of looped axes do not go together with the settings.
    """
    _validate.instance("axes", axes, Mapping)
    for name in axes:
        if name not in allowed:
            raise _validate.error("axes", f"names among {sorted(allowed)}", name)
    grid = {
        name: _validate.sequence(f"axes[{name!r}]", values)
        for name, values in axes.items()
    }
    listed = _validate.sequence("seeds", seeds)
    for seed in listed:
        _validate.seed("seeds", seed)
    looped = [name for name in grid if name not in BATCHED]
    cells = [
        dict(zip(looped, values, strict=True))
        for values in itertools.product(*(grid[name] for name in looped))
    ]
    variants = [_changed(settings, cell) for cell in cells]
    names = [_named(cell | {"seed": seed}) for cell in cells for seed in listed]
    return Plan(grid, listed, variants, names)


def _changed(settings: Any, cell: dict[str, Any]) -> Any:
    try:
        return replace(settings, **cell)
    except ValueError as fault:
        raise ValueError(f"{fault}, in the block {_named(cell)}") from fault


def _named(cell: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in cell.items())
