"""Policies: densities and scores against SciPy and differences; draws by z-score."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from systems import close, spd

from lqrlib import GaussianPolicy, LinearPolicy, StagePolicy

DRAWS = 40_000
MOST = 4.5  # standard errors; a seeded draw beyond it points to a bug, not to luck


def setting(n=3, m=2, rows=6, seed=0):
    """A gain, a covariance and some states and actions."""
    rng = np.random.default_rng(seed)
    K, cov = rng.standard_normal((m, n)), spd(m, rng)
    return K, cov, rng.standard_normal((rows, n)), rng.standard_normal((rows, m))


def z_scores(samples, truth):
    """Distance of each sample mean from the truth, in standard errors."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    return (samples.mean(axis=0) - truth) / error


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 4)])
def test_log_prob_is_scipys_normal_log_density(n, m):
    K, cov, x, u = setting(n, m)
    peer = [
        multivariate_normal(K @ a, cov).logpdf(b) for a, b in zip(x, u, strict=True)
    ]
    close(GaussianPolicy(K, cov).log_prob(x, u), peer, rtol=1e-11)


def test_log_prob_of_a_scalar_by_hand():
    # u − Kx = 3 − 2·1 = 1, σ² = 4: −½(1/4 + log 8π).
    by_hand = -0.5 * (0.25 + np.log(8 * np.pi))
    assert GaussianPolicy([[2.0]], 4.0).log_prob([[1.0]], [[3.0]]) == pytest.approx(
        by_hand, rel=1e-14
    )


def test_score_of_a_scalar_by_hand():
    # (u − Kx) x/σ² = (3 − 2·5)·5/4.
    assert GaussianPolicy([[2.0]], 4.0).score([[5.0]], [[3.0]]) == -8.75


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 4)])
def test_score_is_the_slope_of_the_log_density_in_the_gain(n, m):
    K, cov, x, u = setting(n, m)
    unit = np.eye(K.size).reshape(-1, m, n)
    # Central differences of a quadratic have no truncation error: h may be large.
    ahead = GaussianPolicy(K + 0.5 * unit, cov).log_prob(x, u)
    behind = GaussianPolicy(K - 0.5 * unit, cov).log_prob(x, u)
    slope = (ahead - behind).T.reshape(-1, m, n)
    close(GaussianPolicy(K, cov).score(x, u), slope, rtol=1e-10, atol=1e-10)


def test_score_has_mean_zero_under_the_policys_own_actions():
    K, cov, x, _ = setting()
    policy = GaussianPolicy(K, cov)
    states = np.resize(x, (DRAWS, 3))
    u = policy.act(states, np.random.default_rng(1))
    assert np.abs(z_scores(policy.score(states, u), 0.0)).max() < MOST


def test_actions_have_the_policys_mean_and_covariance():
    K, cov, x, _ = setting()
    states = np.broadcast_to(x[0], (DRAWS, 3))
    u = GaussianPolicy(K, cov).act(states, np.random.default_rng(2))
    assert np.abs(z_scores(u, K @ x[0])).max() < MOST
    error = u - K @ x[0]
    squares = error[:, :, None] * error[:, None, :]
    assert np.abs(z_scores(squares, cov)).max() < MOST


def test_a_score_without_exploration_is_exactly_zero():
    K, cov, x, _ = setting()
    u = LinearPolicy(K).act(x)
    np.testing.assert_array_equal(GaussianPolicy(K, cov).score(x, u), 0.0)


def test_draws_repeat_with_the_seed_and_differ_without():
    K, cov, x, _ = setting()
    policy = GaussianPolicy(K, cov)
    first, again, other = (policy.act(x, np.random.default_rng(s)) for s in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_linear_policy_acts_without_chance():
    K, _, x, _ = setting()
    by_hand = [K @ row for row in x]
    close(LinearPolicy(K).act(x), by_hand, rtol=1e-13)
    close(LinearPolicy(K).act(x, np.random.default_rng(0)), by_hand, rtol=1e-13)


@pytest.mark.parametrize("method", ["log_prob", "score"])
def test_a_deterministic_policy_has_no_density_and_says_why(method):
    K, _, x, u = setting()
    for policy in (LinearPolicy(K), StagePolicy([K, K])):
        with pytest.raises(ValueError, match=r"^policy: expected .* found .*Dirac"):
            getattr(policy, method)(x, u)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)], ids=str)
def test_a_stage_policy_acts_with_the_gain_of_the_stage(lead):
    rng = np.random.default_rng(7)
    K, x = rng.standard_normal((*lead, 5, 2, 3)), rng.standard_normal((6, 3))
    policy = StagePolicy(K)
    assert policy.horizon == 5
    for stage in (0, 1, 4, np.int64(4)):
        by_hand = LinearPolicy(K[..., stage, :, :]).act(x)
        np.testing.assert_array_equal(policy.act(x, stage=stage), by_hand)
        again = policy.act(x, np.random.default_rng(0), stage=stage)
        np.testing.assert_array_equal(again, by_hand)


@pytest.mark.parametrize("stage", [-1, 2, 1.0, True, None, "0", [0], np.array([0])])
def test_a_stage_that_the_policy_has_not_is_refused_by_name(stage):
    K, _, x, _ = setting()
    with pytest.raises(ValueError, match=r"^stage: expected one of 0 … 1, found"):
        StagePolicy([K, K]).act(x, stage=stage)


@pytest.mark.parametrize(
    ("gain_lead", "cov_lead", "data_lead"),
    [((5,), (), ()), ((), (5,), ()), ((2, 3), (3,), ()), ((4,), (4,), (4,))],
    ids=str,
)
def test_batches_equal_a_loop(gain_lead, cov_lead, data_lead):
    rng = np.random.default_rng(6)
    K = rng.standard_normal((*gain_lead, 2, 3))
    cov = np.array([spd(2, rng) for _ in np.ndindex(cov_lead)])
    cov = cov.reshape(*cov_lead, 2, 2)
    x, u = (rng.standard_normal((*data_lead, 6, size)) for size in (3, 2))
    lead = np.broadcast_shapes(gain_lead, cov_lead, data_lead)
    policy = GaussianPolicy(K, cov)
    log_prob, score = policy.log_prob(x, u), policy.score(x, u)
    assert log_prob.shape == (*lead, 6)
    assert score.shape == (*lead, 6, 2, 3)
    K, cov, x, u = (np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in (K, cov, x, u))
    for i in np.ndindex(lead):
        one = GaussianPolicy(K[i], cov[i])
        close(log_prob[i], one.log_prob(x[i], u[i]), rtol=1e-12)
        close(score[i], one.score(x[i], u[i]), rtol=1e-12, atol=1e-14)
        close(LinearPolicy(K).act(x)[i], LinearPolicy(K[i]).act(x[i]), rtol=1e-13)


@pytest.mark.parametrize("batched", ["gain", "covariance"])
def test_each_member_of_a_batch_draws_its_own_noise(batched):
    K, cov, x, _ = setting()
    twice = (np.stack([K, K]), cov) if batched == "gain" else (K, np.stack([cov, cov]))
    u = GaussianPolicy(*twice).act(x, np.random.default_rng(0))
    assert u.shape == (2, 6, 2)
    assert (u[0] != u[1]).all()


def test_policies_keep_read_only_copies():
    K, cov, _, _ = setting()
    policy = GaussianPolicy(K, cov)
    K[:], cov[:] = 7.0, 7.0
    assert (policy.K != 7.0).all()
    assert (policy.cov != 7.0).all()
    stages = np.zeros((4, 1, 2))
    frozen = StagePolicy(stages).K
    stages[:] = 7.0
    assert (frozen == 0.0).all()
    for array in (policy.K, policy.cov, LinearPolicy(K).K, frozen):
        assert not array.flags.writeable


def test_a_number_is_a_covariance_and_not_a_deviation():
    np.testing.assert_array_equal(
        GaussianPolicy(np.zeros((2, 3)), 9.0).cov, 9.0 * np.eye(2)
    )
