"""Every public argument × every kind of fault, and good input in unusual clothes.

The table has one row for each argument. All worlds here have three states and two
actions, so that a transposed or confused size cannot pass unseen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from systems import plain_world

from lqrlib import LQR, GaussianPolicy, History, LinearPolicy, exact, lyapunov, worlds

WORLD = plain_world()
GAIN = np.array([[0, -1, 0], [0, 0, -1]])  # A + BK = 0
STATES = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 0, 1]])
ACTIONS = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
COV = np.array([[2, 1], [1, 2]])
LOOP = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
PATH, COSTS = np.ones((3, 2, 1, 2), int), np.array([[3, 3], [2, 2], [1, 2]])

WRONG_K = [(), (3,), (3, 2), (2, 2), (6,), (4, 3, 2)]
WRONG_COV = [(2,), (3,), (1, 1), (3, 3), (2, 3), (4, 4)]
WRONG_ROWS = [(), (3,), (2,), (4, 1), (4, 4), (4, 3, 1)]


class Argument(NamedTuple):
    """A public argument: who takes it, a good value, and shapes that are wrong."""

    owner: str
    name: str
    call: Callable[[Any], Any]
    good: Any
    wrong_shapes: list[tuple[int, ...]]
    symmetric: bool = False
    strict: bool = False
    nonfinite: tuple[float, ...] = (np.nan, np.inf, -np.inf)


def stored(name):
    return lambda value: getattr(plain_world(**{name: value}), name)


def problem_arguments():
    square = [(), (3,), (2, 2), (3, 2), (3, 3, 1), (1, 3, 3)]
    for name in ("Q", "W", "X0"):
        yield Argument("LQR", name, stored(name), getattr(WORLD, name), square, True)
    yield Argument("LQR", "A", stored("A"), WORLD.A, [(), (3,), (3, 2), (1, 3, 3)])
    yield Argument("LQR", "B", stored("B"), WORLD.B, [(), (3,), (2, 3), (1, 3, 2)])
    wrong = [(), (2,), (1, 1), (3, 3), (2, 3), (1, 2, 2)]
    yield Argument("LQR", "R", stored("R"), WORLD.R, wrong, True, True)
    yield Argument("LQR.gain", "K", WORLD.gain, GAIN, WRONG_K)
    yield Argument("LQR.closed_loop", "K", WORLD.closed_loop, GAIN, WRONG_K)


def exact_arguments():
    for function in (
        exact.is_stable,
        exact.value_matrix,
        exact.q_matrix,
        exact.gain_error,
        exact.natural_gradient,
        exact.gauss_newton,
        exact.state_moment,
        exact.cost,
        exact.gradient,
        exact.evaluate,
        exact.average_cost,
    ):
        yield Argument(
            function.__name__, "K", lambda K, f=function: f(WORLD, K), GAIN, WRONG_K
        )
    for function in (
        exact.state_moment,
        exact.cost,
        exact.gradient,
        exact.evaluate,
        exact.average_cost,
    ):
        yield Argument(
            function.__name__,
            "cov",
            lambda cov, f=function: f(WORLD, GAIN, cov),
            COV,
            WRONG_COV,
            symmetric=True,
        )


def policy_arguments():
    line, cloud = LinearPolicy(GAIN), GaussianPolicy(GAIN, COV)
    for name, build in {
        "LinearPolicy": lambda K: LinearPolicy(K).K,
        "GaussianPolicy": lambda K: GaussianPolicy(K, 1.0).K,
    }.items():
        yield Argument(name, "K", build, GAIN, [(), (3,)])
    yield Argument(
        "GaussianPolicy",
        "cov",
        lambda cov: GaussianPolicy(GAIN, cov).cov,
        COV,
        WRONG_COV,
        symmetric=True,
        strict=True,
    )
    for owner, call in {
        "LinearPolicy.act": line.act,
        "GaussianPolicy.act": lambda x: cloud.act(x, np.random.default_rng(0)),
        "log_prob": lambda x: cloud.log_prob(x, ACTIONS),
        "score": lambda x: cloud.score(x, ACTIONS),
    }.items():
        yield Argument(owner, "x", call, STATES, WRONG_ROWS)
    for owner, method in {"log_prob": cloud.log_prob, "score": cloud.score}.items():
        wrong = [*WRONG_ROWS, (4, 3), (3, 2)]
        yield Argument(owner, "u", lambda u, f=method: f(STATES, u), ACTIONS, wrong)


def lyapunov_arguments():
    wrong, only_dtype = [(), (3,), (2, 3), (4, 3, 2)], ()
    size = [(1, 1), (2, 2), (4, 4)]
    for owner, name, call, shapes in [
        ("spectral_radius", "F", lyapunov.spectral_radius, wrong),
        ("forward", "F", lambda F: lyapunov.forward(F, WORLD.W), wrong),
        ("adjoint", "F", lambda F: lyapunov.adjoint(F, WORLD.W), wrong),
        ("both", "F", lambda F: lyapunov.both(F, WORLD.W, WORLD.Q), wrong),
        ("forward", "D", lambda D: lyapunov.forward(LOOP, D), wrong + size),
        ("adjoint", "C", lambda C: lyapunov.adjoint(LOOP, C), wrong + size),
        ("both", "D", lambda D: lyapunov.both(LOOP, D, WORLD.Q), wrong + size),
        ("both", "C", lambda C: lyapunov.both(LOOP, WORLD.W, C), wrong + size),
    ]:
        good = LOOP if name == "F" else WORLD.W
        yield Argument(owner, name, call, good, shapes, nonfinite=only_dtype)


def history_arguments():
    yield Argument(
        "judge", "K", lambda K: History.judge(K, COSTS, 1.0).K, PATH, [(), (3,), (3, 2)]
    )
    yield Argument(
        "judge",
        "cost",
        lambda cost: History.judge(PATH, cost, 1.0).status,
        COSTS,
        [(), (3,), (2, 3), (3, 1), (3, 2, 1)],
        nonfinite=(np.nan, -np.inf),
    )


ARGUMENTS = [
    *problem_arguments(),
    *exact_arguments(),
    *policy_arguments(),
    *lyapunov_arguments(),
    *history_arguments(),
]


def with_entry(good, bad):
    spoiled = np.array(good, dtype=float)
    spoiled.flat[-1] = bad
    return spoiled


def faults(argument):
    good = np.array(argument.good, dtype=float)
    yield "complex", good.astype(complex)
    yield "strings", good.astype(str)
    yield "booleans", good.astype(bool)
    yield "objects", good.astype(object)
    yield "ragged", [[1.0], [1.0, 2.0]]
    yield "a dictionary", {"a": 1}
    yield "empty", np.empty((0, *good.shape[1:]))
    yield "empty list", []
    if argument.name != "cov":  # where None means 0, the deterministic policy
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
    # The complaint names the matrix that the number would have become.
    name = argument if argument == "gamma" else argument.upper()
    assert_refused(name, lambda value: worlds.scalar(**{argument: value}), bad)


@pytest.mark.parametrize(("argument", "bad"), [("q", -1), ("r", 0), ("w", -1)])
def test_scalar_world_refuses_a_wrong_sign(argument, bad):
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, "1", 1j, None, True, [1.0], -0.1])
def test_history_refuses_a_bad_tolerance_or_optimum(bad):
    assert_refused("within", lambda v: History.judge(PATH, COSTS, 1.0, within=v), bad)
    if bad != -0.1:  # nothing is wrong with a negative optimum here
        assert_refused("optimum", lambda v: History.judge(PATH, COSTS, v), bad)


@pytest.mark.parametrize("bad", [7, -1, "converged", None])
def test_history_refuses_an_unknown_status(bad):
    assert_refused("status", History.judge(PATH, COSTS, 1.0).share, bad)


TWO_GAINS, THREE_COVS = np.stack([GAIN] * 2), np.stack([COV] * 3)


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


def frozen(good):
    array = np.array(good)
    array.setflags(write=False)
    return array


def every_second(good):
    """The same values on memory with gaps."""
    wide = np.zeros((*np.shape(good), 2))
    wide[..., 0] = good
    return wide[..., 0]


UNUSUAL = {
    "integers": lambda good: np.array(good, dtype=np.int64),
    "small integers": lambda good: np.array(good, dtype=np.int8),
    "single precision": lambda good: np.array(good, dtype=np.float32),
    "extended precision": lambda good: np.array(good, dtype=np.longdouble),
    "other byte order": lambda good: np.array(good, dtype=">f8"),
    "nested lists": lambda good: np.array(good).tolist(),
    "Fortran order": lambda good: np.asfortranarray(np.array(good, dtype=float)),
    "negative strides": lambda good: np.array(good, dtype=float)[::-1].copy()[::-1],
    "gaps in memory": every_second,
    "read-only": frozen,
}


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("clothes", UNUSUAL)
@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda a: f"{a.owner}({a.name})")
def test_good_input_in_unusual_clothes_gives_the_same_and_stays_as_it_was(
    argument, clothes
):
    unusual = UNUSUAL[clothes](argument.good)
    before = np.array(unusual)
    expected = argument.call(np.array(argument.good, dtype=float))
    found = argument.call(unusual)
    np.testing.assert_array_equal(unusual, before)
    for have, want in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-14, atol=1e-14)
        assert have.dtype == want.dtype
