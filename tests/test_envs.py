"""The Gymnasium face: the checkers pass, and the world behind it is the library's."""

import copy
import doctest
import pickle
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from conftest import ROOT
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from systems import MOST, NAMED, close, plain_world

from lqrlib import LinearPolicy, envs, exact, worlds
from lqrlib.envs import LQREnv, LQRVectorEnv
from lqrlib.rollout import rollout

IDS = [name for name in gymnasium.registry if name.startswith("lqrlib/")]
every_id = pytest.mark.parametrize("name", IDS)
MAIN = "lqrlib/DoubleIntegrator-v0"
WORLD = plain_world()  # three states, two actions
# The checkers would have bounded states, and actions in [-1, 1]. Neither is meant here.
known_warnings = [
    pytest.mark.filterwarnings(rf"ignore:.*{message}:UserWarning")
    for message in (
        "A Box observation space m(in|ax)imum value is -?infinity",
        "A Box action space m(in|ax)imum value is -?infinity",
        "we recommend using a symmetric and normalized space",
        "We recommend you to use a symmetric and normalized Box action space",
        "Your action space has dtype float64, we recommend using np.float32",
    )
]


def checked(test):
    for mark in known_warnings:
        test = mark(test)
    return test


class Tape:
    """A generator that hands out normals which were drawn before."""

    def __init__(self, normals):
        self.normals = list(normals)

    def standard_normal(self, shape):
        return np.reshape(self.normals.pop(0), shape)


def played(env, act, steps, **options):
    """States [T+1, …], rewards and infos of one path."""
    x, _ = env.reset(**options)
    states, rewards, infos = [x], [], []
    for _ in range(steps):
        x, reward, _, _, info = env.step(act(x))
        states.append(x)
        rewards.append(reward)
        infos.append(info)
    return np.array(states), np.array(rewards), infos


# The interface.


@checked
@every_id
def test_gymnasium_s_checker_passes(name):
    check_env(gymnasium.make(name).unwrapped)


@checked
@pytest.mark.parametrize("lqr", [WORLD, "scalar"])
def test_gymnasium_s_checker_passes_without_bounds(lqr):
    check_env(gymnasium.make(MAIN, lqr=lqr, action_limit=None).unwrapped)


@checked
@every_id
def test_stable_baselines_checker_passes(name):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gymnasium.make(name))


@every_id
def test_spaces_are_the_world_s_in_double_precision(name):
    env = gymnasium.make(name)
    lqr = env.unwrapped.lqr
    assert env.observation_space == gymnasium.spaces.Box(
        -np.inf, np.inf, (lqr.n,), np.float64
    )
    assert env.action_space.shape == (lqr.m,)
    assert env.action_space.dtype == np.float64
    np.testing.assert_array_equal(env.action_space.low, -env.action_space.high)
    x, _ = env.reset(seed=0)
    assert x.dtype == env.step(env.action_space.sample())[0].dtype == np.float64


def test_all_named_worlds_are_registered_once():
    registered = [gymnasium.spec(name).kwargs["lqr"] for name in IDS]
    assert sorted(registered) == sorted(NAMED)
    for name, world in zip(IDS, registered, strict=True):
        np.testing.assert_array_equal(
            gymnasium.make(name).unwrapped.lqr.A, NAMED[world]().A
        )


def test_a_module_prefix_registers_in_a_new_process():
    code = (
        "import sys, lqrlib; assert 'gymnasium' not in sys.modules\n"
        "import gymnasium\n"
        f"print(gymnasium.make('lqrlib.envs:{MAIN}').unwrapped.lqr.gamma)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "0.95\n"


def test_arguments_pass_through_make():
    env = gymnasium.make(
        MAIN, lqr=WORLD, action_limit=[1, 2], state_limit=9, max_episode_steps=7
    )
    assert env.unwrapped.lqr is not None
    np.testing.assert_array_equal(env.action_space.high, [1.0, 2.0])
    assert env.spec.max_episode_steps == 7
    many = gymnasium.make_vec(
        MAIN, 3, lqr=WORLD, action_limit=[1, 2], max_episode_steps=7
    )
    assert isinstance(many, LQRVectorEnv)
    assert many.action_space.shape == (3, 2)
    assert many.max_episode_steps == 7
    assert gymnasium.make_vec(MAIN, 3).max_episode_steps == 60


def test_a_registered_world_is_described_by_plain_json():
    spec = gymnasium.make(MAIN, max_episode_steps=5).spec
    again = gymnasium.make(
        gymnasium.envs.registration.EnvSpec.from_json(spec.to_json())
    )
    assert again.spec.max_episode_steps == 5


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(envs).failed == 0


def test_the_examples_of_the_reference_run():
    page = (ROOT / "book/reference/tools.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks[0].replace("\n\n", "\n").strip().splitlines()) == 4
    found = {}
    for block in blocks:
        exec(block, found)
    assert found["env"].spec.id == MAIN
    assert found["x"].shape == (100, 3)
    assert found["envs"].max_episode_steps == 30


# What a step does.


def test_a_step_by_hand():
    env = LQREnv(WORLD, action_limit=[0.5, 4.0])
    x, info = env.reset(options={"x0": [1.0, 2.0, 3.0]})
    assert (x.tolist(), info) == ([1.0, 2.0, 3.0], {})
    ζ = np.array([0.1, -0.2, 0.3])
    env.np_random = Tape([ζ])
    done = np.array([-0.5, 2.0])
    after, reward, terminated, truncated, info = env.step([-3.0, 2.0])
    values, vectors = np.linalg.eigh(WORLD.W)
    noise = vectors * np.sqrt(values) @ ζ
    close(after, WORLD.A @ x + WORLD.B @ done + noise, rtol=1e-13)
    assert reward == pytest.approx(-(x @ WORLD.Q @ x + done @ WORLD.R @ done))
    assert (terminated, truncated) == (False, False)
    assert info == {"cost": -reward, "clipped": 0.5, "diverged": False}


def test_the_clipped_share_is_of_the_episode_so_far():
    env = LQREnv(WORLD, action_limit=1.0)
    actions = [[2, 0], [0, 0], [-5, 5], [1, -1]]  # 1, 0, 2 and 0 clipped
    env.reset(seed=0)
    shares = [env.step(u)[-1]["clipped"] for u in actions]
    assert shares == [1 / 2, 1 / 4, 3 / 6, 3 / 8]
    env.reset()
    assert env.step([0, 0])[-1]["clipped"] == 0.0


def test_without_a_limit_nothing_is_clipped():
    env = LQREnv(WORLD)
    env.reset(seed=0)
    assert env.step([1e9, -1e9])[-1]["clipped"] == 0.0


def test_what_comes_back_is_the_caller_s():
    env = LQREnv(WORLD)
    x, _ = env.reset(seed=0)
    x[:] = np.nan
    y = env.step([0.0, 0.0])[0]
    assert np.isfinite(y).all()
    y[:] = np.nan
    assert np.isfinite(env.step([0.0, 0.0])[0]).all()


@pytest.mark.parametrize("make", [LQREnv, lambda lqr: LQRVectorEnv(3, lqr)])
def test_seeds_repeat_and_differ(make):
    def path(seed):
        env = make(WORLD)
        return played(env, lambda x: np.zeros((*x.shape[:-1], 2)), 5, seed=seed)[0]

    np.testing.assert_array_equal(path(3), path(3))
    assert (path(3) != path(4)).all()


def test_without_a_seed_the_generator_goes_on():
    env = LQREnv(WORLD)
    first, second = env.reset(seed=1)[0], env.reset()[0]
    again = env.reset(seed=1)[0]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, env.reset()[0])
    assert (first != second).all()


# Divergence.


def test_divergence_truncates_and_never_terminates():
    env = LQREnv(worlds.scalar(a=2.0, w=0.0), state_limit=100.0)
    env.reset(options={"x0": [1.0]})
    paths = [env.step([0.0]) for _ in range(7)]  # 2, 4, 8, …, 64, 128
    assert [p[3] for p in paths] == [p[-1]["diverged"] for p in paths]
    assert [p[3] for p in paths] == 6 * [False] + [True]
    assert not any(p[2] for p in paths)
    assert paths[-1][0].tolist() == [100.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e200, -1.7e308])
def test_observations_stay_finite_whatever_the_action(size):
    env, many = LQREnv(WORLD), LQRVectorEnv(2, WORLD)
    env.reset(seed=0)
    many.reset(seed=0)
    x, reward, terminated, truncated, info = env.step([size, -size])
    assert np.isfinite(x).all()
    assert (terminated, truncated, reward, info["cost"]) == (
        False,
        True,
        -np.inf,
        np.inf,
    )
    x, _, terminated, truncated, info = many.step([[size, size], [0.0, 0.0]])
    assert np.isfinite(x).all()
    assert (truncated == [True, False]).all()
    assert (info["diverged"] == [True, False]).all()
    assert not terminated.any()


def test_a_time_limit_truncates_without_divergence():
    env = gymnasium.make(MAIN, max_episode_steps=3)
    env.reset(seed=0)
    steps = [env.step(np.zeros(1)) for _ in range(3)]
    assert [s[3] for s in steps] == [False, False, True]
    assert not any(s[2] or s[-1]["diverged"] for s in steps)


# Many copies.


def test_copies_are_single_worlds_given_the_same_draws():
    N, T, rng = 4, 12, np.random.default_rng(0)
    normals = rng.standard_normal((T + 1, N, WORLD.n))
    actions = 2.0 * rng.standard_normal((T, N, WORLD.m))
    limits = {"action_limit": [1.0, 2.0], "state_limit": 1e3}
    many = LQRVectorEnv(N, WORLD, **limits)
    many.np_random = Tape(normals)
    starts = many.reset()[0]
    steps = [many.step(u) for u in actions]
    for i in range(N):
        one = LQREnv(WORLD, **limits)
        one.np_random = Tape(normals[:, i])
        close(one.reset()[0], starts[i], rtol=1e-13)
        for u, (x, reward, terminated, truncated, info) in zip(
            actions[:, i], steps, strict=True
        ):
            alone = one.step(u)
            close(alone[0], x[i], rtol=1e-11)
            close(alone[1], reward[i], rtol=1e-11)
            assert alone[2:4] == (terminated[i], truncated[i])
            for name, value in alone[-1].items():
                close(value, info[name][i], rtol=1e-11)
                assert info[f"_{name}"].all()


def test_one_copy_is_the_single_world_of_that_seed():
    K = exact.optimal_gain(WORLD)
    alone = played(LQREnv(WORLD), lambda x: K @ x, 20, seed=5)
    of_one = played(LQRVectorEnv(1, WORLD), lambda x: x @ K.T, 20, seed=5)
    close(alone[0], of_one[0][:, 0], rtol=1e-11)
    close(alone[1], of_one[1][:, 0], rtol=1e-11)


def test_an_ended_copy_is_reset_by_the_next_step_as_gymnasium_s_are():
    # Without noise all is decided by the starts, and these are the same here.
    lqr = worlds.scalar(a=2.0, w=0.0, x0=0.0)
    common = {"action_limit": 1.0, "state_limit": 30.0}
    ours = LQRVectorEnv(2, lqr, max_episode_steps=3, **common)
    theirs = SyncVectorEnv(
        2 * [lambda: gymnasium.make(MAIN, lqr=lqr, max_episode_steps=3, **common)]
    )
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    for env in (ours, theirs):
        env.reset(options={"x0": np.array([7.0])})
    for t in range(9):
        u = np.array([[0.5 * t], [-2.0]])
        here, there = ours.step(u), theirs.step(u)
        for mine, other in zip(here[:4], there[:4], strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-13)
        for name in here[-1]:
            none = np.zeros(2)  # where all were reset, SyncVectorEnv has no entry
            np.testing.assert_allclose(here[-1][name], there[-1].get(name, none))


def test_copies_end_and_begin_each_in_its_own_time():
    env = LQRVectorEnv(2, worlds.scalar(a=2.0, w=0.0, x0=0.0), state_limit=10.0)
    env.reset(options={"x0": [[6.0], [1.0]]})
    x, _, _, truncated, _ = env.step(np.zeros((2, 1)))
    assert truncated.tolist() == [True, False]
    x, reward, _, truncated, info = env.step(np.full((2, 1), 1.0))
    assert x[:, 0].tolist() == [0.0, 5.0]
    assert reward[0] == info["cost"][0] == 0.0
    assert info["_cost"].tolist() == [False, True]
    assert truncated.tolist() == [False, False]


def test_rows_of_starts_or_one_for_all():
    env = LQRVectorEnv(2, WORLD)
    rows = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(env.reset(options={"x0": rows})[0], rows)
    np.testing.assert_array_equal(env.reset(options={"x0": rows[1]})[0], rows[[1, 1]])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_s_own_vector_environments_take_it(mode):
    make = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}[mode]
    env = gymnasium.make_vec(MAIN, 2, vectorization_mode=mode)
    try:
        assert isinstance(env, make)
        x, _ = env.reset(seed=3)
        y, _, _, _, info = env.step(np.zeros((2, 1)))
        one = gymnasium.make(MAIN)
        np.testing.assert_array_equal(one.reset(seed=4)[0], x[1])
        np.testing.assert_array_equal(one.step(np.zeros(1))[0], y[1])
        assert info["_diverged"].all()
    finally:
        env.close()


# The world behind it.


@every_id
def test_the_optimal_gain_is_hardly_ever_clipped(name):
    """Bounds are 4 to 4.5 of the largest standard deviation of K*'s actions."""
    env = gymnasium.make(name).unwrapped
    lqr, limit = env.lqr, env.action_space.high[0]
    K = exact.optimal_gain(lqr)
    moment, largest = lqr.X0, 0.0
    for _ in range(300):
        largest = max(largest, np.sqrt(np.diag(K @ moment @ K.T)).max())
        F = lqr.closed_loop(K)
        moment = F @ moment @ F.T + lqr.W
    assert 4.0 < limit / largest < 4.5

    many = gymnasium.make_vec(name, 2000)
    x, _ = many.reset(seed=0)
    for _ in range(many.max_episode_steps):
        x, _, _, _, info = many.step(x @ K.T)
    assert info["clipped"].mean() < 1e-4
    assert not info["diverged"].any()


@pytest.mark.parametrize("K", [None, [[-1.0, -1.0]]], ids=["K*", "K0"])
def test_the_discounted_return_is_minus_the_exact_cost(K):
    lqr = worlds.double_integrator()
    K = exact.optimal_gain(lqr) if K is None else np.array(K)
    N, T = 4000, 250  # γ^T = 3e-6 of the cost is left out
    env = gymnasium.make_vec(MAIN, N, max_episode_steps=T)
    _, rewards, _ = played(env, lambda x: x @ K.T, T, seed=1)
    returns = lqr.gamma ** np.arange(T) @ rewards
    z = (returns.mean() + exact.cost(lqr, K)) / (returns.std() / np.sqrt(N))
    assert abs(z) < MOST


def test_paths_have_the_law_of_rollout():
    K, N, T = exact.optimal_gain(WORLD), 20_000, 10
    there = rollout(WORLD, LinearPolicy(K), N, T, np.random.default_rng(2)).x
    x, _, _ = played(LQRVectorEnv(N, WORLD), lambda x: x @ K.T, T, seed=3)
    here = x.transpose(1, 0, 2)
    for t in (0, 1, T):
        products = [np.einsum("ki,kj->kij", p[:, t], p[:, t]) for p in (here, there)]
        gap = products[0].mean(axis=0) - products[1].mean(axis=0)
        error = np.sqrt(sum(p.var(axis=0) for p in products) / N)
        assert np.abs(gap / error).max() < MOST


def test_step_by_step_it_is_rollout_on_the_same_noise():
    K, N, T = exact.optimal_gain(WORLD), 5, 8
    rng = np.random.default_rng(4)
    x0, ζ = rng.standard_normal((N, WORLD.n)), rng.standard_normal((T, N, WORLD.n))
    noise = np.concatenate([np.zeros((N, T, WORLD.m)), ζ.transpose(1, 0, 2)], axis=2)
    there = rollout(WORLD, LinearPolicy(K), N, T, rng, x0=x0, noise=noise)
    env = LQRVectorEnv(N, WORLD)
    env.np_random = Tape(ζ)
    x, rewards, _ = played(env, lambda x: x @ K.T, T, options={"x0": x0})
    close(x.transpose(1, 0, 2), there.x, rtol=1e-11, atol=1e-13)
    close(-rewards.T, there.cost, rtol=1e-11)


# Copies, and what is refused.


@pytest.mark.parametrize(
    "env", [LQREnv(WORLD, action_limit=2.0), LQRVectorEnv(3, WORLD)], ids=["1", "N"]
)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_copy_goes_on_from_where_it_was_copied(env, duplicate):
    u = np.ones(env.action_space.shape)
    env.reset(seed=1)
    env.step(u)
    other = duplicate(env)
    np.testing.assert_array_equal(env.step(u)[0], other.step(u)[0])


NOT_POSITIVE = [0.0, -1.0, np.nan, np.inf, "1", True, 1j, [[1.0]]]
WRONG = {
    "lqr": [None, "pendulum", 3, np.eye(2)],
    "action_limit": [*NOT_POSITIVE, [1.0], [1.0, -1.0], [], [1.0, 1.0, 1.0]],
    "state_limit": [*NOT_POSITIVE, None, [1.0]],
}
SIZES = [0, -1, 1.5, "2", True, np.nan]


def refused(name):
    return pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+")


@pytest.mark.parametrize(("name", "bad"), [(n, b) for n in WRONG for b in WRONG[n]])
def test_a_bad_argument_is_refused_by_name(name, bad):
    arguments = {"lqr": WORLD} | {name: bad}
    with refused(name):
        LQREnv(**arguments)
    with refused(name):
        LQRVectorEnv(2, **arguments)


@pytest.mark.parametrize("bad", SIZES)
def test_a_bad_number_is_refused_by_name(bad):
    with refused("num_envs"):
        LQRVectorEnv(bad, WORLD)
    with refused("max_episode_steps"):
        LQRVectorEnv(2, WORLD, max_episode_steps=bad)


@pytest.mark.parametrize("bad", [None, 1.0, [1.0], np.ones((1, 2)), "up", [1, np.nan]])
def test_a_bad_action_is_refused_by_name(bad):
    env, many = LQREnv(WORLD), LQRVectorEnv(2, WORLD)
    env.reset(seed=0)
    many.reset(seed=0)
    with refused("action"):
        env.step(bad)
    with refused("actions"):
        many.step(bad)


@pytest.mark.parametrize(
    "bad", [1.0, [1.0, 2.0], [1.0, 2.0, np.nan], [0, 0, -11.0], "here", np.ones((4, 3))]
)
@pytest.mark.parametrize("make", [LQREnv, lambda *a, **k: LQRVectorEnv(2, *a, **k)])
def test_a_bad_start_is_refused_by_name(make, bad):
    env = make(WORLD, state_limit=10.0)
    with refused("x0"):
        env.reset(options={"x0": bad})


def test_options_seeds_and_steps_that_cannot_be():
    for env, u in (
        (LQREnv(WORLD), np.zeros(2)),
        (LQRVectorEnv(1, WORLD), np.zeros((1, 2))),
    ):
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            env.step(u)
        with refused("options"):
            env.reset(options={"start": [0, 0, 0]})
        with refused("seed"):
            env.reset(seed=-1)
        env.reset(options={})
