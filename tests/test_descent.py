"""Descent: it arrives with exact gradients, and a path that is lost stays harmless."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import FIRST_GAIN, close, gaussian_data, stabilised, system

from lqrlib import GradientEstimate, Status, exact, worlds
from lqrlib.descent import descend, moved, of_length
from lqrlib.gradients import gauss_newton_dpg, per_decision_is

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


# Steps of one length.


@given(
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32 - 1),
    st.floats(-100, 100).map(lambda power: 10.0**power),
)
@settings(deadline=None, derandomize=True)
def test_steps_of_a_length_have_it_and_keep_the_direction(length, seed, size):
    gradient = size * np.random.default_rng(seed).standard_normal((4, 2, 3))
    change = of_length(length)(gradient)
    close(np.linalg.norm(change, axis=(-2, -1)), length, rtol=1e-12)
    factor = length / np.linalg.norm(gradient, axis=(-2, -1), keepdims=True)
    close(change, factor * gradient, rtol=1e-12)


def test_a_zero_gradient_makes_no_step_of_any_length():
    np.testing.assert_array_equal(of_length(0.5)(np.zeros((2, 1, 2))), 0.0)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_steps_of_a_length_have_it_at_the_ends_of_the_floats_too(size):
    assert np.linalg.norm(of_length(0.5)(np.full((1, 2), size))) == pytest.approx(0.5)


def test_a_rule_of_length_is_used_on_every_update():
    history = exactly("gradient", step=of_length(0.05), updates=4)
    lengths = np.linalg.norm(np.diff(history.K, axis=0), axis=(-2, -1))
    close(lengths, 0.05, rtol=1e-12)


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
