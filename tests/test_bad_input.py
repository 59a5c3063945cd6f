"""Every public argument × every kind of fault: refused, by name and with the reason."""

import numpy as np
import pytest
from arguments import ACTIONS, ARGUMENTS, COSTS, COV, GAIN, PATH, STATES, WORLD, stored
from systems import gaussian_data, plain_world

from lqrlib import LQR, GaussianPolicy, History, LinearPolicy, exact, lyapunov, worlds
from lqrlib.critic import lstdq
from lqrlib.gradients import natural_dpg, per_decision_is
from lqrlib.rollout import rollout, transitions
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    moment,
    second_moment,
    tail_index,
)


def with_entry(good, bad):
    spoiled = np.array(good, dtype=float)
    spoiled.flat[-1] = bad
    return spoiled


NONE_IS_GOOD = (
    "cov",
    "cov_behaviour",
    "x0",
    "noise",
    "terminal",
    "action_limit",
)


def faults(argument):
    good = np.array(argument.good, dtype=float)
    yield "complex", good.astype(complex)
    yield "strings", good.astype(str)
    yield "booleans", good.astype(bool)
    yield "objects", good.astype(object)
    masked = np.arange(good.size).reshape(good.shape) == 0
    yield "masked", np.ma.masked_array(good, mask=masked)
    yield "ragged", [[1.0], [1.0, 2.0]]
    yield "a dictionary", {"a": 1}
    yield "empty", np.empty((0, *good.shape[1:]))
    yield "empty list", []
    # None is a covariance, that of a deterministic policy, and leaves out an option.
    if argument.name not in NONE_IS_GOOD:
        yield "None", None
    for shape in argument.wrong_shapes:
        if (argument.name, shape) != ("cov", ()):
            yield f"shape {shape}", np.ones(shape)
    for bad in argument.nonfinite:
        yield f"entry {bad}", with_entry(good, bad)
    if argument.symmetric:
        size = len(good)
        yield "asymmetric", good + np.eye(size, k=1)
        yield "asymmetric and huge", 1e308 * (np.eye(size, k=1) - np.eye(size, k=-1))
        yield "indefinite", good - 3 * np.eye(size)
        yield "negative", -good
        yield "negative and tiny", -1e-6 * np.eye(size)
    if argument.strict:
        yield "singular", np.zeros_like(good)
        yield "singular but not zero", np.ones_like(good)
    if argument.name == "cov":
        yield "a negative number", -1.0
        yield "a number that is nan", np.nan
        yield "true", True


CASES = [
    pytest.param(argument, bad, id=f"{argument.owner}({argument.name}: {fault})")
    for argument in ARGUMENTS
    for fault, bad in faults(argument)
]


def assert_refused(name, call, bad):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        call(bad)


@pytest.mark.parametrize(("argument", "bad"), CASES)
def test_a_fault_is_refused_by_name_with_what_was_expected_and_found(argument, bad):
    assert_refused(argument.name, argument.call, bad)


NOT_GAMMA = [0, 0.0, -1, 1.5, np.nan, np.inf, [0.9], "0.9", None, True, 0.9j, 1 + 1e-12]


@pytest.mark.parametrize("gamma", NOT_GAMMA, ids=repr)
def test_gamma_outside_zero_to_one_is_refused(gamma):
    assert_refused("gamma", stored("gamma"), gamma)


@pytest.mark.parametrize("gamma", [1, 1.0, np.float32(0.5), np.array(0.5), 1e-300])
def test_gamma_inside_is_stored_as_a_float(gamma):
    lqr = plain_world(gamma=gamma)
    assert type(lqr.gamma) is float
    assert lqr.gamma == gamma


@pytest.mark.parametrize("argument", ["a", "b", "q", "r", "w", "x0", "gamma"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, "1", 1j, None, True, [1.0, 2.0]])
def test_scalar_world_refuses_what_is_not_a_number(argument, bad):
    assert_refused(argument, lambda value: worlds.scalar(**{argument: value}), bad)


@pytest.mark.parametrize(("argument", "bad"), [("q", -1), ("r", 0), ("w", -1)])
def test_scalar_world_refuses_a_wrong_sign(argument, bad):
    # The complaint names the matrix that the number becomes.
    assert_refused(
        argument.upper(), lambda value: worlds.scalar(**{argument: value}), bad
    )


@pytest.mark.parametrize("size", [0, -1, 1.5, 2.0, "2", None, True, np.nan, [2]])
@pytest.mark.parametrize("name", ["n", "m"])
def test_random_world_refuses_what_is_no_size(name, size):
    def build(value):
        return worlds.random(**({"n": 2, "m": 2, "rng": rng} | {name: value}))

    rng = np.random.default_rng(0)
    assert_refused(name, build, size)


NOT_RNG = [None, 0, np.random, np.random.RandomState(0)]


@pytest.mark.parametrize("rng", NOT_RNG, ids=lambda rng: type(rng).__name__)
def test_a_seed_or_global_state_is_no_generator(rng):
    assert_refused("rng", lambda value: worlds.random(2, 2, value), rng)
    assert_refused("rng", lambda v: GaussianPolicy(GAIN, COV).act(STATES, v), rng)
    assert_refused("rng", lambda v: rollout(WORLD, LinearPolicy(GAIN), 2, 2, v), rng)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "1", 1j, None, True, [1.0], -0.1])
def test_history_refuses_a_bad_tolerance_or_optimum(bad):
    assert_refused("within", lambda v: History.judge(PATH, COSTS, 1.0, within=v), bad)
    if bad != -0.1:  # nothing is wrong with a negative optimum here
        assert_refused("optimum", lambda v: History.judge(PATH, COSTS, v), bad)


@pytest.mark.parametrize("bad", [7, -1, "converged", None])
def test_history_refuses_an_unknown_status(bad):
    assert_refused("status", History.judge(PATH, COSTS, 1.0).share, bad)


TWO_GAINS, THREE_COVS = np.stack([GAIN] * 2), np.stack([COV] * 3)
THREE_GAINS = np.stack([GAIN] * 3)
TWO_SETS = gaussian_data(WORLD, TWO_GAINS, COV, 30, 4)


def rolled(**given):
    policy, rng = GaussianPolicy(TWO_GAINS, COV), np.random.default_rng(0)
    return rollout(WORLD, policy, 4, 2, rng, **given)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("cov", lambda: exact.cost(WORLD, TWO_GAINS, THREE_COVS)),
        ("cov", lambda: exact.evaluate(WORLD, TWO_GAINS, THREE_COVS)),
        ("cov", lambda: exact.state_moment(WORLD, TWO_GAINS, THREE_COVS)),
        ("cov", lambda: exact.average_cost(WORLD, TWO_GAINS, THREE_COVS)),
        ("cov", lambda: GaussianPolicy(TWO_GAINS, THREE_COVS)),
        ("x", lambda: LinearPolicy(TWO_GAINS).act(np.ones((3, 4, 3)))),
        (
            "x",
            lambda: GaussianPolicy(GAIN, THREE_COVS).log_prob(
                np.ones((2, 4, 3)), ACTIONS
            ),
        ),
        ("u", lambda: GaussianPolicy(GAIN, THREE_COVS).score(STATES, [[[1, 2]]] * 2)),
        ("x0", lambda: rolled(x0=np.ones((3, 4, 3)))),
        ("noise", lambda: rolled(noise=np.ones((3, 4, 2, 5)))),
        ("noise", lambda: rolled(x0=[STATES], noise=np.ones((3, 1, 4, 4, 2, 5)))),
        ("K", lambda: lstdq(WORLD, transitions(TWO_SETS), THREE_GAINS)),
        ("K", lambda: natural_dpg(WORLD, TWO_SETS, THREE_GAINS)),
        ("cov", lambda: per_decision_is(WORLD, TWO_SETS, TWO_GAINS, cov=THREE_COVS)),
        ("K_behaviour", lambda: second_moment(WORLD, TWO_GAINS, THREE_GAINS, COV, 2)),
        ("cov", lambda: second_moment(WORLD, TWO_GAINS, GAIN, THREE_COVS, 2)),
        (
            "cov_behaviour",
            lambda: tail_index(
                WORLD, TWO_GAINS, GAIN, COV, 2, cov_behaviour=THREE_COVS
            ),
        ),
        ("order", lambda: moment(WORLD, TWO_GAINS, GAIN, COV, 2, [1.0, 2.0, 3.0])),
        ("order", lambda: moment(WORLD, GAIN, GAIN, THREE_COVS, 2, [1.0, 2.0])),
        ("direction", lambda: breakdown(WORLD, TWO_GAINS, THREE_GAINS, COV, 2)),
        ("cov", lambda: breakdown(WORLD, TWO_GAINS, GAIN, THREE_COVS, 2)),
        ("order", lambda: breakdown(WORLD, TWO_GAINS, GAIN, COV, 2, order=[2, 3, 4])),
        ("K_behaviour", lambda: critical_covariance(WORLD, TWO_GAINS, THREE_GAINS, 2)),
        ("D", lambda: lyapunov.forward(np.zeros((2, 1, 1)), np.ones((3, 1, 1)))),
        ("C", lambda: lyapunov.both([[0.0]], np.ones((2, 1, 1)), np.ones((3, 1, 1)))),
    ],
)
def test_leading_axes_that_do_not_fit_are_refused_by_name(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected leading axes .* found"):
        call()


@pytest.mark.parametrize("call", [LQR, exact.cost], ids=lambda call: call.__name__)
def test_a_missing_argument_is_pythons_own_error(call):
    with pytest.raises(TypeError, match="missing"):
        call()
