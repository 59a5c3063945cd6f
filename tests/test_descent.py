"""Descent: it arrives with exact gradients, and a path that is lost stays harmless."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from systems import FIRST_GAIN, close, gaussian_data, spd, stabilised, system

from lqrlib import GradientEstimate, Status, exact, finite_horizon, worlds
from lqrlib.descent import (
    backtracking,
    backtracking_stages,
    descend,
    descend_stages,
    moved,
    of_length,
)
from lqrlib.finite_horizon import constant
from lqrlib.gradients import gauss_newton_dpg, per_decision_is, zeroth_order_stages

MAIN = worlds.double_integrator()
EXACT = {
    "gradient": (exact.gradient, 0.03, 500),
    "natural gradient": (exact.natural_gradient, 0.5, 200),
    "Gauss-Newton": (exact.gauss_newton, 1.0, 8),
}
every_direction = pytest.mark.parametrize("name", EXACT)


def exactly(name, lqr=MAIN, K0=FIRST_GAIN, **changes):
    function, step, updates = EXACT[name]
    options = {"step": step, "updates": updates} | changes
    return descend(lqr, K0, lambda K: function(lqr, K), **options)


@every_direction
def test_exact_directions_arrive_at_the_optimal_gain(name):
    history = exactly(name)
    assert history.status == Status.CONVERGED
    close(history.K[-1], exact.optimal_gain(MAIN), rtol=0, atol=1e-4)
    close(history.cost, exact.cost(MAIN, history.K), rtol=1e-13)
    assert (np.diff(history.cost) <= 1e-12 * history.cost[0]).all()


@every_direction
def test_every_update_subtracts_the_step_times_the_gradient(name):
    function, step, _ = EXACT[name]
    history = exactly(name, updates=3)
    np.testing.assert_array_equal(history.K[0], FIRST_GAIN)
    for before, after in zip(history.K[:-1], history.K[1:], strict=True):
        close(after, before - step * function(MAIN, before), rtol=1e-14)


@every_direction
def test_many_starts_equal_a_loop(name):
    lqr, K, _ = system(3, 2)
    starts = K + 0.05 * np.random.default_rng(0).standard_normal((2, 2, 2, 3))
    together = exactly(name, lqr, starts, step=0.01, updates=5)
    assert together.K.shape == (6, 2, 2, 2, 3)
    assert together.status.shape == (2, 2)
    for i in np.ndindex(2, 2):
        alone = exactly(name, lqr, starts[i], step=0.01, updates=5)
        close(together.K[:, *i], alone.K, rtol=1e-12)
        close(together.cost[:, *i], alone.cost, rtol=1e-12)
        assert together.status[i] == alone.status


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20, derandomize=True)
def test_full_gauss_newton_steps_arrive_from_every_stable_gain(n, m, seed):
    lqr, K, _ = stabilised(n, m, seed)
    history = exactly("Gauss-Newton", lqr, K, updates=50)
    optimum = exact.cost(lqr, exact.optimal_gain(lqr))
    assert history.status == Status.CONVERGED
    assert history.cost[-1] == pytest.approx(optimum, rel=1e-6)


def test_within_decides_what_counts_as_converged():
    patient = exactly("Gauss-Newton", updates=1, within=1.0)
    strict = exactly("Gauss-Newton", updates=1, within=1e-9)
    assert (patient.within, patient.status) == (1.0, Status.CONVERGED)
    assert strict.status == Status.DESCENDING


# Paths that are lost.


def test_too_large_a_step_diverges_and_the_path_stays_where_it_left():
    history = exactly("gradient", step=10.0, updates=5)
    assert history.status == Status.DIVERGED
    assert "left the stable set" in str(history.reason)
    assert np.isfinite(history.K).all()
    assert np.isfinite(history.cost[0])
    np.testing.assert_array_equal(history.cost[1:], np.inf)
    np.testing.assert_array_equal(history.K[2:], [history.K[1]] * 4)


def test_a_lost_path_does_not_hold_up_the_others():
    starts = np.stack([FIRST_GAIN, 10.0 * np.abs(FIRST_GAIN)])
    history = exactly("gradient", K0=starts)
    np.testing.assert_array_equal(history.status, [Status.CONVERGED, Status.DIVERGED])
    np.testing.assert_array_equal(history.K[-1, 1], starts[1])
    close(history.K[:, 0], exactly("gradient").K, rtol=1e-13)


def test_when_all_paths_are_lost_no_gradient_is_asked_for():
    asked = []

    def gradient(K):
        asked.append(K)
        return exact.gradient(MAIN, K)

    history = descend(MAIN, FIRST_GAIN, gradient, 10.0, updates=7)
    assert len(asked) == 1
    assert len(history.K) == len(history.cost) == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_the_gradient_is_not_finite_the_gain_stands_still(bad):
    starts = np.stack([FIRST_GAIN, FIRST_GAIN])

    def half_blind(K):
        gradient = exact.gauss_newton(MAIN, K)
        gradient[1, 0, 1] = bad
        return gradient

    history = descend(MAIN, starts, half_blind, 1.0, updates=8)
    np.testing.assert_array_equal(history.K[:, 1], [FIRST_GAIN] * 9)
    np.testing.assert_array_equal(history.status, [Status.CONVERGED, Status.STALLED])


def test_a_step_that_leaves_the_floats_is_not_taken_and_does_not_warn():
    history = exactly("gradient", step=1e308, updates=2)
    np.testing.assert_array_equal(history.K, [FIRST_GAIN] * 3)


def test_only_paths_that_are_going_move():
    K, change = np.ones((4, 1, 2)), np.ones((4, 1, 2))
    change[1, 0, 0], change[2, 0, 1] = np.nan, np.inf
    after = moved(K, change, np.array([True, True, True, False]))
    np.testing.assert_array_equal(after[:, 0, 0], [0.0, 1.0, 1.0, 1.0])


def test_only_paths_of_stage_gains_that_are_going_move_and_whole_or_not_at_all():
    K, change = np.ones((4, 5, 1, 2)), np.ones((4, 5, 1, 2))
    change[1, 3, 0, 0], change[2, 0, 0, 1] = np.nan, np.inf
    after = moved(K, change, np.array([True, True, True, False]))
    expected = np.broadcast_to(np.reshape([0.0, 1.0, 1.0, 1.0], (4, 1, 1, 1)), K.shape)
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(moved(K[0], change[0], np.array(True)), 0.0 * K[0])


def test_a_rule_is_given_gradients_and_gains():
    seen = []

    def rule(gradient, K):
        seen.append((gradient, K))
        return 0.01 * gradient

    history = descend(
        MAIN, FIRST_GAIN, lambda K: exact.gradient(MAIN, K), rule, updates=3
    )
    for (gradient, K), before, after in zip(
        seen, history.K[:-1], history.K[1:], strict=True
    ):
        np.testing.assert_array_equal(K, before)
        np.testing.assert_array_equal(gradient, exact.gradient(MAIN, before))
        np.testing.assert_array_equal(after, before - 0.01 * gradient)


# Steps of one length.


@given(
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32 - 1),
    st.floats(-100, 100).map(lambda power: 10.0**power),
)
@settings(deadline=None, derandomize=True)
def test_steps_of_a_length_have_it_and_keep_the_direction(length, seed, size):
    gradient = size * np.random.default_rng(seed).standard_normal((4, 2, 3))
    change = of_length(length)(gradient, gradient)
    close(np.linalg.norm(change, axis=(-2, -1)), length, rtol=1e-12)
    factor = length / np.linalg.norm(gradient, axis=(-2, -1), keepdims=True)
    close(change, factor * gradient, rtol=1e-12)


def test_a_zero_gradient_makes_no_step_of_any_length():
    np.testing.assert_array_equal(
        of_length(0.5)(np.zeros((2, 1, 2)), np.ones((2, 1, 2))), 0.0
    )


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_steps_of_a_length_have_it_at_the_ends_of_the_floats_too(size):
    gradient = np.full((1, 2), size)
    change = of_length(0.5)(gradient, gradient)
    assert np.linalg.norm(change) == pytest.approx(0.5)


def test_a_rule_of_length_is_used_on_every_update():
    history = exactly("gradient", step=of_length(0.05), updates=4)
    lengths = np.linalg.norm(np.diff(history.K, axis=0), axis=(-2, -1))
    close(lengths, 0.05, rtol=1e-12)


# Backtracking.


def starts_everywhere(seeds=40):
    """160 worlds with a stable gain, a covariance and the generator for more."""
    for n, m in ((1, 1), (2, 1), (3, 2), (4, 3)):
        for seed in range(seeds):
            lqr, K, rng = stabilised(n, m, seed)
            yield lqr, K, spd(m, rng), rng


@pytest.mark.parametrize("first", [1e6, 1.0, 1e-3])
def test_backtracking_keeps_stable_monotone_and_to_armijos_promise(first):
    for lqr, K, cov, rng in starts_everywhere():
        rule = backtracking(lqr, first, cov=cov)
        function = (exact.gradient, exact.natural_gradient)[rng.integers(2)]
        history = descend(lqr, K, lambda K, f=function, w=lqr: f(w, K), rule, updates=3)
        assert history.status != Status.DIVERGED
        J = exact.cost(lqr, history.K, cov)
        assert J[-1] < J[0]
        slope = np.sum(
            exact.gradient(lqr, history.K[:-1], cov) * -np.diff(history.K, axis=0),
            axis=(1, 2),
        )
        assert (slope >= 0).all()
        assert (np.diff(J) <= -0.9999e-4 * slope + 1e-13 * J[0]).all()


def test_backtracking_takes_the_longest_of_the_halved_steps_that_will_do():
    tried = 8.0 * 0.5 ** np.arange(40)
    steps = []
    for lqr, K, cov, _ in starts_everywhere(8):
        D = exact.gradient(lqr, K)
        for Sigma in (0.0 * cov, 100.0 * cov):
            change = backtracking(lqr, 8.0, cov=Sigma)(D, K)
            steps.append(change.ravel()[0] / D.ravel()[0])
            enough = tried * 1e-4 * np.sum(exact.gradient(lqr, K, Sigma) * D)
            after = exact.cost(lqr, K - tried[:, None, None] * D, Sigma)
            good = after <= exact.cost(lqr, K, Sigma) - enough
            expected = tried[np.argmax(good)] if enough[0] > 0 else 0.0
            assert steps[-1] == pytest.approx(expected, rel=1e-9)
    calm, exploring = steps[::2], steps[1::2]
    assert calm != pytest.approx(exploring)  # the covariance is heard


def test_a_fall_that_is_less_than_promised_is_not_enough():
    # Between s_1, where the promise is just kept, and s_0, where the cost is as before.
    D, J = exact.gauss_newton(MAIN, FIRST_GAIN), exact.cost(MAIN, FIRST_GAIN)
    slope = np.sum(exact.gradient(MAIN, FIRST_GAIN) * D)

    def fallen(s, promised):
        return exact.cost(MAIN, FIRST_GAIN - s * D) - J + promised * s * slope

    s_1, s_0 = (brentq(fallen, 1.0, 3.0, args=(p,)) for p in (1e-4, 0.0))
    assert s_1 < s_0
    for first, taken in ((0.5 * (s_0 + s_1), 0.5), (s_1 * (1 - 1e-9), 1.0)):
        change = backtracking(MAIN, first)(D, FIRST_GAIN)
        close(change, taken * first * D, rtol=1e-12)


def test_backtracking_arrives_whatever_the_first_step():
    for first in (1e-1, 1.0, 1e6):
        history = exactly("gradient", step=backtracking(MAIN, first), updates=100)
        assert history.status == Status.CONVERGED


def test_a_direction_that_does_not_lead_down_makes_no_step():
    gradient = exact.gradient(MAIN, FIRST_GAIN)
    sideways = gradient[..., ::-1] * [1.0, -1.0]
    directions = np.stack([-gradient, sideways, 0.0 * gradient, np.nan * gradient])
    change = backtracking(MAIN)(directions, np.stack([FIRST_GAIN] * 4))
    history = descend(
        MAIN,
        FIRST_GAIN,
        lambda K: -exact.gradient(MAIN, K),
        backtracking(MAIN),
        updates=3,
    )
    np.testing.assert_array_equal(change[:3], 0.0)
    np.testing.assert_array_equal(history.K, [FIRST_GAIN] * 4)
    assert history.status == Status.STALLED


def test_where_it_cannot_fall_backtracking_stands_still_and_the_others_go_on():
    starts = np.stack([FIRST_GAIN, 10.0 * np.abs(FIRST_GAIN), exact.optimal_gain(MAIN)])
    history = descend(
        MAIN, starts, lambda K: exact.gradient(MAIN, K), backtracking(MAIN), updates=60
    )
    expected = [Status.CONVERGED, Status.DIVERGED, Status.CONVERGED]
    np.testing.assert_array_equal(history.status, expected)
    np.testing.assert_array_equal(history.K[:, 1], [starts[1]] * 61)
    alone = exactly("gradient", step=backtracking(MAIN), updates=60)
    close(history.K[:, 0], alone.K, rtol=1e-12)


def test_backtracking_of_one_gain_searches_for_each_of_many_covariances():
    lqr, K, _ = system(3, 2)
    covs = np.stack([spd(2, np.random.default_rng(k)) for k in range(4)])
    D = exact.gradient(lqr, K, covs)
    change = backtracking(lqr, cov=covs)(D, K)
    for found, direction, cov in zip(change, D, covs, strict=True):
        close(found, backtracking(lqr, cov=cov)(direction, K), rtol=1e-12)


@pytest.mark.parametrize("first", [1e6, 1.0])
def test_backtracking_on_stages_keeps_armijos_promise_and_arrives(first):
    for seed in range(20):
        lqr, K, rng = stabilised(3, 2, seed)
        S, T = spd(lqr.n, rng), 4
        start = np.stack([finite_horizon.constant(lqr, K, T)] * 2)
        start[1] += 0.3 * rng.standard_normal(start[1].shape)

        def gradient(K, lqr=lqr, S=S):
            return finite_horizon.gradient(lqr, K, terminal=S)

        rule = backtracking_stages(lqr, first, terminal=S)
        path = descend_stages(lqr, start, gradient, rule, terminal=S, updates=5)
        fall = -np.diff(path.cost, axis=0)
        steps = -np.diff(path.K, axis=0)
        slope = (np.stack([gradient(K) for K in path.K[:-1]]) * steps).sum((2, 3, 4))
        assert (slope > 0.0).all()
        assert (fall >= 0.9999e-4 * slope).all()
        alone = descend_stages(lqr, start[1], gradient, rule, terminal=S, updates=5)
        close(path.K[:, 1], alone.K, rtol=1e-9)
    path = descend_stages(
        MAIN,
        finite_horizon.constant(MAIN, FIRST_GAIN, 6),
        lambda K: finite_horizon.gradient(MAIN, K),
        backtracking_stages(MAIN, first),
        updates=60,
    )
    assert path.status == Status.CONVERGED


@pytest.mark.parametrize("size", [1e100, 1e300])
def test_directions_at_the_ends_of_the_floats_do_not_warn(size):
    gradient = size * exact.gradient(MAIN, FIRST_GAIN)
    for direction in (gradient, gradient / size / size):
        for first in (1.0, 1e10):
            change = backtracking(MAIN, first)(direction, FIRST_GAIN)
            assert exact.cost(MAIN, FIRST_GAIN - change) <= exact.cost(MAIN, FIRST_GAIN)


# Gains of stages.

STAGES = constant(MAIN, FIRST_GAIN, 6)


def by_stages(K0=STAGES, step=0.005, terminal=None, lqr=MAIN, **changes):
    options = {"terminal": terminal, "updates": 30} | changes
    return descend_stages(
        lqr,
        K0,
        lambda K: finite_horizon.gradient(lqr, K, terminal=terminal),
        step,
        **options,
    )


def test_stages_descend_by_steps_along_the_exact_gradient():
    S = np.array([[2.0, 0.5], [0.5, 1.0]])
    history = by_stages(terminal=S)
    np.testing.assert_array_equal(history.K[0], STAGES)
    for before, after in zip(history.K[:-1], history.K[1:], strict=True):
        gradient = finite_horizon.gradient(MAIN, before, terminal=S)
        close(after, before - 0.005 * gradient, rtol=1e-13)
    close(history.cost, finite_horizon.cost(MAIN, history.K, terminal=S), rtol=1e-13)


def test_short_steps_of_stages_fall_at_every_update_on_every_system():
    for lqr, K, _, rng in starts_everywhere(10):
        K0, S = constant(lqr, K, 5), spd(lqr.n, rng)
        gradient = finite_horizon.gradient(lqr, K0, terminal=S)
        step = 1e-4 / np.linalg.norm(gradient)
        history = by_stages(K0, step, S, lqr, updates=10)
        assert (np.diff(history.cost) < 0).all()


def test_stages_arrive_at_the_optimal_gains_of_each():
    S = np.eye(2)
    history = by_stages(step=0.1, terminal=S, updates=1500, within=1e-5)
    assert history.status == Status.CONVERGED
    best = finite_horizon.optimal_gains(MAIN, 6, terminal=S)
    close(history.K[-1], best, rtol=0, atol=0.02)


def test_the_last_cost_decides_what_the_optimum_of_stages_is():
    S = 100.0 * np.eye(2)
    best = finite_horizon.optimal_gains(MAIN, 6)[None]
    options = {"step": 0.0, "updates": 1}
    assert by_stages(best, **options).status == Status.CONVERGED
    assert by_stages(best, terminal=S, **options).status == Status.STALLED


def test_many_starts_of_stages_equal_a_loop_and_end_each_in_its_way():
    starts = np.stack([STAGES, -1e30 * STAGES, finite_horizon.optimal_gains(MAIN, 6)])
    together = by_stages(starts, updates=5)
    assert together.K.shape == (6, 3, 6, 1, 2)
    expected = [Status.DESCENDING, Status.DIVERGED, Status.CONVERGED]
    np.testing.assert_array_equal(together.status, expected)
    for i in range(3):
        alone = by_stages(starts[i], updates=5)
        close(together.K[:, i], alone.K, rtol=1e-12)
        close(together.cost[:, i], alone.cost, rtol=1e-12)
        assert together.status[i] == alone.status


def test_stages_that_leave_the_floats_stay_where_they_left():
    history = by_stages(step=1e60, updates=4)
    assert history.status == Status.DIVERGED
    np.testing.assert_array_equal(history.cost[1:], np.inf)
    np.testing.assert_array_equal(history.K[2:], [history.K[1]] * 3)


def test_stages_descend_by_queries_as_well():
    def queried(K):
        rng = np.random.default_rng(np.random.default_rng(0).integers(2**32))
        return zeroth_order_stages(
            MAIN, K, radius=0.1, n_trajectories=400, rng=rng, two_point=True
        )

    history = descend_stages(MAIN, STAGES, queried, 0.02, updates=40)
    assert history.cost[-1] < history.cost[0]


def test_the_exact_method_of_hambly_falls_as_published_curves_do():
    lqr = worlds.hambly()
    K0 = constant(lqr, np.full((2, 4), -0.05), 10)
    history = by_stages(K0, 5e-4, lqr.Q, lqr, updates=80)
    best = finite_horizon.optimal_gains(lqr, 10, terminal=lqr.Q)
    J = finite_horizon.cost(lqr, best, terminal=lqr.Q)
    close(history.cost[[0, 20, 80]] / J - 1, [0.842, 0.0163, 0.0114], rtol=5e-3)


# Sampled gradients.


def test_an_estimate_counts_with_its_gradient():
    def estimate(K):
        return GradientEstimate(exact.gauss_newton(MAIN, K), np.nan, np.nan)

    history = descend(MAIN, FIRST_GAIN, estimate, 1.0, updates=8)
    np.testing.assert_array_equal(history.K, exactly("Gauss-Newton").K)


def sanity_check(seed):
    """Whether the hack, and the critic's step, arrive on one set of real data."""
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 200, 40, seed)
    hack = descend(
        MAIN,
        FIRST_GAIN,
        lambda K: per_decision_is(MAIN, data, K, cov=1.0),
        of_length(0.05),
        updates=60,
    )
    critic = descend(
        MAIN, FIRST_GAIN, lambda K: gauss_newton_dpg(MAIN, data, K), 0.5, updates=20
    )
    return [history.status == Status.CONVERGED for history in (hack, critic)]


def test_the_critics_step_passes_the_sanity_check_on_which_the_hack_fails():
    hacks, critics = zip(*map(sanity_check, range(5)), strict=True)
    assert all(critics)
    assert sum(hacks) <= 2


# What is refused (bad gains: `arguments.py`).


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step", {"step": "0.1"}),
        ("step", {"step": True}),
        ("step", {"step": np.nan}),
        ("step", {"step": [0.1, 0.2]}),
        ("updates", {"updates": 0}),
        ("updates", {"updates": 2.0}),
        ("updates", {"updates": True}),
        ("within", {"within": -0.1}),
        ("within", {"within": np.nan}),
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(name, options):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        exactly("gradient", **({"updates": 2} | options))


@pytest.mark.parametrize("length", ["1", None, True, np.nan, np.inf, [1.0], 1j])
def test_a_length_that_is_no_number_is_refused_by_name(length):
    with pytest.raises(ValueError, match=r"^length: expected .+, found .+"):
        of_length(length)


@pytest.mark.parametrize("first", ["1", None, True, np.nan, np.inf, 0.0, -1.0, [1.0]])
def test_a_first_step_that_is_no_number_above_zero_is_refused_by_name(first):
    with pytest.raises(ValueError, match=r"^first: expected .+, found .+"):
        backtracking(MAIN, first)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step", {"step": "0.1"}),
        ("updates", {"updates": 0}),
        ("within", {"within": -0.1}),
        ("K0", {"K0": FIRST_GAIN}),
        ("terminal", {"terminal": -np.eye(2)}),
    ],
    ids=str,
)
def test_bad_options_of_stages_are_refused_by_name(name, options):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        by_stages(**({"updates": 2} | options))
