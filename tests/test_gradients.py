"""Sampled gradients: each formula as loops, its mean and its error by z-score."""

import functools

import numpy as np
import pytest
from by_hand import (
    exact_critic,
    mixture_by_hand,
    off_policy,
    on_its_own,
    parts_by_hand,
    truncated_gradient,
    wrong_critic,
)
from scipy.special import logsumexp
from systems import (
    FIRST_GAIN,
    MOST,
    close,
    gaussian_data,
    plain_policy,
    plain_world,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, LinearPolicy, exact, gradients, worlds
from lqrlib.critic import lstdq
from lqrlib.gradients import (
    actor_critic_is,
    clipped_is,
    doubly_robust_is,
    dpg,
    gauss_newton_dpg,
    mixture_is,
    natural_dpg,
    per_decision_is,
    per_step_is,
    ppo_is,
    self_normalised_is,
    trajectory_is,
)
from lqrlib.remedies import SIGNALS
from lqrlib.rollout import rollout, transitions
from lqrlib.weights import effective_sample_size, log_weights

MAIN = worlds.double_integrator()
LIMIT = 1.1  # where weights are clipped


@functools.wraps(doubly_robust_is)
def around_a_guess(lqr, *arguments, **options):
    return doubly_robust_is(lqr, *arguments, critic=wrong_critic(lqr), **options)


@functools.wraps(actor_critic_is)
def paid_by_a_guess(lqr, *arguments, **options):
    return actor_critic_is(lqr, *arguments, critic=wrong_critic(lqr), **options)


with_baseline = functools.partial(per_decision_is, time_baseline=True)
# Each is a mean over trajectories of Σ_t credit_t S_t.
CREDITED = {
    "trajectory": trajectory_is,
    "return baseline": functools.partial(trajectory_is, baseline=True),
    "per decision": per_decision_is,
    "time baseline": with_baseline,
    "mixture": mixture_is,
    "clipped": functools.partial(clipped_is, limit=LIMIT),
}
NORMALISED = {
    "self-normalised": self_normalised_is,
    "self-normalised baseline": functools.partial(
        self_normalised_is, time_baseline=True
    ),
    "self-normalised mixture": functools.partial(self_normalised_is, mixture=True),
}
HACKS = {
    **CREDITED,
    **NORMALISED,
    "value baseline": functools.partial(per_decision_is, value_baseline=True),
    "doubly robust": around_a_guess,
    "per step": per_step_is,
    "ppo": ppo_is,
    **{name: functools.partial(paid_by_a_guess, signal=name) for name in SIGNALS},
}
CRITICS = {
    "dpg": dpg,
    "natural dpg": natural_dpg,
    "Gauss-Newton dpg": gauss_newton_dpg,
}
every_hack = pytest.mark.parametrize("name", HACKS)
every_critic = pytest.mark.parametrize("name", CRITICS)
credited = pytest.mark.parametrize("name", CREDITED)
every_expression = pytest.mark.parametrize("name", HACKS | CRITICS)
expression = (HACKS | CRITICS).__getitem__


# The likelihood-ratio estimates, as loops over trajectories and steps.


def credits_by_hand(name, w, c):
    N, T = w.shape
    credit = np.zeros((N, T))
    returns = [sum(row) for row in c]
    mean_return = sum(w[:, -1] * returns) / sum(w[:, -1])
    for i in range(N):
        for t in range(T):
            mean = sum(w[:, t] * c[:, t]) / sum(w[:, t])
            relative = N * w[i, t] / sum(w[:, t])
            last = w[i, t] * (t == T - 1)
            credit[i, t] = {
                "trajectory": last * returns[i],
                "return baseline": last * (returns[i] - mean_return),
                "per decision": w[i, t] * c[i, t],
                "time baseline": w[i, t] * (c[i, t] - mean),
                "mixture": w[i, t] * c[i, t],
                "clipped": min(w[i, t], LIMIT) * c[i, t],
                "self-normalised": relative * c[i, t],
                "self-normalised baseline": relative * (c[i, t] - mean),
                "self-normalised mixture": relative * c[i, t],
            }[name]
    return credit


def weights_by_hand(name, lqr, data, K, cov):
    """With discounted costs and summed scores."""
    w, c, S = parts_by_hand(lqr, data, K, cov)
    return (mixture_by_hand(data, K, cov) if "mixture" in name else w), c, S


def terms_by_hand(name, *arguments):
    w, c, S = weights_by_hand(name, *arguments)
    return np.einsum("it,itmn->imn", credits_by_hand(name, w, c), S)


@pytest.mark.parametrize("name", CREDITED | NORMALISED)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_a_likelihood_ratio_estimate_is_its_formula_written_as_loops(name, n, m):
    arguments = off_policy(n, m)
    lqr, data, K, cov = arguments
    expected = terms_by_hand(name, *arguments).mean(axis=0)
    found = expression(name)(lqr, data, K, cov=cov).gradient
    close(found, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@credited
def test_the_error_of_a_mean_is_the_spread_of_its_terms(name):
    lqr, data, K, cov = off_policy()
    terms = terms_by_hand(name, lqr, data, K, cov)
    expected = np.sqrt(np.square(terms - terms.mean(axis=0)).sum(axis=0) / 5 / 6)
    found = expression(name)(lqr, data, K, cov=cov).standard_error
    close(found, expected, rtol=1e-10)


@pytest.mark.parametrize("name", NORMALISED)
def test_the_error_of_a_self_normalised_estimate_is_that_of_its_linearisation(name):
    lqr, data, K, cov = off_policy()
    w, c, S = weights_by_hand(name, lqr, data, K, cov)

    def estimate(share):  # of each trajectory, all of them 1
        relative = share[:, None] * w / (share @ w)
        mean = (relative * c).sum(axis=0) if "baseline" in name else 0.0
        return np.einsum("it,it,itmn->mn", relative, c - mean, S)

    h, N = 1e-5, 6
    moved = [
        N * (estimate(1 + h * unit) - estimate(1 - h * unit)) / (2 * h)
        for unit in np.eye(N)
    ]
    expected = np.sqrt(np.square(moved).sum(axis=0) / (N - 1) / N)
    found = expression(name)(lqr, data, K, cov=cov)
    close(found.gradient, estimate(np.ones(N)), rtol=1e-10)
    close(found.standard_error, expected, rtol=1e-6)


def test_one_scalar_step_by_hand():
    # x = 2, u = −2 + 2·½ = −1 under K_b = −1, σ² = 4; e = −1 + 2·½ = 0 at K = −½: score
    # 0. At K = −1: w = 1, score (u − Kx)x/σ² = ½, cost x² + u² = 5: 2.5.
    lqr, rng = worlds.scalar(), np.random.default_rng(0)
    policy = GaussianPolicy([[-1.0]], 4.0)
    noise = [[[0.5, 0.0]], [[0.5, 0.0]]]
    data = rollout(lqr, policy, 2, 1, rng, x0=[[2.0], [2.0]], noise=noise)
    for name in ("trajectory", "per decision", "self-normalised"):
        assert expression(name)(lqr, data, [[-1.0]], cov=4.0).gradient == 2.5
        assert expression(name)(lqr, data, [[-0.5]], cov=4.0).gradient == 0.0
    assert with_baseline(lqr, data, [[-1.0]], cov=4.0).gradient == 0.0


OTHER_SIZES = {"mixture", "self-normalised mixture", "clipped", "per step", "ppo"}


@pytest.mark.parametrize("name", [name for name in HACKS if name not in OTHER_SIZES])
def test_the_effective_sample_size_is_that_of_whole_trajectories(name):
    lqr, data, K, cov = off_policy()
    logs = log_weights(data, GaussianPolicy(K, cov))[:, -1]
    found = expression(name)(lqr, data, K, cov=cov).effective_sample_size
    assert found == pytest.approx(effective_sample_size(logs), rel=1e-13)
    assert 1.0 < found < 6.0


def test_weights_too_small_for_a_float_are_normalised_all_the_same():
    lqr, K, cov = system(2, 1)
    far = K + 30.0
    data = gaussian_data(lqr, K, cov, 5, 20)
    logs = log_weights(data, GaussianPolicy(far, cov))
    assert np.exp(logs)[:, -1].max() == 0.0 < np.exp(logs)[:, 0].max()
    relative = 5 * np.exp(logs - logsumexp(logs, axis=0))
    _, c, S = parts_by_hand(lqr, on_its_own(data), far, cov)
    expected = np.einsum("it,it,itmn->mn", relative, c, S) / 5
    found = self_normalised_is(lqr, data, far, cov=cov)
    close(found.gradient, expected, rtol=1e-10)


# Their means.


def test_the_truncated_gradient_becomes_the_exact_one():
    lqr, K, cov = system(2, 1)
    close(truncated_gradient(lqr, K, cov, 200), exact.gradient(lqr, K, cov), rtol=1e-9)


T = 8
# Worlds in which this many data leave no doubt about the critic.
SETTINGS = {
    "double integrator": (MAIN, FIRST_GAIN, np.eye(1)),
    "three states, two actions": (plain_world(gamma=0.7), *plain_policy()),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)


@functools.cache
def many_sets(setting, n_trajectories=300, batch=200):
    """A batch of data sets of one policy, and a gain nearby."""
    lqr, K, cov = SETTINGS[setting]
    behaviour = np.broadcast_to(K, (batch, *K.shape))
    data = gaussian_data(lqr, behaviour, cov, n_trajectories, T)
    # Within the region where weights have a fourth moment.
    target = K + 0.02 * np.random.default_rng(4).standard_normal(K.shape)
    return lqr, data, target, cov


# The others aim elsewhere, or come near for many trajectories only.
AIMED = [*CREDITED, *NORMALISED, "doubly robust"]
AIMED.remove("clipped")


@pytest.mark.parametrize("name", AIMED)
@every_setting
def test_likelihood_ratio_estimates_have_the_truncated_gradient_as_their_mean(
    name, setting
):
    lqr, data, K, cov = many_sets(setting)
    found = expression(name)(lqr, data, K, cov=cov).gradient
    assert found.shape == (200, *K.shape)
    truth = truncated_gradient(lqr, K, cov, T)
    assert np.abs(z_scores(found, truth)).max() < MOST


@every_critic
@every_setting
def test_critics_steps_have_the_exact_ones_as_their_mean(name, setting):
    lqr, data, K, cov = many_sets(setting)
    found = expression(name)(lqr, data, K).gradient
    natural = exact.natural_gradient(lqr, K)
    truth = {
        "dpg": natural @ moment_of_data(lqr, SETTINGS[setting][1], cov),
        "natural dpg": natural,
        "Gauss-Newton dpg": exact.gauss_newton(lqr, K),
    }[name]
    # Biased by a term of order 1/N, which 200 sets of 300 do not yet show.
    assert np.abs(z_scores(found, truth)).max() < MOST


def moment_of_data(lqr, K, cov):
    """Σ_t γᵗ E[xx'] of the steps of one data set."""
    F, X, total = lqr.closed_loop(K), lqr.X0, 0.0
    for t in range(T):
        total = total + lqr.gamma**t * X
        X = F @ X @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
    return total


@every_expression
@every_setting
def test_reported_errors_are_those_observed(name, setting):
    lqr, data, K, cov = many_sets(setting)
    found = expression(name)(lqr, data, K, cov=cov)
    reported = np.sqrt(np.square(found.standard_error).mean(axis=0))
    ratio = found.gradient.std(axis=0) / reported
    assert 0.8 < ratio.min() <= ratio.max() < 1.25


# The critics' expressions.


@pytest.mark.parametrize("lead", [(), (3,)], ids=str)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (2, 3)])
def test_with_the_exact_critic_the_critics_steps_are_exact(n, m, lead):
    lqr, K, cov = system(n, m)
    gains = K + 0.01 * np.random.default_rng(0).standard_normal((*lead, m, n))
    data, critic = gaussian_data(lqr, K, cov, 7, 5), exact_critic(lqr, gains)
    X = sum(lqr.gamma**t * data.x[:, t].T @ data.x[:, t] for t in range(5)) / 7
    E = exact.gain_error(lqr, gains)
    scale = np.abs(E).max()
    expected = {
        dpg: 2 * E @ X,
        natural_dpg: 2 * E,
        gauss_newton_dpg: exact.gauss_newton(lqr, gains),
    }
    for function, truth in expected.items():
        found = function(lqr, data, gains, critic=critic)
        close(found.gradient, truth, rtol=1e-9, atol=1e-9 * scale)
        assert found.standard_error.shape == (*lead, m, n)
        np.testing.assert_array_equal(found.effective_sample_size, np.full(lead, 7.0))


def test_a_known_critic_leaves_only_the_error_of_the_states():
    lqr, K, cov = system(3, 2)
    data, critic = gaussian_data(lqr, K, cov, 7, 5), exact_critic(lqr, K)
    discounted = data.x[:, :-1] * np.sqrt(lqr.gamma ** np.arange(5))[:, None]
    each = 2 * exact.gain_error(lqr, K) @ (discounted.mT @ discounted)
    found = dpg(lqr, data, K, critic=critic).standard_error
    close(found, each.std(axis=0) / np.sqrt(7), rtol=1e-9)
    for function in (natural_dpg, gauss_newton_dpg):
        known = function(lqr, data, K, critic=critic).standard_error
        np.testing.assert_array_equal(known, np.zeros((2, 3)))


@pytest.mark.parametrize("name", CRITICS)
def test_without_one_the_critic_is_lstdq_on_the_same_data(name):
    lqr, data, K, cov = off_policy(n_trajectories=60)
    critic = lstdq(lqr, transitions(data), K)
    found = expression(name)(lqr, data, K, cov=cov)
    given = expression(name)(lqr, data, K, critic=critic)
    close(found.gradient, given.gradient, rtol=1e-9)
    assert (found.standard_error > given.standard_error).all()
    assert found.effective_sample_size == 60.0


def without(data, i):
    """All trajectories but one."""
    kept = np.arange(len(data.cost)) != i
    policy = GaussianPolicy(data.policy.K[kept], data.policy.cov[kept])
    parts = (part[kept] for part in data[:4])
    return type(data)(*parts, policy)


@every_critic
def test_the_critics_errors_are_those_of_a_jackknife(name):
    lqr, data, K, _ = off_policy(2, 1, n_trajectories=600)
    left_out = [expression(name)(lqr, without(data, i), K).gradient for i in range(600)]
    jackknife = np.sqrt(599 * np.var(left_out, axis=0))
    found = expression(name)(lqr, data, K).standard_error
    close(found, jackknife, rtol=0.05)


# Batches.


@every_expression
def test_many_gains_equal_a_loop_bit_for_bit(name):
    lqr, data, K, cov = off_policy(n_trajectories=40)
    gains = K + 0.03 * np.random.default_rng(5).standard_normal((2, 3, 2, 3))
    together = expression(name)(lqr, data, gains, cov=cov)
    assert together.gradient.shape == together.standard_error.shape == (2, 3, 2, 3)
    assert together.effective_sample_size.shape == (2, 3)
    for i in np.ndindex(2, 3):
        alone = expression(name)(lqr, data, gains[i], cov=cov)
        for have, want in zip(together, alone, strict=True):
            np.testing.assert_array_equal(have[i], want)


@every_expression
def test_many_data_sets_equal_a_loop(name):
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (3, 2, 3)), cov, 40, 4)
    together = expression(name)(lqr, data, 0.95 * K, cov=cov)
    for i in range(3):
        parts = (part[i] for part in data[:4])
        one = type(data)(*parts, GaussianPolicy(K, cov))
        alone = expression(name)(lqr, one, 0.95 * K, cov=cov)
        for have, want in zip(together, alone, strict=True):
            close(have[i], want, rtol=1e-9, atol=1e-11)


@every_hack
def test_many_covariances_equal_a_loop(name):
    lqr, data, K, cov = off_policy()
    covs = np.array([0.8, 1.0, 1.3])[:, None, None] * cov
    together = expression(name)(lqr, data, K, cov=covs)
    for i in range(3):
        alone = expression(name)(lqr, data, K, cov=covs[i])
        for have, want in zip(together, alone, strict=True):
            close(have[i], want, rtol=1e-12)


# What the data cannot tell.


@every_critic
def test_data_that_do_not_determine_the_critic_are_refused_with_their_rank(name):
    rng = np.random.default_rng(0)
    data = rollout(MAIN, LinearPolicy(FIRST_GAIN), 20, 10, rng)
    with pytest.raises(
        ValueError, match=r"^data: expected features of rank 7 .*, found rank 4"
    ):
        expression(name)(MAIN, data, FIRST_GAIN)


@every_critic
def test_a_critic_that_is_given_needs_no_rank(name):
    rng = np.random.default_rng(0)
    data = rollout(MAIN, LinearPolicy(FIRST_GAIN), 20, 10, rng)
    critic = exact_critic(MAIN, FIRST_GAIN)
    found = expression(name)(MAIN, data, FIRST_GAIN, critic=critic)
    assert np.isfinite(found.gradient).all()


@every_hack
def test_deterministic_data_have_no_likelihood_ratio_and_are_refused(name):
    rng = np.random.default_rng(0)
    data = rollout(MAIN, LinearPolicy(FIRST_GAIN), 5, 4, rng)
    with pytest.raises(ValueError, match=r"^trajectories: .*no density"):
        expression(name)(MAIN, data, FIRST_GAIN, cov=1.0)


@every_hack
@pytest.mark.parametrize("gain", [20.0, 20.1, -0.5])
def test_data_that_diverged_give_nan_and_no_crash(name, gain):
    lqr = worlds.scalar()
    data = gaussian_data(lqr, [[20.0]], 1.0, 5, 400)
    found = expression(name)(lqr, data, [[gain]], cov=1.0)
    assert np.isnan(found.gradient).all()
    assert np.isnan(found.standard_error).all()


def test_states_that_left_the_floats_give_dpg_nan_and_not_inf():
    lqr = worlds.scalar()
    data = gaussian_data(lqr, [[20.0]], 1.0, 5, 400)
    found = dpg(lqr, data, [[-0.5]], critic=exact_critic(lqr, np.array([[-0.6]])))
    assert np.isnan(found.gradient).all()


@every_hack
def test_one_trajectory_has_a_gradient_and_no_error_to_speak_of(name):
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 1, 5)
    found = expression(name)(MAIN, data, FIRST_GAIN, cov=1.0)
    assert np.isfinite(found.gradient).all()


@every_critic
def test_a_gain_whose_square_leaves_the_floats_gives_nan(name):
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 20, 5)
    found = expression(name)(MAIN, data, 1e200 * FIRST_GAIN)
    assert np.isnan(found.gradient).all()


@every_hack
def test_data_of_another_world_are_refused(name):
    data = gaussian_data(worlds.scalar(), [[-0.5]], 1.0, 5, 4)
    with pytest.raises(ValueError, match=r"expected .+, found .+"):
        expression(name)(MAIN, data, FIRST_GAIN, cov=1.0)


@every_expression
def test_the_data_stay_as_they_were(name):
    lqr, data, K, cov = off_policy(n_trajectories=40)
    before = [np.array(part) for part in data[:4]]
    expression(name)(lqr, data, K, cov=cov)
    for have, want in zip(data[:4], before, strict=True):
        np.testing.assert_array_equal(have, want)


def test_every_expression_that_the_module_offers_is_tested_here():
    tested = {getattr(f, "func", f).__name__ for f in (HACKS | CRITICS).values()}
    elsewhere = {"zeroth_order", "zeroth_order_stages"}  # test_zeroth_order.py
    assert set(gradients.__all__) - {"GradientEstimate"} == tested | elsewhere
