"""How a path of gains is judged, and in which words."""

import dataclasses

import numpy as np
import pytest

from lqrlib import History, Status


def judge(*costs, within=0.01):
    """One path with these costs, judged against the optimum 1."""
    return History.judge(np.zeros((len(costs), 1, 2)), costs, 1.0, within=within)


@pytest.mark.parametrize(
    ("costs", "status"),
    [
        ((2.0, 1.5, 1.01), Status.CONVERGED),
        ((1.01,), Status.CONVERGED),
        ((1.005, 1.006), Status.CONVERGED),
        ((2.0, 1.5, 1.02), Status.DESCENDING),
        ((2.0, 1.5, 1.5), Status.STALLED),
        ((2.0, 1.5, 1.6), Status.STALLED),
        ((2.0,), Status.STALLED),
        ((2.0, 1.2, 1.3, 1.25), Status.STALLED),
        ((2.0, np.inf), Status.DIVERGED),
        ((2.0, np.inf, 1.0), Status.DIVERGED),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else str(value),
)
def test_the_end_of_a_path_decides_its_status(costs, status):
    assert judge(*costs).status == status


def test_within_is_relative_to_the_optimum():
    path = np.zeros((1, 1, 2))
    assert History.judge(path, [109.0], 100.0, within=0.1).status == Status.CONVERGED
    assert History.judge(path, [111.0], 100.0, within=0.1).status == Status.STALLED


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ((1.0,), "ended within 0.2 (relative) of the optimal cost"),
        ((3.0, 2.0), "not there yet"),
        ((2.0, 2.0), "stopped short"),
        ((np.inf,), "left the stable set"),
    ],
    ids=["converged", "descending", "stalled", "diverged"],
)
def test_the_reason_is_a_sentence(costs, words):
    assert str(judge(*costs, within=0.2).reason).startswith(words)


def test_every_status_has_a_sentence_of_its_own():
    paths = History.judge(np.zeros((1, len(Status), 1, 2)), np.ones((1, 5)), 1.0)
    history = dataclasses.replace(paths, status=np.array(list(Status)))
    assert len(set(history.reason)) == len(Status)
    refusal = "refused: the data do not determine the critic"
    assert history.reason[Status.REFUSED] == refusal
    assert history.share(Status.REFUSED) == pytest.approx(1 / len(Status))


def test_many_paths_are_judged_at_once():
    cost = np.array([[[2.0, 2.0, 2.0]] * 2, [[1.0, 1.9, np.inf]] * 2])
    history = History.judge(np.zeros((2, 2, 3, 1, 1)), cost, 1.0)
    row = [Status.CONVERGED, Status.DESCENDING, Status.DIVERGED]
    np.testing.assert_array_equal(history.status, [row, row])
    assert history.reason.shape == (2, 3)
    assert history.share(Status.DIVERGED) == pytest.approx(1 / 3)
    assert history.share(Status.STALLED) == 0.0


def test_the_record_cannot_change():
    K, cost = np.zeros((2, 1, 2)), np.array([2.0, 1.0])
    history = History.judge(K, cost, 1.0)
    K[:], cost[:] = 7.0, 7.0
    np.testing.assert_array_equal(history.K, np.zeros((2, 1, 2)))
    np.testing.assert_array_equal(history.cost, [2.0, 1.0])
    for array in (history.K, history.cost, history.status):
        assert not array.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        history.within = 0.5


# Gains of stages.


def test_a_path_of_stage_gains_has_one_axis_more_for_the_same_costs():
    cost = np.array([[3.0, 2.0], [2.0, 1.0]])
    path = np.zeros((2, 2, 5, 1, 3))  # two updates of two paths of five stages
    history = History.judge(path, cost, 1.0, stages=True)
    assert history.K.shape == (2, 2, 5, 1, 3)
    expected = [Status.DESCENDING, Status.CONVERGED]
    np.testing.assert_array_equal(history.status, expected)
    with pytest.raises(ValueError, match=r"^cost: expected shape \(2, 2, 5\), found"):
        History.judge(path, cost, 1.0)


def test_stage_gains_without_an_axis_for_updates_are_refused():
    with pytest.raises(ValueError, match=r"^K: expected shape .*T, m, n\), found"):
        History.judge(np.zeros((5, 1, 3)), np.ones(()), 1.0, stages=True)
