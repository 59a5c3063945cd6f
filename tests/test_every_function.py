"""What every public function promises, on random systems: shapes, loops, inputs."""

import inspect
import re

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from public_functions import LEFT_OUT, ROWS
from random_inputs import Inputs, leading, one
from systems import close
from test_docstrings import OBJECTS, section

from lqrlib import LQR, GaussianPolicy, History, LinearPolicy, StagePolicy

RECORDS = LQR, History, LinearPolicy, GaussianPolicy, StagePolicy
GAINS = "K", "stages", "gain_last"
PROMISES = {
    "inf": lambda part: (part == np.inf).all(),
    "nan": lambda part: np.isnan(part).all(),
    "False": lambda part: not part.any(),
    "finite": lambda part: np.isfinite(part).all(),
    "any": lambda _: True,
}
# All of them broadcast against each other.
LEADS = [(), (2,), (3, 1), (3, 2)]
few = settings(
    deadline=None,
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a seed has no simpler one to be shrunk to
)


def promise(row):
    """What a docstring says of a result, in its words."""
    return " ".join(section(OBJECTS[f"lqrlib.{row.name}"].__doc__, "Returns"))


def _name(row):
    words = [str(value) for value in row.options.values() if isinstance(value, str)]
    return "-".join([row.name, *words])


every_row = pytest.mark.parametrize("row", ROWS, ids=_name)
every_batched_row = pytest.mark.parametrize(
    "row", [r for r in ROWS if r.batched], ids=_name
)
every_row_that_only_reads = pytest.mark.parametrize(
    "row", [r for r in ROWS if not r.writes], ids=_name
)
every_row_that_is_symmetric = pytest.mark.parametrize(
    "row", [r for r in ROWS if "Symmetric" in promise(r)], ids=_name
)
every_row_of_a_gain = pytest.mark.parametrize(
    "row", [r for r in ROWS if r.unstable], ids=_name
)
systems = st.builds(
    Inputs, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1)
)
many_leads = st.lists(st.sampled_from(LEADS), min_size=7, max_size=7)


def parts(value):
    """Arrays and numbers in a result, in the order of its fields; words left out."""
    if isinstance(value, str) or value is None:
        return []
    if isinstance(value, RECORDS):
        value = tuple(vars(value).values())
    if isinstance(value, list | tuple):
        return [part for each in value for part in parts(each)]
    return [np.asarray(value)]


def called(row, inputs, given):
    """The parts of a result."""
    known = {"lqr": inputs.lqr, "self": inputs.lqr, "rng": np.random.default_rng(0)}
    wanted = inspect.signature(row.call).parameters
    extra = {name: value for name, value in known.items() if name in wanted}
    return parts(row.call(**(extra | given | row.options)))


def frozen(value):
    """The same in Fortran's order and read-only."""
    if isinstance(value, RECORDS):
        return value
    if isinstance(value, list):
        return [frozen(each) for each in value]
    if isinstance(value, tuple):
        return type(value)(*map(frozen, value))
    array = np.array(value, order="F")
    array.setflags(write=False)
    return array


def drawn(row, inputs, leads):
    """Inputs of a row, and the leading axes of all of them together."""
    given, leads = {}, leads[:1] * len(leads) if row.alike else leads
    for (name, kind), lead in zip(row.kinds.items(), leads, strict=False):
        given[name] = inputs.make(kind, () if name in row.single.split() else lead)
    kinds = row.kinds
    found = [leading(value, kinds[name]) for name, value in given.items()]
    return given, np.broadcast_shapes(*found)


def documented(row):
    """Shapes of a result's parts, as the docstring gives them."""
    return row.shapes or [
        *_shapes(section(OBJECTS[f"lqrlib.{row.name}"].__doc__, "Returns"))
    ]


def _shapes(lines):
    for line in lines:
        if not line[:1].strip():
            continue
        names, _, kind = line.rpartition(" : ")
        shape = re.search(r"shape \[(.*?)\]", kind)
        record = next((k for k in OBJECTS if k.endswith("." + kind)), None)
        if shape:
            yield from [shape[1]] * (names.count(",") + 1)
        elif record is not None:
            yield from _shapes(section(OBJECTS[record].__doc__, "Parameters"))
        elif kind.split(",")[0] in ("float", "int", "bool"):
            yield ""
        else:
            pytest.fail(f"no shape in {line!r}")


def expected_shape(text, sizes, lead):
    axes = []
    for word in filter(None, map(str.strip, text.split(","))):
        axes += lead if word == "..." else [eval(word.replace("n²", "n*n"), {}, sizes)]
    return tuple(axes)


def at_lead(part, text, index):
    """The part of a single one, by where the leading axes stand in its shape."""
    before, dots, _ = text.partition("...")
    return part[(slice(None),) * before.count(",") + index] if dots else part


def scaled_close(found, wanted, accuracy=1e-8):
    """Equal but for rounding, told from the largest finite entry."""
    finite = np.abs(wanted[np.isfinite(wanted)], dtype=float)
    size = finite.max(initial=0.0)
    close(found, wanted, rtol=accuracy, atol=accuracy * size)


@few
@every_row
@given(systems, many_leads)
def test_results_have_their_documented_shapes(row, inputs, leads):
    arguments, lead = drawn(row, inputs, leads)
    found, texts = called(row, inputs, arguments), documented(row)
    wanted = [expected_shape(text, inputs.sizes, lead) for text in texts]
    assert [part.shape for part in found] == wanted


@few
@every_batched_row
@given(systems, many_leads)
def test_a_call_for_many_is_a_loop_over_single_ones(row, inputs, leads):
    arguments, lead = drawn(row, inputs, leads)
    together, kinds = called(row, inputs, arguments), row.kinds
    for index in np.ndindex(lead):
        single = {name: one(v, kinds[name], index) for name, v in arguments.items()}
        alone = called(row, inputs, single)
        for part, want, text in zip(together, alone, documented(row), strict=True):
            scaled_close(at_lead(part, text, index), want)


@few
@every_row_that_only_reads
@given(systems, many_leads)
def test_inputs_are_never_written_to_and_their_layout_does_not_matter(
    row, inputs, leads
):
    arguments, _ = drawn(row, inputs, leads)
    before = [part.tobytes() for part in parts([*arguments.values(), inputs.lqr])]
    wanted = called(row, inputs, arguments)
    assert before == [
        part.tobytes() for part in parts([*arguments.values(), inputs.lqr])
    ]
    found = called(row, inputs, {k: frozen(v) for k, v in arguments.items()})
    for part, want in zip(found, wanted, strict=True):
        scaled_close(part, want)


@few
@every_row_of_a_gain
@given(systems)
def test_an_unstable_gain_gives_what_is_documented_and_harms_no_other(row, inputs):
    good, _ = drawn(row, inputs, [()] * 7)
    gain, kind = next(pair for pair in row.kinds.items() if pair[1] in GAINS)
    bad = inputs.unstable(kind)
    if row.unstable == "refused":
        with pytest.raises(ValueError, match="expected"):
            called(row, inputs, good | {gain: bad})
        return
    if gain in row.single.split():
        for part, word in zip(
            called(row, inputs, good | {gain: bad}), row.unstable.split(), strict=True
        ):
            assert PROMISES[word](part)
        return
    both = called(row, inputs, good | {gain: np.stack([good[gain], bad])})
    alone = called(row, inputs, good)
    texts = documented(row)
    words = len(texts) * ["any"] if row.unstable == "any" else row.unstable.split()
    for part, want, text, word in zip(both, alone, texts, words, strict=True):
        first, second = (at_lead(part, text, (i,)) for i in (0, 1))
        assert PROMISES[word](second)
        if not row.no_loop:
            scaled_close(first, want)


@few
@every_row_that_is_symmetric
@given(systems, many_leads)
def test_what_is_documented_to_be_symmetric_or_semidefinite_is(row, inputs, leads):
    arguments, _ = drawn(row, inputs, leads)
    for part in called(row, inputs, arguments):
        scaled_close(part, part.mT, 1e-12)
        values = np.linalg.eigvalsh(part)
        if {"⪰", "≻"} & set(promise(row)):
            assert (values[..., 0] >= -1e-12 * values[..., -1]).all()


def test_every_public_object_is_in_a_row_or_left_out_for_a_reason():
    left_out = [name for names in LEFT_OUT.values() for name in names.split()]
    in_rows = {row.name for row in ROWS}
    assert not in_rows & set(left_out)
    assert len(left_out) == len(set(left_out))
    known = {f"lqrlib.{name}" for name in (*in_rows, *left_out)}
    assert known == set(OBJECTS)


def test_the_results_of_a_gain_are_told_apart():
    """A part "any" promises nothing; every other word is a promise that can fail."""
    assert not PROMISES["finite"](np.array([1.0, np.inf]))
    assert not PROMISES["nan"](np.array([1.0, np.nan]))
    assert not PROMISES["inf"](np.array([1.0, np.inf]))
    assert not PROMISES["False"](np.array([False, True]))
