"""Any `LQR` as a Gymnasium environment, for agents written for that interface.

The observation is the state x, the action is u, and the reward of a step is minus its
cost, r = −(x'Qx + u'Ru), so that the return of an agent with the world's discount is
−J. `LQREnv` is one copy of a world, `LQRVectorEnv` is any number of them, all moved by
one matrix product. Importing this module registers the named worlds, each with bounds
for its actions and a time limit:

- ``lqrlib/DoubleIntegrator-v0``, ``lqrlib/ThreeRooms-v0``, ``lqrlib/Laplacian-v0``, the
  three worlds of the book;
- ``lqrlib/Scalar-v0``, ``lqrlib/RechtDoubleIntegrator-v0``, ``lqrlib/Hambly-v0``.

The bounds are symmetric, because agents want them finite, and wide enough not to be
noticed by who plays well: at every step, and from the world's own starts, they are more
than four standard deviations of each action of u = K* x away, so that K* is clipped
less often than once in ten thousand. Episodes are as long as the book's trajectories:
60 steps, and 150 in the Laplacian world.

The interface is that of Towers et al. (2024), "Gymnasium: a standard interface for
reinforcement learning environments"; the package is needed here, and nowhere else.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from lqrlib import _steps, _validate, worlds
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR
from lqrlib.rollout import stage_matrix

Counts = NDArray[np.int64]
Info = dict[str, Any]

# Far beyond what a stable gain visits, and its square is still nothing to a float32.
STATE_LIMIT = 1e6

_WORLDS = {
    "double_integrator": worlds.double_integrator,
    "scalar": worlds.scalar,
    "laplacian": worlds.laplacian,
    "three_rooms": worlds.three_rooms,
    "recht_double_integrator": worlds.recht_double_integrator,
    "hambly": worlds.hambly,
}
# What is registered: a world, the bound of each of its actions, steps of an episode.
_REGISTERED = {
    "DoubleIntegrator": ("double_integrator", 15.0, 60),
    "Scalar": ("scalar", 3.0, 60),
    "Laplacian": ("laplacian", 0.7, 150),
    "ThreeRooms": ("three_rooms", 5.5, 60),
    "RechtDoubleIntegrator": ("recht_double_integrator", 2.0, 60),
    "Hambly": ("hambly", 17.0, 60),
}


class LQREnv(gymnasium.Env[Array, Array]):
    """One copy of a world: observation x, action u, reward −(x'Qx + u'Ru).

    An episode starts at x₀ ~ N(0, X0). A step carries out the action, clipped to its
    bounds, and moves the state, x₊ = A x + B u + w with w ~ N(0, W); the reward is that
    of the action which was carried out. Observations and actions are float64.

    No state of a regulator is terminal, and so no episode terminates: in a world of
    costs an agent would learn to end it. An entry of the state beyond ``state_limit``
    truncates the episode; it is held at the limit, so that no observation is infinite,
    and ``info`` says so. The time limit is not an argument either. The world goes on
    after it, and Gymnasium's `TimeLimit` truncates, too: `gymnasium.make` adds it with
    the registered number of steps or with its own ``max_episode_steps``.

    Each step's ``info`` holds ``"cost"``, x'Qx + u'Ru; ``"clipped"``, the share of all
    actions' components in this episode that were clipped; and ``"diverged"``.

    Parameters
    ----------
    lqr : LQR or str
        The world, or the name of one of the registered worlds in `lqrlib.worlds`.
    action_limit : float or array, shape [m], optional
        Actions are clipped to ±``action_limit``; unbounded if not given.
    state_limit : float
        The largest size of a state's entry.

    Raises
    ------
    ValueError
        If ``lqr`` is no world and no name of one, or a limit is not positive and finite
        or of another shape.

    Notes
    -----
    The discount belongs to the agent in this interface: give it
    ``env.unwrapped.lqr.gamma``. Costs too large for a float are inf, as in
    `lqrlib.rollout`; no bounded action comes near.

    Examples
    --------
    >>> import gymnasium
    >>> env = gymnasium.make("lqrlib.envs:lqrlib/DoubleIntegrator-v0")
    >>> x, info = env.reset(seed=0)
    >>> x, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> bool(info["cost"] == -reward), terminated, truncated
    (True, False, False)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012, Gymnasium's own

    def __init__(
        self,
        lqr: LQR | str,
        *,
        action_limit: ArrayLike | None = None,
        state_limit: float = STATE_LIMIT,
    ) -> None:
        self._motion = _Motion(lqr, action_limit, state_limit)
        self.lqr = self._motion.lqr
        self.observation_space, self.action_space = self._motion.spaces()
        self._x: Array | None = None  # [1, n], a batch of one

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, Info]:
        """Begin an episode.

        Parameters
        ----------
        seed : int, optional
            Of all that is drawn from now on; the generator goes on if not given.
        options : mapping, optional
            ``{"x0": …}``, shape [n]: where to start, instead of a draw.

        Returns
        -------
        x : array, shape [n]
        info : dict
            Empty.

        Raises
        ------
        ValueError
            If the seed is no whole number of at least 0, an option is unknown, or x0 is
            not finite, of shape [n] and within ``state_limit``.
        """
        super().reset(seed=None if seed is None else _validate.seed("seed", seed))
        self._x = self._motion.starts(1, self.np_random, options)
        self._steps, self._clipped = 0, 0
        return self._x[0].copy(), {}

    def step(self, action: ArrayLike) -> tuple[Array, float, bool, bool, Info]:
        """Carry out an action.

        Parameters
        ----------
        action : array, shape [m]

        Returns
        -------
        x : array, shape [n]
            The next state.
        reward : float
            −(x'Qx + u'Ru), of the state before and of the clipped action.
        terminated : bool
            False.
        truncated : bool
            Whether the state has diverged.
        info : dict
            ``"cost"``, ``"clipped"`` and ``"diverged"``.

        Raises
        ------
        ValueError
            If the action is not real and finite with shape [m].
        gymnasium.error.ResetNeeded
            If no episode has begun.
        """
        if self._x is None:
            raise _reset_needed()
        u = _actions("action", action, (self.lqr.m,))
        moved = self._motion.move(self._x, u[None], self.np_random)
        self._x = moved.x
        self._steps += 1
        self._clipped += int(moved.clipped[0])
        cost, diverged = float(moved.cost[0]), bool(moved.diverged[0])
        info: Info = {
            "cost": cost,
            "clipped": self._clipped / (self._steps * self.lqr.m),
            "diverged": diverged,
        }
        return moved.x[0].copy(), -cost, False, diverged, info


class LQRVectorEnv(VectorEnv[Array, Array, Any]):
    """Many copies of a world, moved together by one matrix product.

    Each copy is as `LQREnv`, and ``info`` holds the same entries as arrays, beside a
    mask with an underscore for each that says which copies have it. A copy whose
    episode has ended is reset by the next step, whatever its action; that step has
    reward 0, and its observation is the new start. This is Gymnasium's next-step
    autoreset, as ``metadata["autoreset_mode"]`` says.

    There is one generator for all copies, as in Gymnasium's own vector environments;
    `gymnasium.vector.SyncVectorEnv` has one for each. With one copy and the same seed
    the paths are those of `LQREnv`.

    Parameters
    ----------
    num_envs : int
        N copies.
    lqr : LQR or str
        As in `LQREnv`.
    action_limit : float or array, shape [m], optional
    state_limit : float
    max_episode_steps : int, optional
        Steps after which an episode is truncated. Wrappers of single environments do
        not fit here, so that this limit is an argument; `gymnasium.make_vec` passes
        the registered one.

    Raises
    ------
    ValueError
        As `LQREnv`; and if ``num_envs`` or ``max_episode_steps`` is not a whole number
        of at least 1.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012, as in Gymnasium's class
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        lqr: LQR | str,
        *,
        action_limit: ArrayLike | None = None,
        state_limit: float = STATE_LIMIT,
        max_episode_steps: int | None = None,
    ) -> None:
        self.num_envs = _validate.count("num_envs", num_envs)
        self.max_episode_steps = None
        if max_episode_steps is not None:
            steps = _validate.count("max_episode_steps", max_episode_steps)
            self.max_episode_steps = steps
        self._motion = _Motion(lqr, action_limit, state_limit)
        self.lqr = self._motion.lqr
        spaces = self._motion.spaces()
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space, self.action_space = (
            batch_space(space, self.num_envs) for space in spaces
        )
        self._x: Array | None = None  # [N, n]

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, Info]:
        """Begin an episode in every copy.

        Parameters
        ----------
        seed : int, optional
            Of all that is drawn from now on, in all copies.
        options : mapping, optional
            ``{"x0": …}``, shape [n] or [N, n]: where to start, instead of a draw. The
            episodes that follow have drawn starts.

        Returns
        -------
        x : array, shape [N, n]
        info : dict
            Empty.

        Raises
        ------
        ValueError
            If the seed is no whole number of at least 0, an option is unknown, or x0 is
            not finite, of a shape as above and within ``state_limit``.
        """
        super().reset(seed=None if seed is None else _validate.seed("seed", seed))
        self._x = self._motion.starts(self.num_envs, self.np_random, options)
        self._steps: Counts = np.zeros(self.num_envs, dtype=np.int64)
        self._clipped: Counts = np.zeros(self.num_envs, dtype=np.int64)
        self._ended: Flags = np.zeros(self.num_envs, dtype=bool)
        return self._x.copy(), {}

    def step(self, actions: ArrayLike) -> tuple[Array, Array, Flags, Flags, Info]:
        """Carry out an action in every copy; reset those whose episode has ended.

        Parameters
        ----------
        actions : array, shape [N, m]

        Returns
        -------
        x : array, shape [N, n]
        reward : array, shape [N]
        terminated : array of bool, shape [N]
            False.
        truncated : array of bool, shape [N]
            Whether the copy has diverged or reached ``max_episode_steps``.
        info : dict
            Arrays ``"cost"``, ``"clipped"`` and ``"diverged"``, shape [N], and
            ``"_cost"``, ``"_clipped"`` and ``"_diverged"``, which are False where the
            copy was reset.

        Raises
        ------
        ValueError
            If the actions are not real and finite with shape [N, m].
        gymnasium.error.ResetNeeded
            If no episode has begun.
        """
        if self._x is None:
            raise _reset_needed()
        u = _actions("actions", actions, (self.num_envs, self.lqr.m))
        moved = self._motion.move(self._x, u, self.np_random)
        self._x = moved.x
        self._steps += 1
        self._clipped += moved.clipped
        again = self._ended
        if again.any():
            self._begin_again(again, moved)
        late = self._steps >= (self.max_episode_steps or np.inf)
        self._ended = moved.diverged | late
        # A copy that was reset has taken no step: no share, and no division by zero.
        clipped = self._clipped / (np.maximum(self._steps, 1) * self.lqr.m)
        info: Info = {}
        parts = {"cost": moved.cost, "clipped": clipped, "diverged": moved.diverged}
        for name, values in parts.items():
            info[name], info[f"_{name}"] = values, ~again
        never = np.zeros(self.num_envs, dtype=bool)
        return self._x.copy(), 0.0 - moved.cost, never, self._ended.copy(), info

    def _begin_again(self, which: Flags, moved: "_Moved") -> None:
        """Put copies at new starts, in place, as if they had taken no step."""
        moved.x[which] = self._motion.starts(int(which.sum()), self.np_random)
        moved.cost[which], moved.diverged[which] = 0.0, False
        self._steps[which], self._clipped[which] = 0, 0


class _Moved(NamedTuple):
    """What one step of N copies has done.

    Parameters
    ----------
    x : array, shape [N, n]
    cost : array, shape [N]
    clipped : array of int, shape [N]
        Components of each action that were clipped.
    diverged : array of bool, shape [N]
    """

    x: Array
    cost: Array
    clipped: Counts
    diverged: Flags


class _Motion:
    """The law of motion and the cost, for any number of copies in one product."""

    def __init__(
        self, lqr: LQR | str, action_limit: ArrayLike | None, state_limit: float
    ) -> None:
        self.lqr = lqr = _world(lqr)
        self.action_limit = _action_limit(action_limit, lqr.m)
        self.state_limit = _validate.above_zero("state_limit", state_limit)
        self._start_root = _steps.root(lqr.X0)
        # (x, u, ζ) -> (x₊, terms whose squares sum to the cost), with w = L_W ζ.
        stage = _steps.root(stage_matrix(lqr)).T
        nothing = np.zeros((len(stage), lqr.n))
        moves = np.hstack([lqr.A, lqr.B, _steps.root(lqr.W)])
        self._law = np.vstack([moves, np.hstack([stage, nothing])])

    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """Of one copy's observations and of its actions."""
        states = gymnasium.spaces.Box(-np.inf, np.inf, (self.lqr.n,), np.float64)
        high = self.action_limit
        return states, gymnasium.spaces.Box(-high, high, dtype=np.float64)

    def starts(
        self,
        count: int,
        rng: np.random.Generator,
        options: Mapping[str, Any] | None = None,
    ) -> Array:
        """Initial states [count, n], drawn or as ``options`` say."""
        if options is not None:
            _validate.instance("options", options, Mapping)
        unknown = set(options or ()) - {"x0"}
        if unknown:
            raise _validate.error("options", "x0 or nothing", sorted(unknown))
        if options and options.get("x0") is not None:
            return self._given(options["x0"], count)
        return rng.standard_normal((count, self.lqr.n)) @ self._start_root.T

    def move(self, x: Array, u: Array, rng: np.random.Generator) -> _Moved:
        """One step of every copy; ``x`` is [N, n], ``u`` is [N, m]."""
        n, limit = self.lqr.n, self.state_limit
        done = np.clip(u, -self.action_limit, self.action_limit)
        noise = rng.standard_normal(x.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            after = np.hstack([x, done, noise]) @ self._law.T
            cost = np.square(after[:, n:]).sum(axis=1)
        cost[np.isnan(cost)] = np.inf
        inside = (np.abs(after[:, :n]) <= limit).all(axis=1)
        held = np.clip(np.nan_to_num(after[:, :n], nan=limit), -limit, limit)
        return _Moved(
            held, cost, (done != u).sum(axis=1), ~(inside & np.isfinite(cost))
        )

    def _given(self, x0: ArrayLike, count: int) -> Array:
        starts = _validate.stack("x0", x0, (self.lqr.n,))
        wanted = (count, self.lqr.n)
        if starts.ndim > 1 and starts.shape != wanted:
            raise _validate.error("x0", f"shape {wanted[1:]} or {wanted}", starts.shape)
        if np.abs(starts).max() > self.state_limit:
            within = f"entries within ±{self.state_limit:g}"
            raise _validate.error("x0", within, f"{np.abs(starts).max():g}")
        return np.broadcast_to(starts, wanted).copy()


def _world(lqr: LQR | str) -> LQR:
    if isinstance(lqr, str):
        if lqr not in _WORLDS:
            raise _validate.error("lqr", f"one of {', '.join(_WORLDS)}", lqr)
        return _WORLDS[lqr]()
    _validate.instance("lqr", lqr, LQR, str)
    return lqr


def _action_limit(value: ArrayLike | None, m: int) -> Array:
    """The bounds as [m], inf where there are none."""
    if value is None:
        return np.full(m, np.inf)
    limit = _validate.real_array("action_limit", value)
    if limit.shape not in ((), (m,)):
        raise _validate.error("action_limit", f"a number or shape ({m},)", limit.shape)
    if (limit <= 0.0).any():
        raise _validate.error("action_limit", "positive entries", limit.min())
    return np.broadcast_to(limit, (m,)).copy()


def _actions(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    actions = _validate.real_array(name, value)
    if actions.shape != shape:
        raise _validate.error(name, f"shape {shape}", actions.shape)
    return actions


def _reset_needed() -> gymnasium.error.ResetNeeded:
    return gymnasium.error.ResetNeeded("call reset() before the first step()")


def _register() -> None:
    for name, (world, limit, steps) in _REGISTERED.items():
        gymnasium.register(
            id=f"lqrlib/{name}-v0",
            entry_point="lqrlib.envs:LQREnv",
            vector_entry_point="lqrlib.envs:LQRVectorEnv",
            max_episode_steps=steps,
            kwargs={"lqr": world, "action_limit": limit},
        )


_register()
