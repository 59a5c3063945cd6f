"""The problem: what it stores, what it refuses, and that it cannot change."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from systems import plain_world

from lqrlib import LQR, exact, worlds

MATRICES = ["A", "B", "Q", "R", "W", "X0"]


def two_modes(first, second, Q, gamma=1.0):
    """Two states that do not touch each other, of which the action moves both."""
    zero = np.zeros((2, 2))
    return LQR(np.diag([first, second]), np.eye(2), Q, np.eye(2), zero, zero, gamma)


def test_sizes_are_read_from_b():
    lqr = plain_world()
    assert (lqr.n, lqr.m) == (3, 2)


@pytest.mark.parametrize("name", MATRICES)
def test_stored_arrays_are_read_only_float64(name):
    array = getattr(plain_world(), name)
    assert array.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 7.0


@pytest.mark.parametrize("name", MATRICES)
def test_a_later_write_to_the_callers_array_does_not_reach_the_problem(name):
    callers = np.array(getattr(plain_world(), name))
    lqr = plain_world(**{name: callers})
    before = callers.copy()
    callers[0, 0] += 1.0
    np.testing.assert_array_equal(getattr(lqr, name), before)


@pytest.mark.parametrize("name", [*MATRICES, "gamma"])
def test_no_attribute_can_be_replaced(name):
    lqr = plain_world()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(lqr, name, getattr(lqr, name))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda lqr: pickle.loads(pickle.dumps(lqr))]
)
def test_copies_and_unpickled_problems_are_equal_and_read_only_too(copied):
    lqr = plain_world()
    other = copied(lqr)
    assert other.gamma == lqr.gamma
    for name in MATRICES:
        np.testing.assert_array_equal(getattr(other, name), getattr(lqr, name))
        assert not getattr(other, name).flags.writeable


def test_dataclasses_replace_changes_one_argument_and_checks_it():
    lqr = dataclasses.replace(plain_world(), gamma=0.5)
    assert lqr.gamma == 0.5
    np.testing.assert_array_equal(lqr.A, plain_world().A)
    with pytest.raises(ValueError, match=r"^gamma: expected"):
        dataclasses.replace(lqr, gamma=2.0)


def test_rounding_asymmetry_is_accepted_and_removed():
    Q = 1e12 * np.array([[2.0, 1.0], [1.0, 2.0]])
    Q[0, 1] += 1.0  # relative 1e-12: what a product like C'C leaves behind
    stored = two_modes(0.5, 0.5, Q).Q
    np.testing.assert_array_equal(stored, stored.T)
    assert stored[0, 1] == pytest.approx(1e12 + 0.5, rel=1e-15)


def test_closed_loop_is_a_plus_bk():
    lqr, K = plain_world(), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    by_hand = [[1.0, 3.0, 3.0], [4.0, 5.0, 7.0], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(lqr.closed_loop(K), by_hand)


def test_closed_loop_of_an_enormous_gain_overflows_silently():
    lqr = dataclasses.replace(worlds.double_integrator(), B=[[0.0], [10.0]])
    assert np.isinf(lqr.closed_loop([[1e308, 1e308]])).any()


def test_gain_is_a_copy_that_the_caller_may_write_to():
    mine = np.zeros((2, 3))
    plain_world().gain(mine)[0, 0] = 1.0
    assert mine[0, 0] == 0.0


@pytest.mark.parametrize(
    ("first", "second", "gamma"),
    [(1.5, 0.5, 1.0), (1.0, 0.5, 1.0), (-1.0, 0.5, 1.0), (1.05, 0.5, 0.95)],
    ids=["grows", "stays", "alternates", "grows despite the discount"],
)
def test_a_mode_that_the_cost_misses_and_that_does_not_decay_is_refused(
    first, second, gamma
):
    with pytest.raises(ValueError, match=r"^Q: expected a cost on every mode"):
        two_modes(first, second, np.diag([0.0, 1.0]), gamma)


def test_a_rotating_mode_that_the_cost_misses_is_refused():
    rotation, zero = [[0.0, -1.0], [1.0, 0.0]], np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"mode of size 1$"):
        LQR(rotation, np.eye(2), zero, np.eye(2), zero, zero, 1.0)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_a_mode_that_the_cost_misses_may_decay(gamma):
    # √.9 · 1.05 = .996: the discount alone makes this mode decay.
    first = 0.99 if gamma == 1.0 else 1.05
    assert two_modes(first, 0.5, np.diag([0.0, 1.0]), gamma).gamma == gamma


def test_a_semidefinite_cost_may_see_a_mode_through_the_dynamics():
    lqr = worlds.recht_double_integrator()  # Q = diag(1, 0), the speed has no cost
    assert np.linalg.matrix_rank(lqr.Q) == 1
    assert exact.is_stable(lqr, exact.optimal_gain(lqr))


@pytest.mark.parametrize("unit", [1e-200, 1e-20, 1e20, 1e200])
def test_the_unit_of_cost_does_not_decide_what_it_sees(unit):
    assert two_modes(1.5, 0.5, unit * np.eye(2)).n == 2
    with pytest.raises(ValueError, match=r"^Q: expected a cost on every mode"):
        two_modes(1.5, 0.5, unit * np.diag([0.0, 1.0]))


def test_enormous_dynamics_are_data():
    A = 1.7e308 * np.array([[1.0, -1.0], [1.0, 1.0]])
    lqr = LQR(A, np.eye(2), np.eye(2), np.eye(2), np.eye(2), np.eye(2), 0.9)
    assert not exact.is_stable(lqr, np.zeros((2, 2)))
