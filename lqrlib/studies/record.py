"""Run a study over its grid, store what it found, and read it again.

A record is a small ``.npz``: the values of every axis, the results, and the versions
that made them. Each cell has its own generator, so that a record does not depend on the
number of workers.

The records of the book come with the library: where a page's own folder ``records`` is
not at hand, the same names are read from there.
"""

import itertools
import json
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.mbpo import EXPRESSIONS
from lqrlib.studies import (
    arrivals,
    hack,
    hack_paths,
    phases,
    puzzle,
    queries,
    remedies,
    verdict,
)
from lqrlib.studies.setting import settings

SEEDS = tuple(range(20))
MORE_SEEDS = tuple(range(50))
QUARTER_DECADES = tuple(float(f"{10**e:.3g}") for e in np.arange(0, 2.1, 0.25))
HALF_DECADES = tuple(float(f"{10**e:.3g}") for e in np.arange(-1, 3.1, 0.5))
DECADES = HALF_DECADES[::2]


class Study(NamedTuple):
    """A function of a setting and one value of each axis, and the grid it runs over.

    Parameters
    ----------
    function : callable
    world : str
        A name of `lqrlib.studies.settings`.
    axes : dict
        Name of each argument and its values; the last one is the seed.
    """

    function: Callable[..., NDArray[np.floating[Any]]]
    world: str
    axes: dict[str, tuple[Any, ...]]


COVS, SIZES = (0.01, 0.1, 1.0, 10.0), (100, 1000, 10_000)
TRIED = (*remedies.REMEDIES, *remedies.OTHERS)
SANITY = {"cov": COVS, "size": SIZES, "seed": SEEDS}
SMALLER, SMALLEST = SANITY | {"size": SIZES[:2]}, SANITY | {"size": SIZES[:1]}
NEAR_THE_BORDER = {"cov": QUARTER_DECADES, "size": SIZES, "seed": MORE_SEEDS}
FAR_AND_WIDE = NEAR_THE_BORDER | {"cov": HALF_DECADES}
FAR_AND_LONG = NEAR_THE_BORDER | {"cov": DECADES}
REMEDIES = {"name": TRIED, "cov": (1.0,), "size": (1000,), "seed": SEEDS}
FEWER = REMEDIES | {"size": (300,)}  # of longer trajectories
PLANE = {
    "expression": arrivals.EXPRESSIONS,
    "cov": tuple(float(f"{10**e:.3g}") for e in np.arange(-3, 3.1, 0.5)),
    "size": (10, 30, 100, 300, 1000, 3000, 10_000),
    "seed": SEEDS,
}

VERDICT = {
    "method": tuple(verdict.METHODS),
    "cov": (1.0, 30.0),
    "size": (10, 30, 100, 300, 1000),
    "seed": MORE_SEEDS,
}

ENDS = {"expression": EXPRESSIONS, "seed": MORE_SEEDS}
LENGTHS = {"expression": ("dpg", "pathwise"), "lag": (0.0, 0.5, 0.8)}
LENGTHS |= {"branch_length": (1, 2, 5, 10, 20, 60), "members": (1,), "seed": SEEDS}
MEMBERS = LENGTHS | {"branch_length": (5,), "members": (1, 2, 3, 7, 15)}

FIRST = {"name": puzzle.CHECKED, "cov": (0.1, 1.0, 4.0), "seed": tuple(range(30))}
PATHS: dict[str, tuple[Any, ...]] = {
    "data": tuple(hack_paths.DATA),
    "cov": hack_paths.COVS,
    "size": hack_paths.COUNTS,
    "seed": tuple(range(10)),
}
QUERIES: dict[str, tuple[Any, ...]] = {
    "points": tuple(queries.POINTS),
    "gains": tuple(queries.GAINS),
    "radius": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    "size": (20, 60, 200, 600),
    "seed": (0,),
}

STUDIES = {
    "puzzle": Study(puzzle.first_check, "double integrator", FIRST),
    "sanity": Study(hack.sanity, "double integrator", SANITY),
    "sanity-rooms": Study(hack.sanity, "three rooms", SMALLER),
    "sanity-laplacian": Study(hack.sanity, "Laplacian", SMALLEST),
    "law": Study(hack.law, "double integrator", NEAR_THE_BORDER),
    "law-rooms": Study(hack.law, "three rooms", FAR_AND_WIDE),
    "law-laplacian": Study(hack.law, "Laplacian", FAR_AND_LONG),
    "remedies": Study(remedies.remedy, "double integrator", REMEDIES),
    "remedies-rooms": Study(remedies.remedy, "three rooms", REMEDIES),
    "remedies-laplacian": Study(remedies.remedy, "Laplacian", FEWER),
    "passes": Study(arrivals.passes, "double integrator", SANITY),
    "passes-rooms": Study(arrivals.passes, "three rooms", SANITY),
    "passes-laplacian": Study(arrivals.passes, "Laplacian", SMALLER),
    "arrivals": Study(arrivals.arrival, "double integrator", PLANE),
    "arrivals-rooms": Study(arrivals.arrival, "three rooms", PLANE),
    "arrivals-laplacian": Study(arrivals.arrival, "Laplacian", PLANE),
    **{
        f"phases-{loop}": Study(
            phases.plane, "double integrator", {"loop": (loop,)} | ENDS
        )
        for loop in phases.LOOPS
    },
    "lengths": Study(phases.variant, "double integrator", LENGTHS),
    "members": Study(phases.variant, "double integrator", MEMBERS),
    "queries": Study(queries.queries, "double integrator", QUERIES),
    "hack-paths": Study(hack_paths.hack_paths, "double integrator", PATHS),
    "verdict": Study(verdict.ending, "double integrator", VERDICT),
    "verdict-rooms": Study(verdict.ending, "three rooms", VERDICT),
    "verdict-laplacian": Study(verdict.ending, "Laplacian", VERDICT),
}


class Record(NamedTuple):
    """What a study found.

    Parameters
    ----------
    axes : dict
        Name of each argument and its values, in the order of the axes of ``results``.
    results : array, shape [*axes, ...]
    versions : str
        What computed it.
    """

    axes: dict[str, tuple[Any, ...]]
    results: Array
    versions: str

    def at(self, **values: Any) -> Array:
        """The results at some values of some axes.

        Parameters
        ----------
        **values
            One value of each axis that is to be picked.

        Returns
        -------
        array
            Of the axes that are left, in their order.

        Raises
        ------
        ValueError
            If there is no such axis, or the study did not run there.
        """
        picked: list[Any] = [slice(None)] * len(self.axes)
        for name, value in values.items():
            if name not in self.axes:
                raise _validate.error("values", f"axes among {list(self.axes)}", name)
            known = isinstance(value, str | float | int | np.generic)
            if not known or value not in self.axes[name]:
                raise _validate.error(name, f"one of {self.axes[name]}", value)
            picked[list(self.axes).index(name)] = self.axes[name].index(value)
        return self.results[tuple(picked)]


def load(file: str | Path) -> Record:
    """Read a record.

    Parameters
    ----------
    file : str or path
        If there is no such file and it is called ``records/name``, the library's own.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        If there is neither.
    """
    with np.load(_found(file), allow_pickle=False) as stored:
        names = stored["axes"].tolist()
        axes = {name: tuple(stored[f"axis_{name}"].tolist()) for name in names}
        return Record(axes, stored["results"], str(stored["versions"]))


def read(file: str | Path) -> Any:
    """Read what is recorded as JSON: timings, and runs of other libraries.

    Parameters
    ----------
    file : str or path
        If there is no such file and it is called ``records/name``, the library's own.

    Returns
    -------
    dict or list
        What the file says.

    Raises
    ------
    ValueError
        If there is neither.
    """
    return json.loads(_found(file).read_text("utf-8"))


def _found(file: str | Path) -> Path:
    """A file as named, or the record of that name that comes with the library."""
    _validate.instance("file", file, str, Path)
    path, here = Path(file), Path(__file__).parent
    places = [path]
    if path.parent == Path("records"):
        # A wheel puts them beside this file; a checkout has them in the book.
        places += [here / path, here.parents[1] / "book" / path]
    for place in places:
        if _is(Path.is_file, place):
            return place
    raise _validate.error("file", "a file or a record of the book", repr(str(file)))


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is a file, or a folder; not if its name is too long for one."""
    try:
        return kind(path)
    except OSError:
        return False


def run(study: Study, workers: int | None = None) -> Array:
    """The results of a study over its whole grid.

    Parameters
    ----------
    study : Study
    workers : int, optional
        Processes; by default one a processor.

    Returns
    -------
    array, shape [*axes, ...]

    Raises
    ------
    ValueError
        If ``study`` is none, or ``workers`` no whole number of at least 1.
    """
    _validate.instance("study", study, Study)
    if workers is not None:
        _validate.count("workers", workers)
    cells = list(itertools.product(*study.axes.values()))
    order = list(range(len(cells)))
    if "size" in study.axes:  # large ones first: none is left for the end
        size = list(study.axes).index("size")
        order.sort(key=lambda i: -cells[i][size])
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = ((study, cells[i]) for i in order)
        found = dict(zip(order, pool.map(_cell, jobs, chunksize=4), strict=True))
    shape = [len(values) for values in study.axes.values()]
    results = np.stack([found[i] for i in range(len(cells))])
    return results.reshape(*shape, *results.shape[1:])


def _cell(job: tuple[Study, tuple[Any, ...]]) -> Array:
    study, values = job
    setting = settings()[study.world]
    named = dict(zip(study.axes, values, strict=True))
    return np.asarray(study.function(setting, **named))


def store(name: str, folder: str | Path) -> Path:
    """Run a study and write its record.

    Parameters
    ----------
    name : str
        One of `STUDIES`.
    folder : str or path

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ValueError
        If there is no such study or folder.
    """
    name = _validate.choice("name", name, STUDIES)
    _validate.instance("folder", folder, str, Path)
    # A study takes hours: say so before it has run.
    if not _is(Path.is_dir, Path(folder)):
        raise _validate.error("folder", "a folder that exists", repr(str(folder)))
    study, file = STUDIES[name], Path(folder) / f"{name}.npz"
    parts: dict[str, Any] = {
        f"axis_{axis}": np.array(values) for axis, values in study.axes.items()
    }
    parts |= {"axes": np.array(list(study.axes)), "results": run(study)}
    parts["versions"] = f"Python {platform.python_version()}, NumPy {np.__version__}"
    np.savez_compressed(file, **parts)
    return file
