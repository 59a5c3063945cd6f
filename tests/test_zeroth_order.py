"""Queries of perturbed gains: the formula by a loop, its mean and error by z-score."""

import numpy as np
import pytest
from systems import (
    FIRST_GAIN,
    MOST,
    close,
    gaussian_data,
    plain_policy,
    plain_world,
    spd,
    system,
    z_scores,
)

from lqrlib import exact, finite_horizon, worlds
from lqrlib._queries import Perturbation, costs, pushes
from lqrlib._steps import root
from lqrlib.finite_horizon import constant
from lqrlib.gradients import zeroth_order, zeroth_order_stages
from lqrlib.model import fit
from lqrlib.rollout import draw_starts, transitions

MAIN = worlds.double_integrator()
SIZES = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
both_kinds = pytest.mark.parametrize("two_point", [False, True], ids=["one", "two"])
T = 4


def generator(seed=0):
    return np.random.default_rng(seed)


def staged(n=3, m=2, horizon=T):
    """A world, gains that differ from stage to stage, and a last cost."""
    lqr, K, _ = system(n, m)
    rng = generator(11)
    return lqr, K + 0.2 * rng.standard_normal((horizon, m, n)), spd(n, rng)


def cost_by_hand(lqr, gains, start, noise, terminal=0.0):
    """The cost of one trajectory, a step at a time."""
    x, total = start, 0.0
    for t, K in enumerate(gains):
        u = K @ x
        total += lqr.gamma**t * (x @ lqr.Q @ x + u @ lqr.R @ u)
        x = lqr.A @ x + lqr.B @ u + noise[t]
    return total + lqr.gamma ** len(gains) * np.sum(terminal * np.outer(x, x))


def draws(lqr, n_trajectories, horizon, rng):
    """Starts [N, n] and noise [N, T, n] in the order in which queries draw them."""
    shape = (lqr.n, n_trajectories)
    starts = draw_starts(lqr, n_trajectories, rng)
    noise = [root(lqr.W) @ rng.standard_normal(shape) for _ in range(horizon)]
    return starts, np.moveaxis(noise, -1, 0)


def directions(shape, count, rng):
    """Uniform on the unit sphere of matrices, [count, m, n], in the order drawn."""
    normals = np.moveaxis(rng.standard_normal((*shape, count)), -1, 0)
    return normals / np.linalg.norm(normals, axis=(-2, -1), keepdims=True)


# What a query costs.


@SIZES
def test_a_query_is_a_loop_written_by_hand(n, m):
    lqr, gains, S = staged(n, m)
    D = generator(1).standard_normal((2, m, n, 3))

    def perturbed(t):  # trajectories 2, 3 and 4 leave the gain, at steps 1 and 2
        return Perturbation(slice(2, 5), D if t in (1, 2) else 0.0 * D)

    starts, noise = draws(lqr, 6, T, generator(2))
    rng = generator(2)
    first = draw_starts(lqr, 6, rng)
    found = costs(lqr, gains, perturbed, S, first, pushes(lqr, first, T, rng))
    assert found.shape == (2, 6)
    for s, i in np.ndindex(2, 6):
        asked = gains.copy()
        if 2 <= i < 5:
            asked[1:3] += D[s, :, :, i - 2]
        expected = cost_by_hand(lqr, asked, starts[i], noise[i], S)
        assert found[s, i] == pytest.approx(expected, rel=1e-11)


def test_a_query_that_leaves_the_floats_costs_inf_and_stays_alone():
    lqr, gains, S = staged(2, 1)
    D = np.zeros((1, 1, 2, 3))
    D[..., 1] = 1e170

    def perturbed(t):
        return Perturbation(slice(None), D)

    with np.errstate(over="ignore", invalid="ignore"):
        starts = draw_starts(lqr, 3, generator())
        found = costs(
            lqr, gains, perturbed, S, starts, pushes(lqr, starts, T, generator())
        )
    np.testing.assert_array_equal(found == np.inf, [[False, True, False]])


def test_a_cost_of_which_only_the_negative_part_leaves_the_floats_is_not_minus_inf():
    g = np.array([-2.0, 1.2, 1.2])  # at x = (1, 1, 1) the terms of x'Qx
    Q, still = np.outer(g, g) / g.sum(), np.zeros((3, 3))
    lqr = plain_world(
        A=still, B=np.zeros((3, 2)), Q=Q, W=still, X0=5e307 * np.ones((3, 3))
    )
    D = np.zeros((1, 2, 3, 50))

    def perturbed(t):
        return Perturbation(slice(None), D)

    with np.errstate(over="ignore", invalid="ignore"):
        starts = draw_starts(lqr, 50, generator())
        noise = pushes(lqr, starts, 1, generator())
        found = costs(lqr, np.zeros((1, 2, 3)), perturbed, still, starts, noise)
    assert (found == np.inf).any()
    assert (found >= 0.0).all()


# The estimates, as loops over queries.


def estimates_by_hand(lqr, gains_at, U, radius, starts, noise, two_point, terminal):
    """(D/r) c(K + rU) U of each query, or (D/2r) (c(K + rU) − c(K − rU)) U."""
    terms = []
    for i, direction in enumerate(U):
        signs = (1.0, -1.0) if two_point else (1.0,)
        change = sum(
            sign
            * cost_by_hand(
                lqr, gains_at(sign * radius * direction), starts[i], noise[i], terminal
            )
            for sign in signs
        )
        terms.append(direction.size / radius / len(signs) * change * direction)
    return np.array(terms)


def assert_mean_and_error(found, terms):
    close(found[0], terms.mean(axis=0), rtol=1e-9, atol=1e-10 * np.abs(terms).max())
    error = terms.std(axis=0, ddof=1) / np.sqrt(len(terms))
    close(found[1], error, rtol=1e-9)


@SIZES
@both_kinds
def test_the_estimate_for_one_gain_is_its_formula_written_as_a_loop(n, m, two_point):
    lqr, K, _ = system(n, m)
    options = {"radius": 0.3, "horizon": T, "two_point": two_point}
    found = zeroth_order(lqr, K, n_trajectories=8, rng=generator(3), **options)
    rng, pairs = generator(3), 4 if two_point else 8
    U = directions((m, n), pairs, rng)
    starts, noise = draws(lqr, pairs, T, rng)
    terms = estimates_by_hand(
        lqr, lambda D: np.stack([K + D] * T), U, 0.3, starts, noise, two_point, 0.0
    )
    assert_mean_and_error(found, terms)
    assert found.effective_sample_size == 8.0


@SIZES
@both_kinds
def test_the_estimate_for_stage_gains_is_its_formula_written_as_a_loop(n, m, two_point):
    lqr, gains, S = staged(n, m)
    options = {"radius": 0.3, "terminal": S, "two_point": two_point}
    found = zeroth_order_stages(
        lqr, gains, n_trajectories=6, rng=generator(3), **options
    )
    rng, pairs = generator(3), 3 if two_point else 6
    U = directions((T, m, n), pairs, rng)
    starts, noise = draws(lqr, T * pairs, T, rng)
    for t in range(T):

        def at_stage(D, t=t):
            asked = gains.copy()
            asked[t] += D
            return asked

        own = slice(t * pairs, (t + 1) * pairs)
        terms = estimates_by_hand(
            lqr, at_stage, U[:, t], 0.3, starts[own], noise[own], two_point, S
        )
        assert_mean_and_error([part[t] for part in found[:2]], terms)
    np.testing.assert_array_equal(found.effective_sample_size, [6.0] * T)


@both_kinds
def test_given_starts_are_used_as_they_are(two_point):
    lqr, gains, S = staged()
    options = {"radius": 0.3, "n_trajectories": 6, "two_point": two_point}
    pairs = 3 if two_point else 6
    x0 = generator(5).standard_normal((T, pairs, lqr.n))
    last = {"terminal": S, **options}
    found = zeroth_order_stages(lqr, gains, x0=x0, rng=generator(3), **last)
    rng = generator(3)
    U = directions((T, lqr.m, lqr.n), pairs, rng)
    shape = (lqr.n, T * pairs)
    steps = [root(lqr.W) @ rng.standard_normal(shape) for _ in range(T)]
    noise = np.moveaxis(steps, -1, 0)
    own = slice(2 * pairs, 3 * pairs)

    def at_stage(D):
        asked = gains.copy()
        asked[2] += D
        return asked

    terms = estimates_by_hand(
        lqr, at_stage, U[:, 2], 0.3, x0[2], noise[own], two_point, S
    )
    assert_mean_and_error([part[2] for part in found[:2]], terms)


@both_kinds
def test_starts_may_be_shared_by_all_gains_or_each_gain_has_its_own(two_point):
    lqr, gains, _ = staged()
    options = {"radius": 0.3, "n_trajectories": 6, "two_point": two_point, "horizon": T}
    x0 = generator(5).standard_normal((3 if two_point else 6, lqr.n))
    shared = zeroth_order(lqr, gains[:2], x0=x0, rng=generator(3), **options)
    own = zeroth_order(lqr, gains[:2], x0=[x0, x0], rng=generator(3), **options)
    np.testing.assert_array_equal(shared.gradient, own.gradient)
    other = zeroth_order(lqr, gains[:2], x0=[x0, 2 * x0], rng=generator(3), **options)
    np.testing.assert_array_equal(other.gradient[0], own.gradient[0])
    assert (other.gradient[1] != own.gradient[1]).all()


@pytest.mark.parametrize("shape", [(6,), (5, 3), (6, 2), (2, 6, 3)])
def test_starts_that_do_not_fit_are_refused(shape):
    lqr, gains, _ = staged()
    with pytest.raises(ValueError, match=r"^x0: expected .* found"):
        zeroth_order(
            lqr,
            gains[0],
            radius=0.3,
            n_trajectories=6,
            horizon=T,
            rng=generator(),
            x0=np.zeros(shape),
        )


# Their means, over many repetitions.


def repeated(K, times):
    """The same gains many times: each has its own directions, starts and noise."""
    return np.broadcast_to(K, (times, *np.shape(K)))


@both_kinds
@pytest.mark.parametrize("radius", [0.1, 2.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2)])
def test_stage_estimates_have_the_exact_gradient_as_mean_at_any_radius(
    n, m, radius, two_point
):
    lqr, gains, S = staged(n, m)
    options = {"radius": radius, "terminal": S, "two_point": two_point}
    found = zeroth_order_stages(
        lqr, repeated(gains, 300), n_trajectories=40, rng=generator(), **options
    )
    truth = finite_horizon.gradient(lqr, gains, terminal=S)
    assert np.abs(z_scores(found.gradient, truth)).max() < MOST


def ball_average(lqr, K, radius, horizon):
    """The gradient in one gain of T steps, averaged over the disk around K, exactly.

    A polynomial in the gain: few nodes in the square of the radius and on the circle
    integrate it without error. For two entries.
    """
    nodes, weights = np.polynomial.legendre.leggauss(horizon + 1)
    lengths = radius * np.sqrt(0.5 * (nodes + 1.0))
    angles = np.arange(4 * horizon) * np.pi / (2 * horizon)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(-1, 1, 2)
    gains = K + lengths[:, None, None, None] * circle
    gradients = finite_horizon.gradient(lqr, constant(lqr, gains, horizon))
    over_circles = gradients.sum(axis=-3).mean(axis=1)
    return np.tensordot(0.5 * weights, over_circles, axes=1)


@both_kinds
def test_the_estimate_for_a_scalar_gain_is_a_difference_of_exact_costs(two_point):
    lqr, K, radius = worlds.scalar(), -0.4, 0.7
    found = zeroth_order(
        lqr,
        repeated([[K]], 300),
        radius=radius,
        n_trajectories=60,
        horizon=5,
        rng=generator(),
        two_point=two_point,
    )
    ends = constant(lqr, [[[K - radius]], [[K + radius]]], 5)
    truth = np.diff(finite_horizon.cost(lqr, ends)).item() / (2 * radius)
    here = finite_horizon.gradient(lqr, constant(lqr, [[K]], 5)).sum()
    z = z_scores(found.gradient, truth).item()
    assert abs(z) < MOST
    if two_point:  # the radius is large enough to be seen
        assert abs(z_scores(found.gradient, here).item()) > 3 * MOST


@both_kinds
def test_the_estimate_for_one_gain_has_the_gradient_of_the_ball_as_mean(two_point):
    radius, horizon = 1.5, 10
    found = zeroth_order(
        MAIN,
        repeated(FIRST_GAIN, 400),
        radius=radius,
        n_trajectories=100,
        horizon=horizon,
        rng=generator(),
        two_point=two_point,
    )
    truth = ball_average(MAIN, FIRST_GAIN, radius, horizon)
    assert np.abs(z_scores(found.gradient, truth)).max() < MOST
    centre = finite_horizon.gradient(MAIN, constant(MAIN, FIRST_GAIN, horizon))
    close(ball_average(MAIN, FIRST_GAIN, 1e-6, horizon), centre.sum(axis=0), rtol=1e-9)
    if two_point:
        here = centre.sum(axis=0)
        assert np.abs(z_scores(found.gradient, here)).max() > 3 * MOST


@both_kinds
def test_one_step_is_quadratic_in_the_gain_so_that_no_radius_matters(two_point):
    lqr, K, _ = system(3, 2)
    found = zeroth_order(
        lqr,
        repeated(K, 300),
        radius=3.0,
        n_trajectories=40,
        horizon=1,
        rng=generator(),
        two_point=two_point,
    )
    truth = finite_horizon.gradient(lqr, constant(lqr, K, 1))[0]
    assert np.abs(z_scores(found.gradient, truth)).max() < MOST


# Their errors.


@both_kinds
def test_reported_errors_are_those_observed(two_point):
    lqr, gains, _ = staged()
    options = {"radius": 0.2, "n_trajectories": 200, "two_point": two_point}
    for found in (
        zeroth_order(
            lqr, repeated(gains[0], 300), horizon=T, rng=generator(), **options
        ),
        zeroth_order_stages(lqr, repeated(gains, 300), rng=generator(), **options),
    ):
        reported = np.sqrt(np.square(found.standard_error).mean(axis=0))
        ratio = found.gradient.std(axis=0) / reported
        assert 0.8 < ratio.min() <= ratio.max() < 1.25


def spread(radius, two_point, n_trajectories=4000):
    found = zeroth_order(
        MAIN,
        FIRST_GAIN,
        radius=radius,
        n_trajectories=n_trajectories,
        horizon=20,
        rng=generator(),
        two_point=two_point,
    )
    return np.linalg.norm(found.standard_error)


def test_the_error_of_one_point_grows_like_one_over_the_radius_that_of_two_does_not():
    radii = (0.001, 0.01, 0.1)
    one, two = ([spread(r, kind) for r in radii] for kind in (False, True))
    close(np.divide(one[:-1], one[1:]), 10.0, rtol=0.1)
    close(two, two[0], rtol=0.01)
    assert two[0] < 0.01 * one[0]


def test_a_pair_for_stage_gains_does_not_depend_on_the_radius_at_all():
    lqr, gains, S = staged()
    options = {"n_trajectories": 20, "terminal": S, "two_point": True}
    near, far = (
        zeroth_order_stages(lqr, gains, radius=r, rng=generator(), **options)
        for r in (0.1, 10.0)
    )
    scale = np.abs(near.gradient).max()
    close(near.gradient, far.gradient, rtol=0, atol=1e-10 * scale)
    close(near.standard_error, far.standard_error, rtol=1e-8)


# Leading axes, models, and what leaves the floats.


@both_kinds
def test_leading_axes_draw_their_own_directions_starts_and_noise(two_point):
    lqr, gains, _ = staged()
    options = {"radius": 0.3, "n_trajectories": 8, "two_point": two_point}
    for found, core in (
        (
            zeroth_order(
                lqr, repeated(gains[0], 6), horizon=T, rng=generator(), **options
            ),
            2,
        ),
        (zeroth_order_stages(lqr, repeated(gains, 6), rng=generator(), **options), 3),
    ):
        shape = gains.shape[-core:]
        assert found.gradient.shape == found.standard_error.shape == (6, *shape)
        assert found.effective_sample_size.shape == (6, *shape[:-2])
        flat = np.sort(found.gradient.ravel())
        assert (np.diff(flat) > 0.0).all()


def test_gains_of_a_batch_are_each_asked_about_themselves():
    lqr, gains, _ = staged(2, 1)
    both = np.stack([gains, gains + 0.5])[:, None]
    found = zeroth_order_stages(
        lqr,
        np.broadcast_to(both, (2, 400, *gains.shape)),
        radius=1.0,
        n_trajectories=20,
        rng=generator(),
        two_point=True,
    )
    truth = finite_horizon.gradient(lqr, both[:, 0])
    for have, want, other in zip(found.gradient, truth, truth[::-1], strict=True):
        assert np.abs(z_scores(have, want)).max() < MOST
        assert np.abs(z_scores(have, other)).max() > 3 * MOST


def test_a_seed_repeats_and_another_does_not():
    options = {"radius": 0.1, "n_trajectories": 5, "horizon": 3}
    first, again, other = (
        zeroth_order(MAIN, FIRST_GAIN, rng=generator(s), **options).gradient
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_queries_of_a_fitted_model_give_the_gradient_in_the_model():
    lqr = plain_world()
    K, cov = plain_policy()
    model = fit(transitions(gaussian_data(lqr, K, cov, 10, 5))).problem(lqr)
    found = zeroth_order(
        model,
        repeated(K, 1500),
        radius=0.01,
        n_trajectories=40,
        horizon=T,
        rng=generator(),
        two_point=True,
    )
    in_model, in_world = (
        finite_horizon.gradient(world, constant(world, K, T)).sum(axis=0)
        for world in (model, lqr)
    )
    assert np.abs(z_scores(found.gradient, in_model)).max() < MOST
    assert np.abs(z_scores(found.gradient, in_world)).max() > 3 * MOST


def test_without_a_discount_queries_work_as_well():
    lqr = worlds.recht_double_integrator()
    K = np.array([[-0.3, -1.0]])
    found = zeroth_order(
        lqr,
        repeated(K, 200),
        radius=0.001,
        n_trajectories=20,
        horizon=6,
        rng=generator(),
        two_point=True,
    )
    truth = finite_horizon.gradient(lqr, constant(lqr, K, 6)).sum(axis=0)
    assert np.abs(z_scores(found.gradient, truth)).max() < MOST


@both_kinds
@pytest.mark.parametrize("size", [1e170, 1e308])
def test_trajectories_that_leave_the_floats_give_nan_and_do_not_warn(two_point, size):
    options = {"radius": 0.1, "n_trajectories": 4, "two_point": two_point}
    pair = np.stack([FIRST_GAIN, size * FIRST_GAIN])
    stages = np.stack([constant(MAIN, K, 3) for K in pair])
    for found in (
        zeroth_order(MAIN, pair, horizon=3, rng=generator(), **options),
        zeroth_order_stages(MAIN, stages, rng=generator(), **options),
    ):
        for part in found[:2]:
            assert np.isfinite(part[0]).all()
            assert np.isnan(part[1]).all()


@pytest.mark.parametrize("radius", [1e-320, 1e200, 1e308])
@both_kinds
def test_a_radius_at_the_ends_of_the_floats_does_not_warn(radius, two_point):
    found = zeroth_order(
        MAIN,
        FIRST_GAIN,
        radius=radius,
        n_trajectories=4,
        horizon=3,
        rng=generator(),
        two_point=two_point,
    )
    assert not np.isinf(found.gradient).any()


@pytest.mark.parametrize(("two_point", "fewest"), [(False, 1), (True, 2)])
def test_a_single_query_has_a_gradient_and_no_error_to_speak_of(two_point, fewest):
    found = zeroth_order(
        MAIN,
        FIRST_GAIN,
        radius=0.1,
        n_trajectories=fewest,
        horizon=3,
        rng=generator(),
        two_point=two_point,
    )
    assert np.isfinite(found.gradient).all()
    np.testing.assert_array_equal(found.standard_error, np.inf)


def test_the_gains_stay_as_they_were():
    lqr, gains, _ = staged()
    before = gains.copy()
    zeroth_order_stages(lqr, gains, radius=0.1, n_trajectories=4, rng=generator())
    zeroth_order(lqr, gains, radius=0.1, n_trajectories=4, horizon=2, rng=generator())
    np.testing.assert_array_equal(gains, before)


# What is refused (bad arrays: `arguments.py`).


GOOD = {"radius": 0.1, "n_trajectories": 4, "rng": generator()}
BAD = [
    ("radius", {"radius": 0.0}),
    ("radius", {"radius": -0.1}),
    ("radius", {"radius": np.nan}),
    ("radius", {"radius": np.inf}),
    ("radius", {"radius": [0.1]}),
    ("radius", {"radius": True}),
    ("n_trajectories", {"n_trajectories": 0}),
    ("n_trajectories", {"n_trajectories": 4.0}),
    ("n_trajectories", {"n_trajectories": 5, "two_point": True}),
    ("n_trajectories", {"n_trajectories": 1, "two_point": True}),
    ("rng", {"rng": 0}),
    ("rng", {"rng": None}),
]


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_bad_options_are_refused_by_name(name, options):
    given = GOOD | options
    for call in (
        lambda: zeroth_order(MAIN, FIRST_GAIN, horizon=3, **given),
        lambda: zeroth_order_stages(MAIN, constant(MAIN, FIRST_GAIN, 3), **given),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
            call()


@pytest.mark.parametrize("horizon", [0, 2.0, True, None])
def test_a_horizon_that_is_no_number_of_steps_is_refused(horizon):
    with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
        zeroth_order(MAIN, FIRST_GAIN, horizon=horizon, **GOOD)


def test_queries_only_ask_for_costs_and_agree_with_long_runs_of_the_exact_gradient():
    # γ^T = 2e-7, and a pair at a small radius: the exact gradient without an end.
    found = zeroth_order(
        MAIN,
        FIRST_GAIN,
        radius=1e-3,
        n_trajectories=8000,
        horizon=300,
        rng=generator(),
        two_point=True,
    )
    z = (found.gradient - exact.gradient(MAIN, FIRST_GAIN)) / found.standard_error
    assert np.abs(z).max() < MOST
