"""Every argument of everything public × every fault of its kind: refused, by name."""

import inspect
import re

import pytest
from arguments import ARGUMENTS
from options import (
    ARRAYS,
    EXEMPT,
    GOOD,
    NOT_WRONG,
    OPTIONS,
    OWNERS,
    WITH_PARTS,
    called,
    extreme,
    parts_of,
    public,
    wrong,
)
from test_docstrings import OBJECTS, arguments

# Good calls that take seconds, or a pool of processes; the studies have own tests.
SLOW = ("studies.hack.sanity", "studies.record.run", "studies.record.store")


def every(some):
    return pytest.mark.parametrize("option", some, ids=lambda o: f"{o.owner}({o.name})")


def is_record(value):
    """Whether it is a named tuple: returned by the library, or checked by who reads."""
    return inspect.isclass(value) and issubclass(value, tuple)


def broken(call, values, names):
    """Of faults, those that are not answered by a ValueError of the one form."""
    form = re.compile(rf"(?:{'|'.join(names)})(?:[.\[]\S*)?: expected .+, found ", re.S)
    for fault, value in values:
        try:
            call(value)
        except ValueError as refusal:
            if form.match(str(refusal)):
                continue
            yield f"{fault}: {type(refusal).__name__}: {refusal}"
        except Exception as other:
            yield f"{fault}: {type(other).__name__}: {other}"
        else:
            yield f"{fault}: accepted"


def names_of(option):
    """The argument, or a member of it: a σ² of ``covs`` may be called ``cov``."""
    axis = "name" if option.name == "values" else option.name
    return axis, axis.removesuffix("s")


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_callable_has_a_good_call_with_all_of_its_arguments(name):
    value, name = OBJECTS[name], name.removeprefix("lqrlib.")
    expected = set(arguments(value))
    if is_record(value) or name in EXEMPT or not expected:
        assert name not in GOOD
    else:
        assert set(GOOD[name]) == expected


def test_nothing_in_the_tables_is_stale():
    known = {name.removeprefix("lqrlib.") for name in OBJECTS}
    assert known >= {*GOOD, *EXEMPT, *OWNERS}
    assert all(arguments(public(name)) for name in EXEMPT if name != "history.Status")
    assert all(name in GOOD[owner] for owner, name in NOT_WRONG)


def test_every_array_argument_of_a_user_has_a_row_with_shapes():
    rows = {
        (row.owner.split()[0].rpartition(".")[2], row.name.partition(".")[0])
        for row in ARGUMENTS
    }
    # Settings know no sizes: `mbpo` does, which is given them.
    rows |= {("MBPOSettings", name) for owner, name in rows if owner == "mbpo"}
    missing = {
        f"{option.owner}({option.name})"
        for option in ARRAYS
        if option.kind == "array"
        and (option.owner.rpartition(".")[2], option.name) not in rows
        and "" not in NOT_WRONG.get((option.owner, option.name), {})
    }
    assert missing == set()


@pytest.mark.parametrize("owner", [name for name in GOOD if name not in SLOW])
def test_the_good_call_is_answered(owner):
    called(owner)


@every(OPTIONS)
def test_every_fault_of_its_kind_is_refused_by_name(option):
    assert list(broken(option.call, wrong(option).items(), names_of(option))) == []


@every(WITH_PARTS)
def test_every_fault_in_a_part_of_a_record_is_refused_by_name(option):
    def call(part):
        option.call([part, part] if option.kind == "sequence" else part)

    assert list(broken(call, parts_of(option), names_of(option))) == []


@every(ARRAYS)
def test_entries_at_the_ends_of_the_floats_are_answered_or_refused_by_name(option):
    # Which of the arguments leads out of the floats together, no one can tell.
    faults = broken(option.call, extreme(option.good), GOOD[option.owner])
    assert [fault for fault in faults if not fault.endswith(": accepted")] == []
