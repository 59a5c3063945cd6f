"""Random inputs for every public function, all of one world and one seed.

An input of a *kind* may have leading axes; `one` takes a single one out of a batch, so
that a call for many can be compared with a loop.
"""

import numpy as np
from systems import radius, spd, stabilised

from lqrlib import GaussianPolicy, LinearModel, critic
from lqrlib.critic import Critic, Moments
from lqrlib.rollout import Trajectories, Transitions, rollout, transitions

HORIZON, SIZE, UPDATES, MEMBERS = 3, 30, 2, 3
# Axes of a single one, part by part; the last part of trajectories is their policy.
_CORES = {
    Transitions: (2, 2, 1, 2),
    LinearModel: (2, 2, 2, 0),
    Critic: (2, 0, 0, 0),
    Moments: (2, 2, 1),
}


class Inputs:
    """A world, and inputs that fit it; each call draws new ones."""

    def __init__(self, n, m, seed):
        self.lqr, self.K, self.rng = stabilised(n, m, seed)

    @property
    def sizes(self):
        """What the letters in documented shapes stand for."""
        n, m = self.lqr.n, self.lqr.m
        T, N = HORIZON, SIZE
        pairs = n * (n + 1) // 2 + 1
        return {
            **{"n": n, "m": m, "mn": m * n, "T": T, "N": N, "M": N * T},
            **{"d": critic.feature_count(self.lqr), "p": pairs},
            **{"updates": UPDATES, "steps": UPDATES, "U": UPDATES},
        }

    def make(self, kind, lead=()):
        """One input of a kind with leading axes, of shape ``lead``."""
        core, draw = KINDS[kind]
        if core is None:  # it knows of leading axes itself
            return draw(self, lead)
        many = [draw(self) for _ in np.ndindex(lead)]
        return np.array(many).reshape((*lead, *np.shape(many[0])))

    def gain(self):
        """A stable gain near the world's own."""
        step = 0.1 * self.rng.standard_normal(self.K.shape)
        while radius(self.lqr, self.K + step) >= 0.98:
            step *= 0.5
        return self.K + step

    def unstable_gain(self):
        step = self.rng.standard_normal(self.K.shape)
        while radius(self.lqr, self.K + step) < 1.5:
            step *= 2.0
        return self.K + step

    def unstable(self, kind):
        """An input of a kind of gain, unstable wherever it may be."""
        bad = self.unstable_gain()
        return np.array([bad] * HORIZON) if kind == "stages" else bad

    def normal(self, *shape):
        return self.rng.standard_normal(shape)

    def data(self, lead):
        K, cov = self.make("K", lead), spd(self.lqr.m, self.rng)
        policy = GaussianPolicy(K, cov)
        return rollout(self.lqr, policy, SIZE, HORIZON, self.rng)

    def model(self, lead):
        lqr = self.lqr
        A, B = lqr.A + 0.02 * self.normal(*lead, lqr.n, lqr.n), lqr.B
        B = B + 0.02 * self.normal(*lead, *B.shape)
        return LinearModel(A, B, np.broadcast_to(lqr.W, A.shape).copy(), np.ones(lead))

    def critic(self, lead):
        return critic.exact_critic(self.lqr, self.make("K", lead), 0.5)


def _rows(*names):
    """Normals with the sizes of the names for axes, and how many axes that is."""
    return len(names), lambda s: s.normal(*(s.sizes[name] for name in names))


GAIN = 2, Inputs.gain
COV = 2, lambda s: spd(s.lqr.m, s.rng)
STATE_FORM = 2, lambda s: spd(s.lqr.n, s.rng)
KINDS = {
    "K": GAIN,
    "cov": COV,
    "form": STATE_FORM,
    "direction": _rows("m", "n"),
    "stages": (3, lambda s: np.array([s.gain() for _ in range(HORIZON)])),
    "directions": _rows("T", "m", "n"),
    "narrow": (2, lambda s: s.gain()[:, : (s.lqr.n + 1) // 2]),
    "loop": (2, lambda s: np.sqrt(s.lqr.gamma) * s.lqr.closed_loop(s.gain())),
    "law": (2, lambda s: spd(s.lqr.n * s.lqr.m, s.rng)),
    "step": (0, lambda s: s.rng.uniform(0.1, 1.0)),
    "order": (0, lambda s: s.rng.uniform(0.5, 1.5)),
    "number": (0, lambda s: s.rng.uniform(0.5, 1.5)),
    "flag": (0, lambda s: s.rng.random() < 0.5),
    "state": _rows("n"),
    "action": _rows("m"),
    "states": _rows("N", "n"),
    "actions": _rows("N", "m"),
    "normals": (3, lambda s: s.normal(SIZE, HORIZON, s.lqr.m + s.lqr.n)),
    "logs": _rows("N"),
    "positive": (1, lambda s: np.square(s.normal(SIZE))),
    # Trajectories last, as the data lie in memory.
    "gain_last": (3, lambda s: s.gain()[..., None]),
    "cov_last": (3, lambda s: spd(s.lqr.m, s.rng)[..., None]),
    "states_last": _rows("T", "n", "N"),
    "actions_last": _rows("T", "m", "N"),
    "sums_last": _rows("T", "N"),
    "next_states_last": _rows("n", "M"),
    "z_last": (2, lambda s: s.normal(s.lqr.n + s.lqr.m, SIZE * HORIZON)),
    "weights_last": (1, lambda s: s.rng.uniform(size=SIZE * HORIZON)),
    "costs_last": _rows("M"),
    "paths_last": (3, lambda s: s.normal(HORIZON + 1, s.lqr.n + s.lqr.m, SIZE)),
    # A path has its updates before other axes, so that it is never batched here.
    "path": (3, lambda s: np.array([s.gain() for _ in range(UPDATES + 1)])),
    "costs": (1, lambda s: s.rng.uniform(1.0, 2.0, UPDATES + 1)),
    **{
        name: (2, lambda s, name=name: np.array(getattr(s.lqr, name)))
        for name in ("A", "B", "Q", "R", "W", "X0")
    },
    # Tuples of arrays.
    "data": (None, Inputs.data),
    "two_data": (None, lambda s, lead: [s.data(lead), s.data(lead)]),
    "transitions": (None, lambda s, lead: transitions(s.data(lead))),
    "model": (None, Inputs.model),
    "models": (None, lambda s, lead: [s.model(lead) for _ in range(3)]),
    "members": (None, lambda s, lead: s.model((MEMBERS, *lead))),
    "critic": (None, Inputs.critic),
    "moments": (None, lambda s, lead: critic.sums(s.lqr, transitions(s.data(lead)))),
    "policy": (None, lambda s, lead: GaussianPolicy(s.make("K", lead), 0.7)),
}


def leading(value, kind):
    """The leading axes of an input."""
    lead = _leading(value, KINDS[kind][0])
    return lead[1:] if kind == "members" else lead


def _leading(value, core):
    if isinstance(value, GaussianPolicy):
        return value.K.shape[:-2]
    if isinstance(value, list):
        return _leading(value[0], core)
    if isinstance(value, Trajectories):
        return value.diverged.shape[:-1]
    if isinstance(value, tuple):
        return np.shape(value[0])[: -_CORES[type(value)][0]]
    return np.shape(value)[: np.ndim(value) - core]


def one(value, kind, index):
    """The single input at an index of the leading axes of all inputs together."""
    if kind == "members":  # the first axis is the member's
        each = [LinearModel(*(part[e] for part in value)) for e in range(MEMBERS)]
        return LinearModel(*map(np.stack, zip(*_one(each, None, index), strict=True)))
    return _one(value, KINDS[kind][0], index)


def _one(value, core, index):
    if isinstance(value, list):
        return [_one(each, core, index) for each in value]
    if isinstance(value, Trajectories):
        parts = zip(value[:4], (3, 3, 2, 1), strict=True)
        K, cov = value.policy.K, value.policy.cov
        K = _one(K, min(K.ndim, 3), index)
        return Trajectories(
            *(_one(part, axes, index) for part, axes in parts), GaussianPolicy(K, cov)
        )
    if isinstance(value, GaussianPolicy):
        return GaussianPolicy(_one(value.K, 2, index), value.cov)
    if isinstance(value, tuple):
        parts = zip(value, _CORES[type(value)], strict=True)
        return type(value)(*(_one(part, axes, index) for part, axes in parts))
    array = np.asarray(value)
    own = array.shape[: array.ndim - core]
    last = index[len(index) - len(own) :]
    return array[
        tuple(0 if size == 1 else i for size, i in zip(own, last, strict=True))
    ]
