"""Baselines, mixtures, truncation, and the cost of which the hack is the gradient."""

import functools

import numpy as np
import pytest
from by_hand import (
    HORIZON,
    every_world,
    fit_by_hand,
    many_sets,
    mean_and_error,
    mixture_by_hand,
    off_policy,
    on_its_own,
    parts_by_hand,
    slope,
    truncated_cost,
    truncated_gradient,
)
from systems import (
    FIRST_GAIN,
    FIRST_GAINS,
    MOST,
    NAMED,
    close,
    gaussian_data,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, weights, worlds
from lqrlib._weighted import fitted_to_states
from lqrlib.importance import (
    WEIGHTINGS,
    clipped_is,
    estimated_cost,
    mixture_is,
    per_decision_is,
    self_normalised_is,
    trajectory_is,
)
from lqrlib.rollout import concatenate, rollout
from lqrlib.weights import effective_sample_size, log_ratios, log_weights

MAIN = worlds.double_integrator()
GRADIENT_OF = {
    "trajectory": trajectory_is,
    "per-decision": per_decision_is,
    "self-normalised": functools.partial(self_normalised_is, time_baseline=True),
}
every_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS)
return_baseline = functools.partial(trajectory_is, baseline=True)
time_baseline = functools.partial(per_decision_is, time_baseline=True)
value_baseline = functools.partial(per_decision_is, value_baseline=True)


def two_trajectories():
    """Scalar, one step: x = 2, 1 and u = −1, 2; cost x² + u² = 5, 5 at q = r = 1."""
    noise = [[[0.5, 0.0]], [[1.5, 0.0]]]
    policy, rng = GaussianPolicy([[-1.0]], 4.0), np.random.default_rng(0)
    lqr = worlds.scalar()
    return lqr, rollout(lqr, policy, 2, 1, rng, x0=[[2.0], [1.0]], noise=noise)


# Baselines.


def value_terms_by_hand(lqr, data, K, cov):
    w, c, S = parts_by_hand(lqr, data, K, cov)
    steps = np.diff(S, axis=1, prepend=0.0 * S[:, :1])
    N, T = w.shape
    paid = np.array([[sum(w[i, t:] * c[i, t:]) for t in range(T)] for i in range(N)])
    left = paid - w * fit_by_hand(data.x, paid / w, w)
    return np.einsum("it,itmn->imn", left, steps)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_the_value_baseline_is_its_formula_written_as_loops(n, m):
    arguments = off_policy(n, m, n_trajectories=24)
    gradient, error = mean_and_error(value_terms_by_hand(*arguments))
    *others, cov = arguments
    found = value_baseline(*others, cov=cov)
    close(found.gradient, gradient, rtol=1e-8, atol=1e-8 * np.abs(gradient).max())
    close(found.standard_error, error, rtol=1e-8)


def test_baselines_of_one_scalar_step_by_hand():
    # At K = −1 weights are 1; e/σ² x is ¼·1·2 = ½ and ¼·3·1 = ¾. Costs are 5 and 1 + 4.
    lqr, data = two_trajectories()
    np.testing.assert_array_equal(data.cost, [[5.0], [5.0]])
    plain = per_decision_is(lqr, data, [[-1.0]], cov=4.0).gradient
    assert plain == 5 * (0.5 + 0.75) / 2
    for function in (return_baseline, time_baseline, value_baseline):
        found = function(lqr, data, [[-1.0]], cov=4.0).gradient
        assert found == pytest.approx(0.0, abs=1e-13)
    changed = data._replace(cost=np.array([[5.0], [8.0]]))
    for function in (return_baseline, time_baseline):
        found = function(lqr, changed, [[-1.0]], cov=4.0).gradient
        assert found == pytest.approx((0.5 * -1.5 + 0.75 * 1.5) / 2, rel=1e-14)


@pytest.mark.parametrize("function", [return_baseline, time_baseline])
def test_a_baseline_takes_out_what_every_trajectory_pays(function):
    lqr, data, K, cov = off_policy(n_trajectories=24)
    dearer = data._replace(cost=data.cost + 1000.0)
    cheap, dear = (function(lqr, some, K, cov=cov) for some in (data, dearer))
    close(dear.gradient, cheap.gradient, rtol=1e-7)
    close(dear.standard_error, cheap.standard_error, rtol=1e-7)
    plain = per_decision_is(lqr, dearer, K, cov=cov).gradient
    assert np.abs(plain - cheap.gradient).min() > 1.0


def test_the_value_baseline_does_so_while_no_later_weight_varies():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, K, cov, 24, 4)
    dearer = data._replace(cost=data.cost + 1000.0)
    moved = [
        np.abs(dear.gradient - cheap.gradient).max() / np.abs(cheap.gradient).max()
        for gain in (K, 0.9 * K)
        for cheap, dear in [
            [value_baseline(lqr, some, gain, cov=cov) for some in (data, dearer)]
        ]
    ]
    assert moved[0] < 1e-7 < 0.1 < moved[1]


def test_the_value_baseline_takes_out_what_the_first_state_decides():
    # Later costs are 0: the cost to go of the first step is a quadratic of its state.
    lqr, data, K, cov = off_policy(n_trajectories=24)
    P = np.diag([3.0, 1.0, 2.0]) + 0.5
    first = np.einsum("ij,jk,ik->i", data.x[:, 0], P, data.x[:, 0])
    data = data._replace(cost=first[:, None] * [1.0, 0.0, 0.0, 0.0])
    found = value_baseline(lqr, data, K, cov=cov).gradient
    close(found, np.zeros((2, 3)), atol=1e-10 * first.max())


@every_world
@pytest.mark.parametrize("function", [value_baseline, return_baseline])
def test_with_a_baseline_the_mean_stays_and_the_spread_falls(function, world):
    lqr, data, K, cov = many_sets(world, n_trajectories=4000, batch=60)
    plain = trajectory_is if function is return_baseline else per_decision_is
    found, without = (f(lqr, data, K, cov=cov).gradient for f in (function, plain))
    truth = truncated_gradient(lqr, K, cov, HORIZON)
    assert np.abs(z_scores(found, truth)).max() < MOST
    assert (found.std(axis=0) < 0.9 * without.std(axis=0)).all()


def test_a_fit_to_few_states_leaves_nothing_and_breaks_nothing():
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 3, 5)  # four coefficients
    found = value_baseline(MAIN, data, FIRST_GAIN, cov=1.0)
    close(found.gradient, np.zeros((1, 2)), atol=1e-9)


def test_a_fit_to_states_on_a_line_reaches_all_that_depends_on_it():
    line = np.linspace(-2.0, 2.0, 9)
    x = np.stack([line, 3.0 * line])[None]  # [T, n, N]
    values = (1.0 + 2.0 * line**2)[None]
    found = fitted_to_states(x, values, np.ones((1, 9)))
    close(found, values, rtol=1e-10)


def test_a_fit_leaves_out_what_has_no_weight_or_no_finite_value():
    rng = np.random.default_rng(0)
    x, values = rng.standard_normal((1, 2, 12)), rng.uniform(size=(1, 12))
    w = np.ones(12)
    kept = np.ones(12, bool)
    kept[[2, 5]] = False
    spoiled = np.where(np.arange(12) == 2, np.inf, values)
    w[5] = 0.0
    found = fitted_to_states(x, spoiled, w[None])
    clean = fitted_to_states(x[..., kept], values[:, kept], np.ones((1, 10)))
    close(found[:, kept], clean, rtol=1e-10)


@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_a_fit_does_not_depend_on_units(size):
    _, data, K, cov = off_policy(n_trajectories=24)
    x, values = np.moveaxis(data.x[:, :-1], 0, -1), data.cost.T
    w = np.exp(log_weights(data, GaussianPolicy(K, cov))).T
    close(
        fitted_to_states(x, values, w),
        fitted_to_states(size * x, values, size * w),
        rtol=1e-7,
    )


def test_two_baselines_at_once_are_refused():
    lqr, data, K, cov = off_policy()
    with pytest.raises(ValueError, match=r"^value_baseline: expected .+, found two"):
        per_decision_is(lqr, data, K, cov=cov, time_baseline=True, value_baseline=True)


# Mixtures.


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (2, 3)])
def test_mixture_weights_divide_by_the_mean_of_all_policies(n, m):
    _, data, K, cov = off_policy(n, m)
    found = log_weights(data, GaussianPolicy(K, cov), mixture=True)
    close(np.exp(found), mixture_by_hand(data, K, cov), rtol=1e-9)
    own = log_weights(data, GaussianPolicy(K, cov))
    assert np.abs(found - own).min() > 1e-6


def test_a_mixture_weight_by_hand():
    # u = 1 at x = 1; N(u; Kx, 1): e⁰ for K = 1, e^(−½) for K = 0, e^(−2) for K = −1.
    lqr, rng = worlds.scalar(), np.random.default_rng(0)
    data = concatenate(
        [
            rollout(lqr, GaussianPolicy([[k]], 1.0), 1, 1, rng, x0=[[1.0]], noise=noise)
            for k, noise in ((0.0, [[[1.0, 0.0]]]), (-1.0, [[[2.0, 0.0]]]))
        ]
    )
    close(data.u, np.ones((2, 1, 1)))
    found = log_weights(data, GaussianPolicy([[1.0]], 1.0), mixture=True)
    expected = -np.log((np.exp(-0.5) + np.exp(-2.0)) / 2)
    close(found, np.full((2, 1), expected), rtol=1e-14)


def test_of_one_policy_the_mixture_is_that_policy():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, K, cov, 6, 5)
    for some in (data, on_its_own(data)):
        for name in ("gradient", "standard_error", "effective_sample_size"):
            found, plain = (
                getattr(function(lqr, some, 0.9 * K, cov=cov), name)
                for function in (mixture_is, per_decision_is)
            )
            close(found, plain, rtol=1e-12)


def three_collections(lead=()):
    """Two of three by the same policy, with leading axes of worlds' data."""
    lqr, K, cov = system(3, 2)
    gains = np.broadcast_to(K, (*lead, 2, 3))
    parts = [
        gaussian_data(lqr, gains, cov, 3, 4, seed=1),
        gaussian_data(lqr, 0.8 * gains, 1.3 * cov, 5, 4, seed=2),
        gaussian_data(lqr, gains, cov, 4, 4, seed=3),
    ]
    return K, cov, concatenate(parts)


def test_equal_policies_are_counted_together():
    K, cov, data = three_collections()
    gains, covs, shares = weights._distinct(data.policy)
    seven, five = np.argsort(-shares)
    close(shares[[seven, five]], [7 / 12, 5 / 12], rtol=1e-14)
    np.testing.assert_array_equal(gains[seven], K)
    np.testing.assert_array_equal(covs[five], 1.3 * cov)
    found = log_weights(data, GaussianPolicy(0.9 * K, cov), mixture=True)
    close(np.exp(found), mixture_by_hand(data, 0.9 * K, cov), rtol=1e-9)


def test_policies_that_differ_in_their_covariance_only_are_told_apart():
    lqr, K, cov = system(3, 2)
    parts = [gaussian_data(lqr, K, scale * cov, 3, 4) for scale in (1.0, 1.5)]
    data, target = concatenate(parts), GaussianPolicy(0.9 * K, cov)
    found = log_weights(data, target, mixture=True)
    close(np.exp(found), mixture_by_hand(data, target.K, cov), rtol=1e-9)


def test_mixtures_of_many_data_sets_equal_a_loop():
    K, cov, data = three_collections((2,))
    policy = GaussianPolicy(0.9 * K, cov)
    together = log_weights(data, policy, mixture=True)
    for i in range(2):
        own = GaussianPolicy(data.policy.K[i], data.policy.cov[i])
        one = type(data)(*(part[i] for part in data[:4]), own)
        close(together[i], log_weights(one, policy, mixture=True), rtol=1e-9)


def test_policies_that_differ_in_one_data_set_of_many_are_told_apart():
    lqr, K, cov = system(3, 2)
    pairs = [np.stack([K, K]), np.stack([K, 0.7 * K])]
    parts = [gaussian_data(lqr, both, cov, 3, 4, i) for i, both in enumerate(pairs)]
    data = concatenate(parts)
    target = GaussianPolicy(0.9 * K, cov)
    mixed, plain = (log_weights(data, target, mixture=flag) for flag in (True, False))
    close(mixed[0], plain[0], rtol=1e-9, atol=1e-12)
    assert np.abs(mixed[1] - plain[1]).min() > 1e-6


def test_where_the_policy_is_one_of_the_mixture_no_weight_exceeds_its_share():
    lqr, K, cov = system(2, 1)
    parts = [
        gaussian_data(lqr, K, cov, 30, 40),
        gaussian_data(lqr, K + 3.0, cov, 10, 40),
    ]
    data = concatenate(parts)
    for gain, share in ((K, 30 / 40), (K + 3.0, 10 / 40)):
        policy = GaussianPolicy(gain, cov)
        mixed, plain = (
            log_weights(data, policy, mixture=flag) for flag in (True, False)
        )
        assert mixed.max() <= -np.log(share) + 1e-12
        assert plain.min() < -100.0  # far enough to matter


def two_policies(world):
    lqr, K = NAMED[world](), FIRST_GAINS[world]
    steps = np.random.default_rng(5).standard_normal((2, *K.shape))
    return lqr, K + 0.05 * steps, np.eye(lqr.m)


def sets_of_two(lqr, gains, cov, batch, n_trajectories):
    """A batch of data sets, each with trajectories of two policies."""
    sets = np.broadcast_to(gains[:, None], (2, batch, *gains.shape[1:]))
    return concatenate(
        [
            gaussian_data(lqr, many, cov, n_trajectories, HORIZON, seed)
            for seed, many in enumerate(sets)
        ]
    )


@every_world
def test_mixture_weights_have_mean_one_over_all_data(world):
    lqr, nearby, cov = two_policies(world)
    data = sets_of_two(lqr, nearby, cov, 200, 60)
    # Bounded, since the policy is one of them.
    policy = GaussianPolicy(nearby[1], cov)
    w = np.exp(log_weights(data, policy, mixture=True))
    assert w.std() > 0.05
    assert np.abs(z_scores(w.mean(axis=1), 1.0)).max() < MOST


@every_world
@pytest.mark.parametrize("normalised", [False, True])
def test_a_mixture_has_the_truncated_gradient_as_its_mean(world, normalised):
    lqr, nearby, cov = two_policies(world)
    data = sets_of_two(lqr, nearby, cov, 150, 200)
    function = mixture_is
    if normalised:
        function = functools.partial(self_normalised_is, mixture=True)
    found = function(lqr, data, nearby[1], cov=cov).gradient
    truth = truncated_gradient(lqr, nearby[1], cov, HORIZON)
    assert np.abs(z_scores(found, truth)).max() < MOST


def test_a_mixture_reports_the_size_of_its_own_weights():
    lqr, data, K, cov = off_policy()
    logs = log_weights(data, GaussianPolicy(K, cov), mixture=True)[:, -1]
    for function in (mixture_is, functools.partial(self_normalised_is, mixture=True)):
        found = function(lqr, data, K, cov=cov).effective_sample_size
        assert found == pytest.approx(effective_sample_size(logs), rel=1e-12)


def test_a_mixture_of_diverged_data_has_weight_zero_and_no_nan():
    lqr = worlds.scalar()
    parts = [gaussian_data(lqr, [[k]], 1.0, 3, 400) for k in (20.0, 21.0, -0.5)]
    for gain in (20.0, 21.0, -0.5, 1e200):
        policy = GaussianPolicy([[gain]], 1.0)
        logs = log_weights(concatenate(parts), policy, mixture=True)
        np.testing.assert_array_equal(logs[:6, -1], -np.inf)
        assert not np.isnan(logs).any()
        assert (logs < np.inf).all()


def test_a_mixture_with_a_deterministic_policy_is_refused():
    data = rollout(MAIN, LinearPolicy(FIRST_GAIN), 5, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^trajectories: .*no density"):
        log_weights(data, GaussianPolicy(FIRST_GAIN, 1.0), mixture=True)


def test_weights_are_cumulated_ratios_of_single_steps():
    _, data, K, cov = off_policy()
    policy = GaussianPolicy(K, cov)
    steps = log_ratios(data, policy)
    close(np.cumsum(steps, axis=-1), log_weights(data, policy), rtol=1e-12)
    close(steps[:, 0], log_weights(data, policy)[:, 0], rtol=1e-15)


# Truncation.


def test_a_limit_that_no_weight_reaches_changes_nothing():
    lqr, data, K, cov = off_policy()
    high, plain = (
        clipped_is(lqr, data, K, cov=cov, limit=1e9),
        per_decision_is(lqr, data, K, cov=cov),
    )
    for have, want in zip(high, plain, strict=True):
        np.testing.assert_array_equal(have, want)


def test_below_a_low_limit_all_weights_are_alike():
    lqr, data, K, cov = off_policy()
    limit = 0.5 * np.exp(log_weights(data, GaussianPolicy(K, cov)).min())
    found = clipped_is(lqr, data, K, cov=cov, limit=limit)
    _, c, S = parts_by_hand(lqr, data, K, cov)
    close(found.gradient, limit * np.einsum("it,itmn->mn", c, S) / 6, rtol=1e-10)
    assert found.effective_sample_size == pytest.approx(6.0, rel=1e-12)


def test_truncated_weights_are_smaller_in_the_mean_than_one():
    # Past the border of a second moment; the truth is dragged towards the data's own.
    lqr, data = MAIN, gaussian_data(MAIN, FIRST_GAIN, 0.1, 4000, 20)
    target = GaussianPolicy(FIRST_GAIN - 0.3, 0.1)
    w = np.exp(log_weights(data, target)[:, -1])
    found = clipped_is(lqr, data, FIRST_GAIN - 0.3, cov=0.1, limit=2.0)
    plain = per_decision_is(lqr, data, FIRST_GAIN - 0.3, cov=0.1)
    assert w.max() > 20.0
    assert (found.standard_error < 0.5 * plain.standard_error).all()
    assert found.effective_sample_size > 2.0 * plain.effective_sample_size


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf, None, "1", [1.0], True])
def test_a_limit_that_is_no_positive_number_is_refused(limit):
    lqr, data, K, cov = off_policy()
    with pytest.raises(ValueError, match=r"^limit: expected .+, found .+"):
        clipped_is(lqr, data, K, cov=cov, limit=limit)


# The estimated cost.


def cost_by_hand(weighting, lqr, data, K, cov):
    w, c, _ = parts_by_hand(lqr, data, K, cov)
    (N, T), total = w.shape, 0.0
    for i in range(N):
        for t in range(T):
            weight = {
                "trajectory": w[i, -1],
                "per-decision": w[i, t],
                "self-normalised": w[i, t] / np.mean(w[:, t]),
            }[weighting]
            total += weight * c[i, t] / N
    return total


@every_weighting
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (2, 3)])
def test_an_estimated_cost_is_its_formula_written_as_loops(weighting, n, m):
    lqr, data, K, cov = off_policy(n, m)
    found = estimated_cost(lqr, data, K, cov=cov, weighting=weighting)
    expected = cost_by_hand(weighting, lqr, data, K, cov)
    assert found == pytest.approx(expected, rel=1e-11)


@every_weighting
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_the_hack_is_exactly_the_gradient_of_an_estimated_cost(weighting, n, m):
    lqr, data, K, cov = off_policy(n, m)

    def surrogate(K):
        return estimated_cost(lqr, data, K, cov=cov, weighting=weighting)

    found = GRADIENT_OF[weighting](lqr, data, K, cov=cov).gradient
    expected = slope(surrogate, K)
    close(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_without_the_baseline_the_self_normalised_estimate_is_no_such_gradient():
    lqr, data, K, cov = off_policy()
    found = self_normalised_is(lqr, data, K, cov=cov).gradient
    gradient = GRADIENT_OF["self-normalised"](lqr, data, K, cov=cov).gradient
    assert np.abs(found - gradient).max() > 0.1 * np.abs(gradient).max()


@every_weighting
@every_world
def test_an_estimated_cost_has_the_truncated_cost_as_its_mean(weighting, world):
    lqr, data, K, cov = many_sets(world)
    found = estimated_cost(lqr, data, K, cov=cov, weighting=weighting)
    assert found.shape == (200,)
    truth = truncated_cost(lqr, K, cov, HORIZON)
    assert abs(z_scores(found, truth)) < MOST


@every_weighting
def test_on_its_own_data_an_estimated_cost_is_the_mean_cost(weighting):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, K, cov, 6, 5)
    paid = (data.cost * lqr.gamma ** np.arange(5)).sum(axis=-1).mean()
    found = estimated_cost(lqr, data, K, cov=cov, weighting=weighting)
    assert found == pytest.approx(paid, rel=1e-13)


def test_one_scalar_estimated_cost_by_hand():
    # e = u − Kx is 1 and 3 at K_b = −1, 3 and 4 at K = −2: (1 − 9)/8, (9 − 16)/8.
    lqr, data = two_trajectories()
    w, c = np.exp([-1.0, -7 / 8]), 5.0
    for weighting, expected in (
        ("trajectory", c * w.mean()),
        ("per-decision", c * w.mean()),
        ("self-normalised", c),
    ):
        found = estimated_cost(lqr, data, [[-2.0]], cov=4.0, weighting=weighting)
        assert found == pytest.approx(expected, rel=1e-14)


@every_weighting
def test_estimated_costs_of_many_gains_and_sets_equal_a_loop(weighting):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (3, 2, 3)), cov, 6, 4)
    gains = K + 0.1 * np.random.default_rng(0).standard_normal((4, 1, 2, 3))
    together = estimated_cost(lqr, data, gains, cov=cov, weighting=weighting)
    assert together.shape == (4, 3)
    for i, j in np.ndindex(4, 3):
        parts = (part[j] for part in data[:4])
        one = type(data)(*parts, GaussianPolicy(K, cov))
        alone = estimated_cost(lqr, one, gains[i, 0], cov=cov, weighting=weighting)
        assert together[i, j] == pytest.approx(alone, rel=1e-12)


@every_weighting
@pytest.mark.parametrize("gain", [20.0, 20.1, -0.5])
def test_data_that_diverged_cost_inf_and_never_nan(weighting, gain):
    lqr = worlds.scalar()
    data = gaussian_data(lqr, [[20.0]], 1.0, 5, 400)
    found = estimated_cost(lqr, data, [[gain]], cov=1.0, weighting=weighting)
    assert found == np.inf


@pytest.mark.parametrize("weighting", ["per decision", "", None, 1, ["trajectory"]])
def test_an_unknown_weighting_is_refused_with_the_known_ones(weighting):
    lqr, data, K, cov = off_policy()
    with pytest.raises(ValueError, match=r"^weighting: expected one of .*per-decision"):
        estimated_cost(lqr, data, K, cov=cov, weighting=weighting)
