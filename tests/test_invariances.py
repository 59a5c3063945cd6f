"""What a change of basis, of the unit of cost or of the discount must not change.

In other bases, x̃ = Sx and ũ = Uu, a gain is UKS⁻¹, and so is all that is subtracted
from gains: the steps. A slope, of which the inner product with a gain counts, is
U⁻ᵀgS'. The discounted problem with noise is the noise-free one without discount of
(√γA, √γB), starts with X₀ + γ/(1−γ)(W + BΣB'), and tr(RΣ)/(1−γ) on top.
"""

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from systems import (
    close,
    discounted_source,
    gaussian_data,
    in_bases,
    regular,
    spd,
    stabilised,
    stable_gain,
)

from lqrlib import (
    GaussianPolicy,
    ensemble,
    exact,
    finite_horizon,
    forecast,
    gradients,
    ladder,
    observed,
    rates,
    soft,
)
from lqrlib.critic import lstdq
from lqrlib.descent import backtracking, backtracking_stages, descend, descend_stages
from lqrlib.diagnose import diagnose
from lqrlib.importance import estimated_cost
from lqrlib.model import LinearModel, fit, prediction_error
from lqrlib.rollout import Trajectories, Transitions, transitions
from lqrlib.weight_moments import (
    breakdown,
    critical_covariance,
    log_moment,
    second_moment,
    tail_index,
)

few = settings(
    deadline=None,
    max_examples=10,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a seed has no simpler one to be shrunk to
)
every_system = given(
    st.builds(
        stabilised, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1)
    )
)
small_system = given(
    st.builds(
        stabilised, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**32 - 1)
    )
)
T, N = 4, 40


class Bases:
    """Other bases of states and actions, and what is what in them."""

    def __init__(self, lqr, rng, *, orthogonal=False):
        self.S, self.U = regular(lqr.n, rng), regular(lqr.m, rng)
        if orthogonal:
            self.U = np.linalg.qr(self.U)[0]
        self.lqr = in_bases(lqr, self.S, self.U)
        self.back, self.undo = np.linalg.inv(self.S), np.linalg.inv(self.U)

    def gain(self, K):
        return self.U @ K @ self.back

    def slope(self, g):
        return self.undo.T @ g @ self.S.T

    def states(self, X):
        return self.S @ X @ self.S.T

    def values(self, P):
        return self.back.T @ P @ self.back

    def actions(self, cov):
        return self.U @ cov @ self.U.T

    def curvature(self, C):
        return self.undo.T @ C @ self.undo

    def pairs(self, Theta):
        """A form in (x, u)."""
        n, m = len(self.S), len(self.U)
        both = np.block([[self.back, np.zeros((n, m))], [np.zeros((m, n)), self.undo]])
        return both.T @ Theta @ both

    def trajectories(self, data):
        K, cov = self.gain(data.policy.K), self.actions(data.policy.cov)
        policy = GaussianPolicy(K, cov)
        x, u = data.x @ self.S.T, data.u @ self.U.T
        return Trajectories(x, u, data.cost, data.diverged, policy)


def same(found, wanted, accuracy=1e-7):
    """Equal but for rounding, told from the largest entry."""
    wanted = np.asarray(wanted)
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    close(found, wanted, rtol=accuracy, atol=accuracy * size)


def dearer(lqr, unit):
    return dataclasses.replace(lqr, Q=unit * lqr.Q, R=unit * lqr.R)


def undiscounted(lqr, cov):
    """The noise-free problem without discount that has the same gains and values."""
    root = np.sqrt(lqr.gamma)
    return dataclasses.replace(
        lqr,
        A=root * lqr.A,
        B=root * lqr.B,
        X0=discounted_source(lqr, cov),
        W=0.0 * lqr.W,
        gamma=1.0,
    )


def data_of(lqr, K, rng):
    return gaussian_data(lqr, K, spd(lqr.m, rng), N, T, seed=int(rng.integers(2**31)))


# --- bases -------------------------------------------------------------------------


@few
@every_system
def test_exact_quantities_follow_the_bases(drawn):
    lqr, K, rng = drawn
    b, cov = Bases(lqr, rng), spd(lqr.m, rng)
    here = exact.evaluate(lqr, K, cov)
    there = exact.evaluate(b.lqr, b.gain(K), b.actions(cov))
    same(there.cost, here.cost)
    same(there.gradient, b.slope(here.gradient))
    same(there.P, b.values(here.P))
    same(there.X, b.states(here.X))
    same(there.E, b.undo.T @ here.E @ b.back)
    same(exact.q_matrix(b.lqr, b.gain(K)), b.pairs(exact.q_matrix(lqr, K)))
    step = exact.gauss_newton(lqr, K)
    same(exact.gauss_newton(b.lqr, b.gain(K)), b.gain(step))
    average = exact.average_cost(lqr, 0.0 * K, cov)
    same(exact.average_cost(b.lqr, 0.0 * K, b.actions(cov)), average)
    same(exact.optimal_gain(b.lqr), b.gain(exact.optimal_gain(lqr)), 1e-6)


@few
@every_system
def test_stages_follow_the_bases(drawn):
    lqr, _, rng = drawn
    b, cov, last = Bases(lqr, rng), spd(lqr.m, rng), spd(lqr.n, rng)
    K = np.array([stable_gain(lqr, rng) for _ in range(T)])
    here = finite_horizon.evaluate(lqr, K, cov, terminal=last)
    there = finite_horizon.evaluate(
        b.lqr, b.gain(K), b.actions(cov), terminal=b.values(last)
    )
    same(there.cost, here.cost)
    same(there.gradient, b.slope(here.gradient))
    same(there.P, b.values(here.P))
    same(there.X, b.states(here.X))
    best = finite_horizon.optimal_gains(lqr, T, terminal=last)
    moved = finite_horizon.optimal_gains(b.lqr, T, terminal=b.values(last))
    same(moved, b.gain(best))


@few
@every_system
def test_rates_do_not_depend_on_the_basis_of_the_state(drawn):
    lqr, K, rng = drawn
    b, cov, other = (
        Bases(lqr, rng, orthogonal=True),
        spd(lqr.m, rng),
        stable_gain(lqr, rng),
    )
    moved, moved_cov = b.gain(K), b.actions(cov)
    same(rates.curvature(b.lqr, moved), b.curvature(rates.curvature(lqr, K)))
    change = rates.cost_change(lqr, K, other, cov)
    assert rates.cost_change(b.lqr, moved, b.gain(other), moved_cov) == pytest.approx(
        change, rel=1e-6, abs=1e-8 * exact.cost(lqr, K, cov)
    )
    here = rates.domination(lqr, K, cov)
    there = rates.domination(b.lqr, moved, moved_cov)
    size = exact.cost(lqr, K, cov)
    close(there[:2], here[:2], rtol=1e-6, atol=1e-8 * size)
    for method in rates.METHODS[1:]:
        same(rates.step_limit(b.lqr, method), rates.step_limit(lqr, method), 1e-6)
        step = 0.3 * rates.step_limit(lqr, method)
        rate = rates.local_rate(lqr, method, step)
        same(rates.local_rate(b.lqr, method, step), rate, 1e-6)
        factor = rates.contraction(lqr, K, method, 0.1, cov)
        found = rates.contraction(b.lqr, moved, method, 0.1, moved_cov)
        same(found, factor, 1e-6)


@few
@small_system
def test_weights_know_of_no_basis_and_of_no_cost(drawn):
    lqr, K, rng = drawn
    b, cov, other = Bases(lqr, rng), spd(lqr.m, rng), spd(lqr.m, rng)
    D = 0.05 * rng.standard_normal(K.shape)
    near, made_by, there = b.gain(K + D), b.gain(K), b.actions(cov)
    for order in (0.5, 1.5, 2.0):
        options = {"horizon": T, "order": order}
        here = log_moment(lqr, K + D, K, cov, cov_behaviour=other, **options)
        same(
            log_moment(
                b.lqr, near, made_by, there, cov_behaviour=b.actions(other), **options
            ),
            here,
            1e-6,
        )
    dear = dearer(lqr, 1e3)
    for function in (second_moment, tail_index):
        here = function(lqr, K + D, K, cov, T)
        same(function(b.lqr, near, made_by, there, T), here, 1e-6)
        assert function(dear, K + D, K, cov, T) == here
    here = breakdown(lqr, K, D, cov, T)
    same(breakdown(b.lqr, made_by, b.gain(D), there, T), here, 1e-6)
    assert breakdown(dear, K, D, cov, T) == here


@few
@small_system
def test_the_critical_covariance_knows_of_no_basis_of_the_state_and_of_no_cost(drawn):
    lqr, K, rng = drawn
    b, D = Bases(lqr, rng, orthogonal=True), 0.05 * rng.standard_normal(K.shape)
    here = critical_covariance(lqr, K + D, K, T)
    same(critical_covariance(b.lqr, b.gain(K + D), b.gain(K), T), here, 1e-6)
    assert critical_covariance(dearer(lqr, 1e3), K + D, K, T) == here


@few
@every_system
def test_the_soft_cost_and_its_slopes_follow_the_basis_of_the_state(drawn):
    lqr, K, rng = drawn
    b, cov, tau = Bases(lqr, rng, orthogonal=True), spd(lqr.m, rng), 0.3
    moved, there = b.gain(K), b.actions(cov)
    same(soft.cost(b.lqr, moved, there, tau), soft.cost(lqr, K, cov, tau))
    best = soft.best_covariance(lqr, K, tau)
    same(soft.best_covariance(b.lqr, moved, tau), b.actions(best))
    here, found = (
        soft.gradient(*args, tau) for args in ((lqr, K, cov), (b.lqr, moved, there))
    )
    same(found.K, b.slope(here.K))
    same(found.cov, b.curvature(here.cov))
    here = soft.fisher_gradient(lqr, K, cov, tau)
    found = soft.fisher_gradient(b.lqr, moved, there, tau)
    same(found.K, b.gain(here.K))
    same(found.cov, b.actions(here.cov))
    here, found = (
        soft.action_value(*args, tau) for args in ((lqr, K, cov), (b.lqr, moved, there))
    )
    same(found.Theta, b.pairs(here.Theta))
    same(found.const, here.const)


@few
@small_system
def test_fits_to_data_follow_their_bases(drawn):
    lqr, K, rng = drawn
    b, rows = Bases(lqr, rng), transitions(data_of(lqr, K, rng))
    moved = Transitions(rows.x @ b.S.T, rows.u @ b.U.T, rows.cost, rows.x_next @ b.S.T)
    here, there = fit(rows), fit(moved)
    same(there.A, b.S @ here.A @ b.back, 1e-6)
    same(there.B, b.S @ here.B @ b.undo, 1e-6)
    same(there.W, b.states(here.W), 1e-6)
    same(
        prediction_error(there, moved),
        np.trace(b.S @ here.W @ b.S.T) * (N * T - lqr.n - lqr.m) / (N * T),
        1e-6,
    )
    critic, found = lstdq(lqr, rows, K), lstdq(b.lqr, moved, b.gain(K))
    assert found.rank == critic.rank
    same(found.Theta, b.pairs(critic.Theta), 1e-5)
    size = np.abs(critic.const) + np.abs(rows.cost).max()
    close(found.const, critic.const, rtol=1e-5, atol=1e-5 * size)


SLOPES = {
    "trajectory_is": {"baseline": True},
    "per_decision_is": {"value_baseline": True},
    "self_normalised_is": {"time_baseline": True},
    "mixture_is": {},
    "clipped_is": {"limit": 1.5},
    "per_step_is": {},
    "ppo_is": {},
    "doubly_robust_is": {},
    "actor_critic_is": {},
    "dpg": {},
}


@pytest.mark.parametrize("name", SLOPES)
@few
@small_system
def test_a_gradient_from_data_follows_their_bases(name, drawn):
    lqr, K, rng = drawn
    b, data, cov = Bases(lqr, rng), data_of(lqr, K, rng), spd(lqr.m, rng)
    near = K + 0.02 * rng.standard_normal(K.shape)
    call = partial(getattr(gradients, name), **SLOPES[name])
    here = call(lqr, data, near, cov=cov)
    there = call(b.lqr, b.trajectories(data), b.gain(near), cov=b.actions(cov))
    same(there.gradient, b.slope(here.gradient), 1e-5)
    same(there.effective_sample_size, here.effective_sample_size)


@few
@small_system
def test_steps_and_costs_from_data_follow_their_bases(drawn):
    lqr, K, rng = drawn
    b, data, cov = Bases(lqr, rng), data_of(lqr, K, rng), spd(lqr.m, rng)
    moved, there = b.trajectories(data), b.gain(K)
    step = gradients.gauss_newton_dpg(lqr, data, K).gradient
    found = gradients.gauss_newton_dpg(b.lqr, moved, there).gradient
    same(found, b.gain(step), 1e-5)
    E = gradients.natural_dpg(lqr, data, K).gradient
    found = gradients.natural_dpg(b.lqr, moved, there).gradient
    same(found, b.undo.T @ E @ b.back, 1e-5)
    for weighting in ("trajectory", "per-decision", "self-normalised"):
        here = estimated_cost(lqr, data, K, cov=cov, weighting=weighting)
        options = {"cov": b.actions(cov), "weighting": weighting}
        same(estimated_cost(b.lqr, moved, there, **options), here)


@few
@small_system
def test_forecasts_follow_the_bases(drawn):
    lqr, K, rng = drawn
    b, cov = Bases(lqr, rng), spd(lqr.m, rng)
    moved, there = b.gain(K), b.actions(cov)
    rows = forecast.effective_rows(lqr, K, cov, T)
    same(forecast.effective_rows(b.lqr, moved, there, T), rows, 1e-6)
    turn = np.kron(b.U, b.back.T)  # of a gain's entries, row by row
    law = forecast.model_law(lqr, K, cov, T)
    found = forecast.model_law(b.lqr, moved, there, T)
    same(found, turn @ law @ turn.T, 1e-5)
    rise = forecast.median_rise(lqr, law)
    same(forecast.median_rise(b.lqr, found), rise, 1e-5)
    here = forecast.critic_law(lqr, K, cov, T).gain
    same(forecast.critic_law(b.lqr, moved, there, T).gain, turn @ here @ turn.T, 1e-5)


@pytest.mark.parametrize("rung", ladder.RUNGS)
@few
@small_system
def test_a_rungs_mean_follows_the_bases_and_its_variance_the_units(rung, drawn):
    lqr, K, rng = drawn
    b, cov = Bases(lqr, rng), spd(lqr.m, rng)
    near = stable_near(lqr, K, rng)
    here = ladder.spread(lqr, near, K, cov, T, rung)
    there = ladder.spread(b.lqr, b.gain(near), b.gain(K), b.actions(cov), T, rung)
    same(there.mean, b.slope(here.mean), 1e-6)
    b.S, b.U = (np.diag(rng.uniform(0.5, 2.0, k)) for k in (lqr.n, lqr.m))
    b.back, b.undo = np.linalg.inv(b.S), np.linalg.inv(b.U)
    b.lqr = in_bases(lqr, b.S, b.U)
    there = ladder.spread(b.lqr, b.gain(near), b.gain(K), b.actions(cov), T, rung)
    variance = np.square(b.undo) @ here.variance @ np.square(b.S)
    wanted = np.where(np.isnan(variance), np.inf, variance)
    same(there.variance, wanted, 1e-6)


def stable_near(lqr, K, rng):
    step = 0.02 * rng.standard_normal(K.shape)
    while not exact.is_stable(lqr, K + step):
        step *= 0.5
    return K + step


@few
@small_system
def test_what_an_ensemble_plans_follows_the_bases(drawn):
    lqr, K, rng = drawn
    b, E = Bases(lqr, rng), 3
    A = lqr.A + 0.02 * rng.standard_normal((E, lqr.n, lqr.n))
    B = lqr.B + 0.02 * rng.standard_normal((E, lqr.n, lqr.m))
    W, one = np.broadcast_to(lqr.W, A.shape), np.ones(E)
    here = LinearModel(A, B, W, one)
    there = LinearModel(b.S @ A @ b.back, b.S @ B @ b.undo, b.states(W), one)
    stable = ensemble.is_stable(lqr, here, K)
    assert ensemble.is_stable(b.lqr, there, b.gain(K)) == stable
    P = ensemble.value_matrix(lqr, here, K)
    same(ensemble.value_matrix(b.lqr, there, b.gain(K)), b.values(P), 1e-6)
    plan, found = ensemble.optimal_gain(lqr, here), ensemble.optimal_gain(b.lqr, there)
    same(found.K, b.gain(plan.K), 1e-5)
    same(found.P, b.values(plan.P), 1e-5)


@few
@small_system
def test_the_best_gain_of_all_states_is_the_optimal_one_in_every_basis(drawn):
    lqr, K, rng = drawn
    b = Bases(lqr, rng)
    found = observed.best_gain(b.lqr, b.gain(K))
    best = exact.cost(lqr, exact.optimal_gain(lqr))
    assert exact.cost(b.lqr, found) == pytest.approx(best, rel=1e-6)


@few
@small_system
def test_a_diagnosis_does_not_depend_on_the_bases(drawn):
    lqr, K, rng = drawn
    b, cov = Bases(lqr, rng, orthogonal=True), spd(lqr.m, rng)
    here = diagnose(lqr, K, cov, T, 10)
    there = diagnose(b.lqr, b.gain(K), b.actions(cov), T, 10)
    same(there.costs[:3], here.costs[:3], 1e-6)
    same(there.weights[:3], here.weights[:3], 1e-5)
    same(there.model, here.model, 1e-5)
    same(there.critic, here.critic, 1e-5)
    assert there.excitation.identifiable == here.excitation.identifiable


# --- the unit of cost --------------------------------------------------------------


@few
@small_system
def test_the_unit_of_cost_is_that_of_costs_slopes_and_temperatures(drawn):
    lqr, K, rng = drawn
    unit, cov, tau = 10.0 ** rng.uniform(-4, 4), spd(lqr.m, rng), 0.3
    dear, last = dearer(lqr, unit), spd(lqr.n, rng)
    stages = np.array([stable_gain(lqr, rng) for _ in range(T)])
    here = finite_horizon.evaluate(lqr, stages, cov, terminal=last)
    there = finite_horizon.evaluate(dear, stages, cov, terminal=unit * last)
    same(there.cost, unit * here.cost)
    same(there.gradient, unit * here.gradient)
    cost = soft.cost(lqr, K, cov, tau)
    assert soft.cost(dear, K, cov, unit * tau) == pytest.approx(
        unit * cost, rel=1e-7, abs=1e-7 * unit * exact.cost(lqr, K, cov)
    )
    best, found = soft.optimal_policy(lqr, tau), soft.optimal_policy(dear, unit * tau)
    same(found.cov, best.cov)
    same(found.K, best.K)
    for slope in (soft.gradient, soft.fisher_gradient):
        here, there = slope(lqr, K, cov, tau), slope(dear, K, cov, unit * tau)
        same(there.K, unit * here.K)
        same(there.cov, unit * here.cov)
    here, there = rates.domination(lqr, K, cov), rates.domination(dear, K, cov)
    close(there, unit * np.array(here), rtol=1e-6, atol=1e-9 * unit)
    limit = rates.step_limit(lqr, "gradient", cov)
    same(unit * rates.step_limit(dear, "gradient", cov), limit)
    same(rates.step_limit(dear, "gauss_newton"), 2.0)


@few
@small_system
def test_data_in_another_unit_of_cost_give_the_same_steps_and_longer_slopes(drawn):
    lqr, K, rng = drawn
    unit, data, cov = 10.0 ** rng.uniform(-3, 3), data_of(lqr, K, rng), spd(lqr.m, rng)
    dear, paid = dearer(lqr, unit), data._replace(cost=unit * data.cost)
    rows, dearer_rows = transitions(data), transitions(paid)
    same(lstdq(dear, dearer_rows, K).Theta, unit * lstdq(lqr, rows, K).Theta)
    for name, options in SLOPES.items():
        call = partial(getattr(gradients, name), cov=cov, **options)
        here, there = call(lqr, data, K), call(dear, paid, K)
        factor = 1.0 if name == "ppo_is" else unit  # its advantages are normalised
        same(there.gradient, factor * here.gradient, 1e-6)
        same(there.standard_error, factor * here.standard_error, 1e-6)
    here = gradients.gauss_newton_dpg(lqr, data, K).gradient
    same(gradients.gauss_newton_dpg(dear, paid, K).gradient, here, 1e-6)


@few
@small_system
def test_no_forecast_but_that_of_a_cost_depends_on_its_unit(drawn):
    lqr, K, rng = drawn
    unit, cov = 10.0 ** rng.uniform(-3, 3), spd(lqr.m, rng)
    dear = dearer(lqr, unit)
    law = forecast.model_law(lqr, K, cov, T)
    same(forecast.model_law(dear, K, cov, T), law, 1e-6)
    rise = forecast.median_rise(lqr, law)
    same(forecast.median_rise(dear, law), unit * rise, 1e-6)
    here, there = (forecast.critic_law(world, K, cov, T) for world in (lqr, dear))
    same(there.gain, here.gain, 1e-6)
    same(there.curvature, here.curvature, 1e-6)
    here, there = diagnose(lqr, K, cov, T, 10), diagnose(dear, K, cov, T, 10)
    same(there.costs[:3], unit * np.array(here.costs[:3]), 1e-6)
    same(there.weights, here.weights, 1e-6)
    same([*there.model, *there.critic], [*here.model, *here.critic], 1e-6)


@pytest.mark.parametrize("rung", ladder.RUNGS)
@few
@small_system
def test_a_rung_is_in_the_unit_of_cost(rung, drawn):
    lqr, K, rng = drawn
    near, cov, unit = stable_near(lqr, K, rng), spd(lqr.m, rng), 100.0
    here = ladder.spread(lqr, near, K, cov, T, rung)
    there = ladder.spread(dearer(lqr, unit), near, K, cov, T, rung)
    same(there.mean, unit * here.mean)
    same(there.deviation, unit * here.deviation)


# --- the discount ------------------------------------------------------------------


@few
@every_system
def test_a_discount_with_noise_is_no_discount_and_other_starts(drawn):
    lqr, K, rng = drawn
    cov, other = spd(lqr.m, rng), stable_gain(lqr, rng)
    plain = undiscounted(lqr, cov)
    here, there = exact.evaluate(lqr, K, cov), exact.evaluate(plain, K)
    same(there.cost + np.trace(lqr.R @ cov) / (1.0 - lqr.gamma), here.cost)
    for name in ("gradient", "P", "X", "E"):
        same(getattr(there, name), getattr(here, name))
    for function in (exact.natural_gradient, exact.gauss_newton, rates.curvature):
        same(function(plain, K), function(lqr, K))
    same(exact.optimal_gain(plain), exact.optimal_gain(lqr))
    change = rates.cost_change(lqr, K, other, cov)
    size = 1e-9 * here.cost
    assert rates.cost_change(plain, K, other) == pytest.approx(change, abs=size)
    found = rates.domination(plain, K)
    close(found, rates.domination(lqr, K, cov), rtol=1e-6, atol=size)
    for method in rates.METHODS:
        limit = rates.step_limit(lqr, method, cov)
        same(rates.step_limit(plain, method), limit)
    for method in rates.METHODS[1:]:
        factor = rates.contraction(lqr, K, method, 0.1, cov)
        same(rates.contraction(plain, K, method, 0.1), factor)


@few
@every_system
def test_stages_without_noise_are_stages_without_discount(drawn):
    lqr, _, rng = drawn
    silent, last = dataclasses.replace(lqr, W=0.0 * lqr.W), spd(lqr.n, rng)
    plain = dataclasses.replace(undiscounted(lqr, 0.0 * lqr.R), X0=lqr.X0)
    K = np.array([stable_gain(lqr, rng) for _ in range(T)])
    here = finite_horizon.evaluate(silent, K, terminal=last)
    there = finite_horizon.evaluate(plain, K, terminal=last)
    for found, wanted in zip(there, here, strict=True):
        same(found, wanted)
    same(
        finite_horizon.optimal_gains(plain, T, terminal=last),
        finite_horizon.optimal_gains(silent, T, terminal=last),
    )


# --- descents ----------------------------------------------------------------------


def assert_never_rises(cost):
    assert np.isfinite(cost).all()
    assert (np.diff(cost, axis=0) <= 1e-12 * np.abs(cost[:-1])).all()
    assert (cost[-1] < cost[0]).all()


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0, 1.9])
@few
@every_system
def test_policy_iteration_never_raises_the_cost(step, drawn):
    lqr, K, _ = drawn
    direction = rates.direction(lqr, "gauss_newton")
    assert_never_rises(descend(lqr, K, direction, step, updates=8).cost)


@few
@every_system
def test_the_natural_gradient_below_its_limit_never_raises_the_cost(drawn):
    lqr, K, _ = drawn
    limit = 1.0 / np.linalg.eigvalsh(rates.curvature(lqr, K))[-1]
    direction = rates.direction(lqr, "natural_gradient")
    assert_never_rises(descend(lqr, K, direction, 0.99 * limit, updates=8).cost)


@few
@every_system
def test_backtracking_never_raises_the_cost(drawn):
    lqr, K, rng = drawn
    direction = rates.direction(lqr, "gradient")
    history = descend(lqr, K, direction, backtracking(lqr), updates=8)
    assert_never_rises(history.cost)
    stages = np.array([stable_gain(lqr, rng) for _ in range(T)])
    last = spd(lqr.n, rng)
    history = descend_stages(
        lqr,
        stages,
        lambda K: finite_horizon.gradient(lqr, K, terminal=last),
        backtracking_stages(lqr, terminal=last),
        terminal=last,
        updates=8,
    )
    assert_never_rises(history.cost)


@few
@every_system
def test_soft_policy_iteration_never_raises_the_soft_cost(drawn):
    lqr, K, rng = drawn
    tau = 10.0 ** rng.uniform(-2, 1)
    path = soft.policy_iteration(lqr, K, spd(lqr.m, rng), tau, 6)
    cost = soft.cost(lqr, path.K, path.cov, tau)
    rounding = 1e-12 * exact.cost(lqr, path.K, path.cov)[:-1]
    assert (np.diff(cost) <= rounding + 1e-12 * np.abs(cost[:-1])).all()
    assert cost[-1] < cost[0]
