"""Rollouts: the law of motion put back, a loop by hand, and what data keep."""

import dataclasses
import itertools

import numpy as np
import pytest
from systems import (
    FIRST_GAIN,
    MOST,
    close,
    gaussian_data,
    plain_world,
    spd,
    steps_of,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, StagePolicy, exact, worlds
from lqrlib._steps import root
from lqrlib.rollout import (
    Transitions,
    concatenate,
    draw_each,
    draw_noise,
    rollout,
    transitions,
    usable,
)
from lqrlib.weights import log_weights

SIZES = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])


def given(lqr, n_trajectories=4, horizon=5, seed=0):
    """Starts and noise for a rollout that leaves nothing to chance."""
    rng = np.random.default_rng(seed)
    x0 = rng.standard_normal((n_trajectories, lqr.n))
    return x0, rng.standard_normal((n_trajectories, horizon, lqr.m + lqr.n))


def rolled(lqr, policy, x0, noise):
    N, T = noise.shape[-3:-1]
    rng = np.random.default_rng(99)
    return rollout(lqr, policy, N, T, rng, x0=x0, noise=noise)


def by_hand(lqr, K, cov, x0, noise):
    """States, actions and costs, one trajectory and one step at a time."""
    states, actions, costs = [], [], []
    for x, normals in zip(x0, noise, strict=True):
        states.append([x])
        actions.append([])
        costs.append([])
        for row in normals:
            u = K @ x + root(cov) @ row[: lqr.m]
            costs[-1].append(x @ lqr.Q @ x + u @ lqr.R @ u)
            x = lqr.A @ x + lqr.B @ u + root(lqr.W) @ row[lqr.m :]
            states[-1].append(x)
            actions[-1].append(u)
    return states, actions, costs


def assert_same(one, other):
    """Equal bit for bit, policies apart."""
    for have, want in zip(one[:4], other[:4], strict=True):
        np.testing.assert_array_equal(have, want)


# The law of motion.


@SIZES
def test_given_noise_and_starts_it_is_a_loop_written_by_hand(n, m):
    lqr, K, cov = system(n, m)
    x0, noise = given(lqr)
    x, u, cost = by_hand(lqr, K, cov, x0, noise)
    data = rolled(lqr, GaussianPolicy(K, cov), x0, noise)
    close(data.x, x, rtol=1e-12, atol=1e-12)
    close(data.u, u, rtol=1e-12, atol=1e-12)
    close(data.cost, cost, rtol=1e-12, atol=1e-12)


def test_the_first_columns_of_the_noise_move_the_action_and_the_others_the_state():
    lqr, K, cov = system(3, 2)
    x0, noise = given(lqr)
    data = rolled(lqr, GaussianPolicy(K, cov), x0, noise)
    moved = noise.copy()
    moved[:, 0, :2] += 1.0
    after = rolled(lqr, GaussianPolicy(K, cov), x0, moved)
    assert (after.u[:, 0] != data.u[:, 0]).any(axis=-1).all()
    moved = noise.copy()
    moved[:, 0, 2:] += 1.0
    after = rolled(lqr, GaussianPolicy(K, cov), x0, moved)
    np.testing.assert_array_equal(after.u[:, 0], data.u[:, 0])
    assert (after.x[:, 1] != data.x[:, 1]).any(axis=-1).all()


@SIZES
def test_what_the_law_of_motion_leaves_over_has_covariance_w(n, m):
    lqr, K, cov = system(n, m)
    data = gaussian_data(lqr, K, cov, 2000, 4)
    predicted = data.x[:, :-1] @ lqr.A.T + data.u @ lqr.B.T
    w = (data.x[:, 1:] - predicted).reshape(-1, n)
    assert np.abs(z_scores(w, 0.0)).max() < MOST
    assert np.abs(z_scores(w[:, :, None] * w[:, None, :], lqr.W)).max() < MOST


@SIZES
def test_actions_scatter_around_kx_with_the_policys_covariance(n, m):
    lqr, K, cov = system(n, m)
    data = gaussian_data(lqr, K, cov, 2000, 4)
    e = (data.u - data.x[:, :-1] @ K.T).reshape(-1, m)
    assert np.abs(z_scores(e, 0.0)).max() < MOST
    assert np.abs(z_scores(e[:, :, None] * e[:, None, :], cov)).max() < MOST


@SIZES
def test_initial_states_have_second_moment_x0(n, m):
    lqr, K, cov = system(n, m)
    x = gaussian_data(lqr, K, cov, 8000, 1).x[:, 0]
    assert np.abs(z_scores(x, 0.0)).max() < MOST
    assert np.abs(z_scores(x[:, :, None] * x[:, None, :], lqr.X0)).max() < MOST


def test_starts_and_noise_of_different_steps_and_kinds_are_uncorrelated():
    lqr, K, cov = system(2, 2)
    data = gaussian_data(lqr, K, cov, 8000, 2)
    e = data.u - data.x[:, :-1] @ K.T
    w = data.x[:, 1:] - data.x[:, :-1] @ lqr.A.T - data.u @ lqr.B.T
    drawn = [data.x[:, 0], e[:, 0], w[:, 0], e[:, 1], w[:, 1]]
    for one, other in itertools.combinations(drawn, 2):
        products = one[:, :, None] * other[:, None, :]
        assert np.abs(z_scores(products, 0.0)).max() < MOST


def test_without_any_noise_the_law_of_motion_leaves_nothing_over():
    lqr, K, _ = system(3, 2)
    lqr = dataclasses.replace(lqr, W=np.zeros((3, 3)))
    data = rollout(lqr, LinearPolicy(K), 5, 6, np.random.default_rng(0))
    close(data.u, data.x[:, :-1] @ K.T, rtol=0, atol=1e-13)
    close(data.x[:, 1:], data.x[:, :-1] @ lqr.closed_loop(K).T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_the_root_of_a_covariance_squares_to_it_also_when_singular(rank):
    M = np.random.default_rng(0).standard_normal((3, rank))
    L = root(M @ M.T)
    close(L @ L.T, M @ M.T, rtol=0, atol=1e-13)


@SIZES
def test_costs_are_the_stage_costs_of_the_states_and_actions(n, m):
    lqr, K, cov = system(n, m)
    data = gaussian_data(lqr, K, cov, 5, 6)
    costs = [x @ lqr.Q @ x + u @ lqr.R @ u for x, u, *_ in steps_of(data)]
    close(data.cost.ravel(), costs, rtol=1e-12)


def test_a_scalar_trajectory_by_hand():
    # x' = 2x + 3u + w with w = 1·ζ, u = −x + 2ξ, cost 5x² + 7u².
    lqr = worlds.scalar(a=2.0, b=3.0, q=5.0, r=7.0, w=1.0, gamma=0.9)
    noise = [[[0.5, -1.0], [-0.5, 2.0]]]
    data = rolled(lqr, GaussianPolicy([[-1.0]], 4.0), [[1.0]], np.array(noise))
    np.testing.assert_array_equal(data.x[0, :, 0], [1.0, 1.0, -2.0])
    np.testing.assert_array_equal(data.u[0, :, 0], [0.0, -2.0])
    close(data.cost[0], [5.0, 33.0], rtol=1e-15)


@pytest.mark.parametrize("cov", [0.0, 0.5])
def test_the_discounted_cost_of_long_trajectories_is_the_exact_one(cov):
    lqr, T = worlds.double_integrator(), 300  # γ^T = 2e-7: no truncation to be seen
    policy = GaussianPolicy(FIRST_GAIN, cov) if cov else LinearPolicy(FIRST_GAIN)
    data = rollout(lqr, policy, 3000, T, np.random.default_rng(0))
    returns = data.cost @ lqr.gamma ** np.arange(T)
    assert abs(z_scores(returns, exact.cost(lqr, FIRST_GAIN, cov))) < MOST


# Where things lie, and what is the same bit for bit.


def test_samples_are_rows_of_one_buffer_whose_last_axis_in_memory_is_n():
    lqr, K, cov = system(3, 2)
    data, size = gaussian_data(lqr, K, cov, 7, 4), 8
    assert data.x.shape == (7, 5, 3)
    assert data.u.shape == (7, 4, 2)
    assert data.cost.shape == (7, 4)
    block = (3 + 2) * 7 * size
    assert data.x.strides == data.u.strides == (size, block, 7 * size)
    assert data.cost.strides == (size, 7 * size)
    first, second = (part.__array_interface__["data"][0] for part in (data.x, data.u))
    assert second - first == 3 * 7 * size


def test_noise_is_laid_out_as_the_rollout_reads_it():
    noise = draw_noise(7, 4, 5, np.random.default_rng(0))
    assert noise.shape == (7, 4, 5)
    assert noise.strides == (8, 5 * 7 * 8, 7 * 8)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_layout_of_the_noise_changes_no_bit(order):
    lqr, K, cov = system(3, 2)
    x0, _ = given(lqr, 7)
    noise = draw_noise(7, 5, 5, np.random.default_rng(1))
    policy = GaussianPolicy(K, cov)
    copied = np.array(noise, order=order)
    assert_same(rolled(lqr, policy, x0, noise), rolled(lqr, policy, x0, copied))


def test_drawn_noise_is_the_noise_that_could_have_been_given():
    lqr, K, cov = system(3, 2)
    rng = np.random.default_rng(5)
    x0 = rng.standard_normal((6, 3)) @ root(lqr.X0).T
    noise = draw_noise(6, 4, 5, rng)
    given_all = rolled(lqr, GaussianPolicy(K, cov), x0, noise)
    assert_same(gaussian_data(lqr, K, cov, 6, 4, seed=5), given_all)


@pytest.mark.parametrize("cov", [0.0, 0.3])
def test_many_gains_with_given_noise_equal_a_loop_bit_for_bit(cov):
    lqr, K, _ = system(3, 2)
    gains = K + 0.1 * np.random.default_rng(1).standard_normal((2, 4, 2, 3))
    x0, noise = given(lqr)

    def policy(K):
        return GaussianPolicy(K, cov) if cov else LinearPolicy(K)

    together = rolled(lqr, policy(gains), x0, noise)
    assert together.x.shape == (2, 4, 4, 6, 3)
    for i in np.ndindex(2, 4):
        one = rolled(lqr, policy(gains[i]), x0, noise)
        assert_same([part[i] for part in together[:4]], one)


@pytest.mark.parametrize("batched", ["cov", "x0", "noise"])
def test_many_of_anything_else_equal_a_loop_bit_for_bit(batched):
    lqr, K, cov = system(3, 2)
    x0, noise = given(lqr)
    rng = np.random.default_rng(2)
    many = {
        "cov": np.stack([spd(2, rng) for _ in range(3)]),
        "x0": rng.standard_normal((3, *x0.shape)),
        "noise": rng.standard_normal((3, *noise.shape)),
    }[batched]

    def of(value):
        parts = {"cov": cov, "x0": x0, "noise": noise} | {batched: value}
        policy = GaussianPolicy(K, parts["cov"])
        return rolled(lqr, policy, parts["x0"], parts["noise"])

    together = of(many)
    for i in range(3):
        assert_same([part[i] for part in together[:4]], of(many[i]))


def test_members_of_a_batch_draw_their_own_starts_and_noise():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.stack([K, K]), cov, 4, 5)
    assert (data.x[0] != data.x[1]).all()
    assert (data.u[0] != data.u[1]).all()


def test_a_seed_repeats_and_another_does_not():
    lqr, K, cov = system(3, 2)
    first, again, other = (gaussian_data(lqr, K, cov, 4, 5, s) for s in (3, 3, 4))
    assert_same(first, again)
    assert (first.x != other.x).all()


def test_what_is_given_stays_as_it_was():
    lqr, K, cov = system(3, 2)
    x0, noise = given(lqr)
    before = x0.copy(), noise.copy()
    rolled(lqr, GaussianPolicy(K, cov), x0, noise).x[:] = 7.0
    np.testing.assert_array_equal(x0, before[0])
    np.testing.assert_array_equal(noise, before[1])


# Divergence is data.


def test_an_unstable_gain_diverges_without_nan_and_says_so():
    lqr, T = worlds.scalar(), 400
    gains = np.array([[[-0.5]], [[20.0]]])
    data = gaussian_data(lqr, gains, 1.0, 5, T)
    np.testing.assert_array_equal(data.diverged, [[False] * 5, [True] * 5])
    for part in data[:3]:
        assert not np.isnan(part).any()
    np.testing.assert_array_equal(data.cost[1, :, -1], np.inf)
    assert np.isfinite(data.cost[0]).all()


def test_one_lost_trajectory_does_not_touch_its_neighbours():
    lqr = worlds.double_integrator()
    x0, noise = given(lqr, 3, 10)
    wild = x0.copy()
    wild[1] = 1e200
    policy = GaussianPolicy(FIRST_GAIN, 1.0)
    calm, lost = (rolled(lqr, policy, starts, noise) for starts in (x0, wild))
    np.testing.assert_array_equal(lost.diverged, [False, True, False])
    for have, want in zip(lost[:3], calm[:3], strict=True):
        np.testing.assert_array_equal(have[[0, 2]], want[[0, 2]])


def test_a_last_state_that_overflows_is_no_nan_although_it_costs_nothing():
    lqr = dataclasses.replace(
        worlds.double_integrator(),
        A=[[1e200, 0.0], [1e200, 0.0]],
        B=[[1e200], [-1e200]],
    )
    still = np.zeros((1, 1, 3))
    data = rolled(lqr, LinearPolicy([[1.0, -1.0]]), [[1e150, 5e149]], still)
    assert not np.isnan(data.x).any()


# Transitions.


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_transitions_are_the_steps_in_order(lead):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (*lead, 2, 3)), cov, 4, 5)
    rows = transitions(data)
    assert rows.cost.shape == (*lead, 20)
    for i in np.ndindex(lead):
        one = data._replace(
            x=data.x[i], u=data.u[i], cost=data.cost[i], diverged=data.diverged[i]
        )
        for place, step in enumerate(steps_of(one)):
            for have, want in zip(rows, step, strict=True):
                np.testing.assert_array_equal(have[i][place], want)


def test_rows_that_left_the_floats_are_marked_and_emptied():
    rows = [np.ones((4, 2)), np.ones((4, 1)), np.ones(4), np.ones((4, 2))]
    rows[0][0, 1], rows[1][1, 0], rows[2][2] = np.inf, -1e61, 1e61
    kept, used = usable(Transitions(*rows))
    np.testing.assert_array_equal(used, [False, False, False, True])
    for part in kept:
        np.testing.assert_array_equal(part[:3], 0.0)
        np.testing.assert_array_equal(part[3], 1.0)
    assert rows[0][1, 0] == 1.0  # the caller's rows are not written to


# Concatenation.


def parts_of(lqr, K, cov, lead=()):
    """Two sets of data of different gains, covariances and sizes."""
    first, second = (np.broadcast_to(M, (*lead, 2, 3)) for M in (K, 0.5 * K))
    return [
        gaussian_data(lqr, first, cov, 3, 5, seed=1),
        gaussian_data(lqr, second, 2 * cov, 4, 5, seed=2),
    ]


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_joined_data_keep_which_policy_made_which_trajectory(lead):
    lqr, K, cov = system(3, 2)
    parts = parts_of(lqr, K, cov, lead)
    joined = concatenate(parts)
    assert joined.x.shape == (*lead, 7, 6, 3)
    for name, axis in {"x": -3, "u": -3, "cost": -2, "diverged": -1}.items():
        stacked = np.concatenate([getattr(part, name) for part in parts], axis=axis)
        np.testing.assert_array_equal(getattr(joined, name), stacked)
    assert joined.policy.K.shape == (*lead, 7, 2, 3)
    for i in range(7):
        made = (K, cov) if i < 3 else (0.5 * K, 2 * cov)
        for have, want in zip((joined.policy.K, joined.policy.cov), made, strict=True):
            there = np.broadcast_to(want, (*lead, *want.shape))
            np.testing.assert_array_equal(have[..., i, :, :], there)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_weights_of_joined_data_are_those_of_the_parts(lead):
    lqr, K, cov = system(3, 2)
    parts = parts_of(lqr, K, cov, lead)
    target = GaussianPolicy(0.9 * K, 1.5 * cov)
    separate = [log_weights(part, target) for part in parts]
    joined = log_weights(concatenate(parts), target)
    close(joined, np.concatenate(separate, axis=-2), rtol=1e-12, atol=1e-12)


def test_joining_joined_data_changes_nothing():
    lqr, K, cov = system(3, 2)
    parts = [*parts_of(lqr, K, cov), gaussian_data(lqr, 0.1 * K, cov, 2, 5, seed=3)]
    at_once = concatenate(parts)
    in_turn = concatenate([concatenate(parts[:2]), parts[2]])
    assert_same(at_once, in_turn)
    np.testing.assert_array_equal(at_once.policy.K, in_turn.policy.K)
    np.testing.assert_array_equal(at_once.policy.cov, in_turn.policy.cov)


def test_data_of_deterministic_policies_join_as_well():
    lqr, K, _ = system(3, 2)
    rng = np.random.default_rng(0)
    parts = [rollout(lqr, LinearPolicy(gain), 2, 4, rng) for gain in (K, 0.5 * K)]
    joined = concatenate(parts)
    assert isinstance(joined.policy, LinearPolicy)
    np.testing.assert_array_equal(joined.policy.K, [K, K, 0.5 * K, 0.5 * K])


def test_joined_data_lie_in_memory_like_any_other():
    lqr, K, cov = system(3, 2)
    joined = concatenate(parts_of(lqr, K, cov))
    assert joined.x.strides[0] == joined.u.strides[0] == joined.cost.strides[0] == 8


def test_data_that_do_not_fit_together_are_refused():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, K, cov, 3, 5)
    longer = gaussian_data(lqr, K, cov, 3, 6)
    batch = gaussian_data(lqr, np.stack([K, K]), cov, 3, 5)
    flat = gaussian_data(*system(2, 3), 3, 5)
    certain, staged = (
        rollout(lqr, policy, 3, 5, np.random.default_rng(0))
        for policy in (LinearPolicy(K), StagePolicy([K] * 5))
    )
    for parts, words in [
        ([], "at least one"),
        ([data, longer], "equal T"),
        ([data, batch], "leading axes"),
        ([data, flat], "equal T, n, m"),
        ([data, certain], "one kind"),
        ([staged, certain], "one kind"),
    ]:
        with pytest.raises(ValueError, match=rf"^parts: expected .*{words}.* found"):
            concatenate(parts)


# Stage gains.


def stage_gains(n=3, m=2, lead=(), horizon=5):
    """A world, and gains that differ from stage to stage."""
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng(8)
    return lqr, K + 0.3 * rng.standard_normal((*lead, horizon, m, n))


@SIZES
def test_with_stage_gains_it_is_a_loop_written_by_hand(n, m):
    lqr, gains = stage_gains(n, m)
    x0, noise = given(lqr)
    data = rolled(lqr, StagePolicy(gains), x0, noise)
    for i, x in enumerate(x0):
        for t, K in enumerate(gains):
            u = K @ x
            close(data.u[i, t], u, rtol=1e-12, atol=1e-12)
            close(data.cost[i, t], x @ lqr.Q @ x + u @ lqr.R @ u, rtol=1e-12)
            x = lqr.A @ x + lqr.B @ u + root(lqr.W) @ noise[i, t, m:]
            close(data.x[i, t + 1], x, rtol=1e-12, atol=1e-12)


def test_stage_policies_act_step_by_step_as_in_a_rollout():
    lqr, gains = stage_gains()
    policy = StagePolicy(gains)
    data = rollout(lqr, policy, 6, 5, np.random.default_rng(0))
    for t in range(5):
        close(data.u[:, t], policy.act(data.x[:, t], stage=t), rtol=1e-12)


def test_equal_stage_gains_are_one_gain_bit_for_bit():
    lqr, K, _ = system(3, 2)
    x0, noise = given(lqr)
    one = rolled(lqr, LinearPolicy(K), x0, noise)
    assert_same(rolled(lqr, StagePolicy([K] * 5), x0, noise), one)
    drawn = (
        rollout(lqr, policy, 4, 5, np.random.default_rng(3))
        for policy in (LinearPolicy(K), StagePolicy([K] * 5))
    )
    assert_same(*drawn)


@pytest.mark.parametrize("lead", [(3,), (2, 4)], ids=str)
def test_many_stage_gains_with_given_noise_equal_a_loop_bit_for_bit(lead):
    lqr, gains = stage_gains(lead=lead)
    x0, noise = given(lqr)
    together = rolled(lqr, StagePolicy(gains), x0, noise)
    assert together.x.shape == (*lead, 4, 6, 3)
    assert together.policy.K.shape == (*lead, 1, 5, 2, 3)
    for i in np.ndindex(lead):
        one = rolled(lqr, StagePolicy(gains[i]), x0, noise)
        assert_same([part[i] for part in together[:4]], one)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_joined_data_keep_which_stage_gains_made_which_trajectory(lead):
    lqr, gains = stage_gains(lead=lead)
    rng = np.random.default_rng(0)
    parts = [
        rollout(lqr, StagePolicy(K), N, 5, rng) for K, N in ((gains, 2), (-gains, 3))
    ]
    joined = concatenate(parts)
    assert joined.policy.K.shape == (*lead, 5, 5, 2, 3)
    for i in range(5):
        made = gains if i < 2 else -gains
        np.testing.assert_array_equal(joined.policy.K[..., i, :, :, :], made)
    for t in range(5):  # and what they did is what they say
        K, x = joined.policy.K[..., t, :, :], joined.x[..., t, :]
        u = np.einsum("...mn,...n->...m", K, x)
        close(joined.u[..., t, :], u, rtol=1e-10, atol=1e-10)


def test_stage_gains_need_one_for_each_step():
    lqr, gains = stage_gains()
    for horizon in (4, 6):
        with pytest.raises(
            ValueError, match=rf"^policy: .* each of {horizon} steps, found 5 stages"
        ):
            rollout(lqr, StagePolicy(gains), 3, horizon, np.random.default_rng(0))


def test_data_of_stage_gains_have_no_weights():
    lqr, gains = stage_gains()
    data = rollout(lqr, StagePolicy(gains), 3, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^trajectories: .*density"):
        log_weights(data, GaussianPolicy(gains[0], 1.0))


# What a rollout refuses (bad arrays: `arguments.py`).


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dynamics", {"dynamics": None}),
        ("policy", {"policy": None}),
        ("policy", {"policy": LinearPolicy(np.zeros((3, 2)))}),
        ("policy", {"policy": StagePolicy(np.zeros((5, 3, 2)))}),
        ("n_trajectories", {"n_trajectories": 0}),
        ("n_trajectories", {"n_trajectories": 2.0}),
        ("horizon", {"horizon": 0}),
        ("horizon", {"horizon": True}),
        ("rng", {"rng": 0}),
        ("x0", {"x0": np.zeros((5, 3))}),
        ("noise", {"noise": np.zeros((4, 6, 5))}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(name, changes):
    lqr, K, cov = system(3, 2)
    good = {
        "dynamics": lqr,
        "policy": GaussianPolicy(K, cov),
        "n_trajectories": 4,
        "horizon": 5,
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        rollout(**(good | changes))


def test_a_cost_of_which_only_the_negative_part_leaves_the_floats_is_not_minus_inf():
    g = np.array([-2.0, 1.2, 1.2])  # at x = (1, 1, 1) the terms of x'Qx
    still = np.zeros((3, 3))
    lqr = plain_world(A=still, B=np.zeros((3, 2)), Q=np.outer(g, g) / g.sum(), W=still)
    x0 = np.sqrt(5e307) * np.linspace(0.5, 3.0, 50)[:, None] * np.ones(3)
    policy = LinearPolicy(np.zeros((2, 3)))
    cost = rollout(lqr, policy, 50, 1, np.random.default_rng(0), x0=x0).cost
    assert (cost == np.inf).any()
    assert (cost >= 0.0).all()


def test_a_batch_draws_what_each_of_its_generators_would_draw_alone():
    lqr, K, cov = system(3, 2)
    gains, seeds = K * np.array([0.9, 1.0, 1.1])[:, None, None], (3, 4, 5)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    x0, noise = draw_each(lqr, 7, 4, rngs)
    batch = rolled(lqr, GaussianPolicy(gains, cov), x0, noise)
    for i, seed in enumerate(seeds):
        policy, rng = GaussianPolicy(gains[i], cov), np.random.default_rng(seed)
        alone = rollout(lqr, policy, 7, 4, rng)
        close(batch.x[i], alone.x, rtol=1e-12, atol=1e-12)
        close(batch.u[i], alone.u, rtol=1e-12, atol=1e-12)


def test_rows_of_a_part_of_the_state_need_no_policy_of_that_size():
    world = worlds.with_lag(worlds.double_integrator(), 0.5)
    policy = GaussianPolicy([[-1.0, -1.0, 0.0]], 1.0)
    data = rollout(world, policy, 3, 4, np.random.default_rng(0))
    rows = transitions(data._replace(x=data.x[..., :2]))
    np.testing.assert_array_equal(rows.x, transitions(data).x[..., :2])
