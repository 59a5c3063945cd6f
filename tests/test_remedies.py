"""Single ratios, clipped ratios, and weights around a critic: formulas and means."""

import functools

import numpy as np
import pytest
from by_hand import (
    HORIZON,
    every_world,
    exact_critic,
    fit_by_hand,
    many_sets,
    mean_and_error,
    off_policy,
    on_its_own,
    parts_by_hand,
    slope,
    steps_by_hand,
    truncated_gradient,
    wrong_critic,
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

from lqrlib import GaussianPolicy, LinearPolicy, exact, finite_horizon, worlds
from lqrlib.critic import Critic, lstdq, of_gaussian
from lqrlib.critic import exact_critic as true_critic
from lqrlib.importance import per_decision_is
from lqrlib.remedies import (
    SIGNALS,
    actor_critic_is,
    doubly_robust_is,
    per_step_is,
    ppo_is,
)
from lqrlib.rollout import concatenate, rollout, transitions
from lqrlib.weights import effective_sample_size

MAIN = worlds.double_integrator()
sizes = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
unclipped = functools.partial(ppo_is, clip=1e9, normalise=False)


def costs_to_go(lqr, data):
    """What the data paid from each step on, discounted to that step."""
    N, T = data.cost.shape
    G = np.zeros((N, T))
    for i in range(N):
        for t in range(T):
            G[i, t] = sum(lqr.gamma ** (s - t) * data.cost[i, s] for s in range(t, T))
    return G


def advantages(lqr, data, baseline=True):
    G = costs_to_go(lqr, data)
    return G - fit_by_hand(data.x, G, np.ones(G.shape)) if baseline else G


def discounts(lqr, data):
    return lqr.gamma ** np.arange(data.cost.shape[-1])


# One ratio a step.


@sizes
@pytest.mark.parametrize("baseline", [True, False])
def test_the_per_step_estimate_is_its_formula_written_as_loops(n, m, baseline):
    lqr, data, K, cov = off_policy(n, m, n_trajectories=24)
    ratios, scores = steps_by_hand(data, K, cov)
    A = advantages(lqr, data, baseline)
    terms = np.einsum("t,it,it,itmn->imn", discounts(lqr, data), ratios, A, scores)
    gradient, error = mean_and_error(terms)
    found = per_step_is(lqr, data, K, cov=cov, baseline=baseline)
    close(found.gradient, gradient, rtol=1e-8, atol=1e-8 * np.abs(gradient).max())
    close(found.standard_error, error, rtol=1e-8)


def one_step():
    """Scalar: x = 2, 1 and u = −1, 2 under K_b = −1, σ² = 4; cost 5, 5."""
    noise = [[[0.5, 0.0]], [[1.5, 0.0]]]
    policy, rng = GaussianPolicy([[-1.0]], 4.0), np.random.default_rng(0)
    lqr = worlds.scalar()
    return lqr, rollout(lqr, policy, 2, 1, rng, x0=[[2.0], [1.0]], noise=noise)


def test_one_scalar_step_by_hand():
    # At K = −2, e = 3 and 4, of 1 and 3 at K_b; scores e x/σ² = 3/2 and 1.
    lqr, data = one_step()
    ratios = np.exp([-1.0, -7 / 8])
    found = per_step_is(lqr, data, [[-2.0]], cov=4.0, baseline=False)
    assert found.gradient == pytest.approx(5 * ratios @ [1.5, 1.0] / 2, rel=1e-14)
    size = ratios.sum() ** 2 / (ratios @ ratios)
    assert found.effective_sample_size == pytest.approx(size, rel=1e-13)
    # Two coefficients for two trajectories: nothing is left.
    found = per_step_is(lqr, data, [[-2.0]], cov=4.0).gradient
    assert found == pytest.approx(0.0, abs=1e-12)


def off_policy_truth(lqr, K, K_b, cov, horizon):
    """Σ_t γᵗ 2 (Θ_uu K + Θ_ux) X_t, with Θ of the steps that remain under K_b."""
    F, P, X = lqr.A + lqr.B @ K_b, np.zeros((lqr.n, lqr.n)), lqr.X0
    stage, to_go = lqr.Q + K_b.T @ lqr.R @ K_b, []
    for _ in range(horizon):
        to_go.append(P)  # of 0, 1, … steps
        P = stage + lqr.gamma * F.T @ P @ F
    total = 0.0
    for t in range(horizon):
        after = to_go[horizon - t - 1]
        Theta_uu = lqr.R + lqr.gamma * lqr.B.T @ after @ lqr.B
        Theta_ux = lqr.gamma * lqr.B.T @ after @ lqr.A
        total = total + lqr.gamma**t * 2 * (Theta_uu @ K + Theta_ux) @ X
        X = F @ X @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
    return total


@every_world
@pytest.mark.parametrize("baseline", [True, False])
def test_the_per_step_estimate_has_the_data_s_own_action_value_in_its_mean(
    world, baseline
):
    lqr, data, K, cov = many_sets(world, n_trajectories=4000, batch=60)
    found = per_step_is(lqr, data, K, cov=cov, baseline=baseline).gradient
    truth = off_policy_truth(lqr, K, FIRST_GAINS[world], cov, HORIZON)
    assert np.abs(z_scores(found, truth)).max() < MOST


@every_world
def test_away_from_the_data_s_gain_it_is_not_the_gradient(world):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    improved = K_b - exact.gauss_newton(lqr, K_b)
    cov, halfway = np.eye(lqr.m), 0.5 * (K_b + improved)
    aim = off_policy_truth(lqr, halfway, K_b, cov, 60)
    gradient = truncated_gradient(lqr, halfway, cov, 60)
    assert np.linalg.norm(aim - gradient) > 0.2 * np.linalg.norm(gradient)


@every_world
def test_on_the_data_s_own_gain_it_is_the_gradient_all_the_same(world):
    lqr, cov, K = NAMED[world](), np.eye(NAMED[world]().m), FIRST_GAINS[world]
    truth = truncated_gradient(lqr, K, cov, HORIZON)
    close(off_policy_truth(lqr, K, K, cov, HORIZON), truth, rtol=1e-9)


@every_world
def test_its_zero_is_one_step_of_policy_iteration_from_the_data_s_gain(world):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    cov, T = np.eye(lqr.m), 1500
    improved = K_b - exact.gauss_newton(lqr, K_b)
    at_start = off_policy_truth(lqr, K_b, K_b, cov, T)
    close(at_start, exact.gradient(lqr, K_b, cov), rtol=1e-9)
    at_zero = off_policy_truth(lqr, improved, K_b, cov, T)
    close(at_zero, np.zeros(K_b.shape), atol=1e-9 * np.abs(at_start).max())
    assert np.abs(improved - exact.optimal_gain(lqr)).max() > 0.01


@every_world
def test_its_baseline_lowers_the_spread(world):
    lqr, data, K, cov = many_sets(world)
    fitted, plain = (
        per_step_is(lqr, data, K, cov=cov, baseline=flag).gradient
        for flag in (True, False)
    )
    assert (fitted.std(axis=0) < 0.9 * plain.std(axis=0)).all()


def test_what_every_step_pays_is_taken_out_and_does_not_come_back_with_weights():
    lqr, data, K, cov = off_policy(n_trajectories=24)
    dearer = data._replace(cost=data.cost + 1000.0)
    cheap, dear = (per_step_is(lqr, some, K, cov=cov) for some in (data, dearer))
    close(dear.gradient, cheap.gradient, rtol=1e-7)


@pytest.mark.parametrize("function", [per_step_is, ppo_is])
def test_the_effective_sample_size_is_that_of_single_ratios(function):
    lqr, data, K, cov = off_policy(n_trajectories=24)
    ratios, _ = steps_by_hand(data, K, cov)
    expected = np.mean([effective_sample_size(np.log(r)) for r in ratios.T])
    found = function(lqr, data, K, cov=cov).effective_sample_size
    assert found == pytest.approx(expected, rel=1e-11)
    assert 12.0 < found < 24.0


# Clipped.


def clipped_surrogate(lqr, data, K, cov, clip, normalise):
    """Schulman et al. (2017), eq. (7), for costs."""
    ratios, _ = steps_by_hand(data, K, cov)
    A = advantages(lqr, data)
    if normalise:
        A = (A - A.mean()) / A.std()
    N, T = A.shape
    total = 0.0
    for i in range(N):
        for t in range(T):
            held = min(max(ratios[i, t], 1 - clip), 1 + clip)
            worse = max(ratios[i, t] * A[i, t], held * A[i, t])
            total += lqr.gamma**t * worse / N
    return total


@sizes
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("clip", [0.05, 0.2, 1.5])
def test_ppo_is_the_gradient_of_its_clipped_surrogate(n, m, clip, normalise):
    lqr, data, K, cov = off_policy(n, m, n_trajectories=24)

    def surrogate(K):
        return clipped_surrogate(lqr, data, K, cov, clip, normalise)

    found = ppo_is(lqr, data, K, cov=cov, clip=clip, normalise=normalise).gradient
    expected = slope(surrogate, K, h=1e-6)
    close(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("clip", [0.05, 0.2])
def test_clipping_leaves_out_some_steps_of_both_kinds(clip):
    lqr, data, K, cov = off_policy(n_trajectories=24)
    ratios, _ = steps_by_hand(data, K, cov)
    A = advantages(lqr, data)
    for side in (A > 0, A < 0):
        for far in (ratios > 1 + clip, ratios < 1 - clip):
            assert (side & far).any()


def test_the_error_of_ppo_is_the_spread_of_its_terms():
    lqr, data, K, cov = off_policy(n_trajectories=24)
    ratios, scores = steps_by_hand(data, K, cov)
    A = advantages(lqr, data)
    A = (A - A.mean()) / A.std()
    alive = np.where(A > 0, ratios >= 0.8, ratios <= 1.2)
    terms = np.einsum(
        "t,it,it,itmn->imn", discounts(lqr, data), ratios, A * alive, scores
    )
    found = ppo_is(lqr, data, K, cov=cov).standard_error
    close(found, mean_and_error(terms)[1], rtol=1e-8)


def test_unclipped_and_not_normalised_it_is_the_per_step_estimate():
    lqr, data, K, cov = off_policy(n_trajectories=24)
    plain = per_step_is(lqr, data, K, cov=cov)
    for have, want in zip(unclipped(lqr, data, K, cov=cov), plain, strict=True):
        close(have, want, rtol=1e-12)


def test_normalised_it_does_not_depend_on_the_unit_of_the_cost():
    lqr, data, K, cov = off_policy(n_trajectories=24)
    cents = data._replace(cost=100.0 * data.cost)
    found, same = (ppo_is(lqr, some, K, cov=cov).gradient for some in (data, cents))
    close(found, same, rtol=1e-8)


def test_far_from_the_data_it_stands_still_where_no_step_may_move():
    # The one step that is cheap has become likely, the dear one unlikely: both held.
    lqr, data = one_step()
    three = concatenate([data, data])._replace(cost=np.array([[1.0], [9.0]] * 2))
    x, u = np.ones((4, 2, 1)), np.array([[[-3.0]], [[3.0]]] * 2)
    three = three._replace(x=x, u=u)
    found = ppo_is(lqr, three, [[-2.0]], cov=4.0).gradient
    assert found == 0.0
    back = ppo_is(lqr, three, [[0.0]], cov=4.0).gradient
    assert back > 0.1  # a wrong move is never held


@pytest.mark.parametrize("clip", [0.0, -0.2, np.nan, np.inf, None, "1", [0.2], True])
def test_a_clip_that_is_no_positive_number_is_refused(clip):
    lqr, data, K, cov = off_policy()
    with pytest.raises(ValueError, match=r"^clip: expected .+, found .+"):
        ppo_is(lqr, data, K, cov=cov, clip=clip)


def test_advantages_that_are_all_alike_move_nothing():
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 30, 4)
    data = data._replace(cost=0.0 * data.cost)
    np.testing.assert_array_equal(
        ppo_is(MAIN, data, FIRST_GAIN + 0.1, cov=1.0).gradient, np.zeros((1, 2))
    )


# Around a critic.


def forecast_terms(lqr, data, K, cov, critic):
    w, _, S = parts_by_hand(lqr, data, K, cov)
    Theta, const, n = critic.Theta, float(critic.const), lqr.n
    (N, T), L = w.shape, np.vstack([np.eye(n), K])
    noise = np.trace(Theta[n:, n:] @ cov)
    terms = np.zeros((N, *K.shape))
    for i in range(N):
        for t in range(T):
            x, u = data.x[i, t], data.u[i, t]
            z = np.concatenate([x, u])
            Q = z @ Theta @ z + const
            V = x @ L.T @ Theta @ L @ x + noise + const
            grad_V = 2 * np.outer(Theta[n:, n:] @ K @ x + Theta[n:, :n] @ x, x)
            before = w[i, t - 1] if t else 1.0
            S_before = S[i, t - 1] if t else 0.0 * K
            step = w[i, t] * S[i, t] * (data.cost[i, t] - Q)
            step = step + before * (S_before * V + grad_V)
            terms[i] += lqr.gamma**t * step
    return terms


@sizes
def test_the_doubly_robust_estimate_is_its_formula_written_as_loops(n, m):
    lqr, data, K, cov = off_policy(n, m)
    critic = wrong_critic(lqr)
    gradient, error = mean_and_error(forecast_terms(lqr, data, K, cov, critic))
    found = doubly_robust_is(lqr, data, K, cov=cov, critic=critic)
    close(found.gradient, gradient, rtol=1e-10, atol=1e-10 * np.abs(gradient).max())
    close(found.standard_error, error, rtol=1e-10)


def test_of_one_scalar_step_around_a_critic_by_hand():
    # At K_b = −1 with Q = x² + 2xu + 3u² + 4: Q = 4 − 4 + 3 + 4, 1 + 4 + 12 + 4;
    # ∇V = 2(3K + 1)x² = −16, −4; scores ½, ¾; costs 5.
    lqr, data = one_step()
    one = np.ones(())
    critic = Critic(np.array([[1.0, 1.0], [1.0, 3.0]]), 4.0 * one, one.astype(int), one)
    found = doubly_robust_is(lqr, data, [[-1.0]], cov=4.0, critic=critic).gradient
    by_hand = (0.5 * (5 - 7) - 16 + 0.75 * (5 - 21) - 4) / 2
    assert found == pytest.approx(by_hand, rel=1e-14)


def test_around_nothing_it_is_the_per_decision_estimate():
    lqr, data, K, cov = off_policy()
    nothing = wrong_critic(lqr)._replace(Theta=np.zeros((5, 5)), const=np.zeros(()))
    found = doubly_robust_is(lqr, data, K, cov=cov, critic=nothing)
    plain = per_decision_is(lqr, data, K, cov=cov)
    for have, want in zip(found, plain, strict=True):
        close(have, want, rtol=1e-12)


def critics(lqr, K):
    return {"wrong": wrong_critic(lqr), "true": exact_critic(lqr, K, const=1.0)}


@every_world
@pytest.mark.parametrize("which", ["wrong", "true"])
def test_around_any_critic_the_mean_is_the_truncated_gradient(world, which):
    lqr, data, K, cov = many_sets(world)
    critic = critics(lqr, K)[which]
    found = doubly_robust_is(lqr, data, K, cov=cov, critic=critic)
    truth = truncated_gradient(lqr, K, cov, HORIZON)
    assert np.abs(z_scores(found.gradient, truth)).max() < MOST
    reported = np.sqrt(np.square(found.standard_error).mean(axis=0))
    ratio = found.gradient.std(axis=0) / reported
    assert 0.8 < ratio.min() <= ratio.max() < 1.25


@every_world
def test_the_learned_critic_leaves_the_mean_where_it_is(world):
    lqr, data, K, cov = many_sets(world, n_trajectories=1000, batch=60)
    found = doubly_robust_is(lqr, data, K, cov=cov).gradient
    truth = truncated_gradient(lqr, K, cov, HORIZON)
    assert np.abs(z_scores(found, truth)).max() < MOST


def test_the_true_critic_lowers_the_spread():
    # Long enough for the critic of an endless future to speak of this one.
    lqr, cov, T = MAIN, np.eye(1), 60
    K = FIRST_GAIN + 0.01
    data = gaussian_data(lqr, np.broadcast_to(FIRST_GAIN, (100, 1, 2)), cov, 100, T)
    P = exact.value_matrix(lqr, K)
    Theta_uu = exact.q_matrix(lqr, K)[2:, 2:]
    noise = np.trace(P @ lqr.W) + np.trace(Theta_uu @ cov)
    const = lqr.gamma / (1 - lqr.gamma) * noise
    spread = {
        name: doubly_robust_is(lqr, data, K, cov=cov, critic=critic)
        .gradient.std(axis=0)
        .max()
        for name, critic in {
            "true": exact_critic(lqr, K, const),
            "wrong": wrong_critic(lqr),
        }.items()
    }
    plain = per_decision_is(lqr, data, K, cov=cov).gradient.std(axis=0).max()
    assert spread["true"] < 0.4 * plain
    assert spread["true"] < 0.4 * spread["wrong"]


@pytest.mark.parametrize("lead", [(), (2, 3)], ids=str)
def test_without_one_the_critic_is_lstdq_of_the_policy_on_the_same_data(lead):
    lqr, data, K, cov = off_policy(n_trajectories=60)
    gains = K + 0.03 * np.random.default_rng(5).standard_normal((*lead, 2, 3))
    critic = of_gaussian(lqr, lstdq(lqr, transitions(data), gains), cov)
    found = doubly_robust_is(lqr, data, gains, cov=cov)
    given = doubly_robust_is(lqr, data, gains, cov=cov, critic=critic)
    for have, want in zip(found, given, strict=True):
        np.testing.assert_array_equal(have, want)
    assert found.gradient.shape == (*lead, 2, 3)


def test_the_learned_critic_knows_what_the_policy_s_own_noise_costs():
    """Without that constant every error of a forecast would hold it, times a weight."""
    lqr, K, cov = MAIN, 1.05 * FIRST_GAIN, 30.0
    found = []
    for seed in range(20):
        policy = GaussianPolicy(FIRST_GAIN, cov)
        data = rollout(lqr, policy, 100, 60, np.random.default_rng(seed))
        mean_action = lstdq(lqr, transitions(data), K)
        kinds = {}, {"critic": mean_action}
        found.append(
            [doubly_robust_is(lqr, data, K, cov=cov, **kind)[0] for kind in kinds]
        )
    own, other = np.std(found, axis=0).max(axis=(-2, -1))
    assert own < 0.7 * other


def test_many_gains_around_learned_critics_equal_a_loop():
    lqr, data, K, cov = off_policy(n_trajectories=60)
    gains = K + 0.03 * np.random.default_rng(5).standard_normal((4, 2, 3))
    together = doubly_robust_is(lqr, data, gains, cov=cov)
    for i in range(4):
        alone = doubly_robust_is(lqr, data, gains[i], cov=cov)
        for have, want in zip(together, alone, strict=True):
            close(have[i], want, rtol=1e-9)


def test_many_data_sets_around_learned_critics_equal_a_loop():
    lqr, K, cov = system(3, 2)
    data = gaussian_data(lqr, np.broadcast_to(K, (3, 2, 3)), cov, 40, 4)
    together = doubly_robust_is(lqr, data, 0.95 * K, cov=cov)
    for i in range(3):
        parts = (part[i] for part in data[:4])
        one = type(data)(*parts, GaussianPolicy(K, cov))
        alone = doubly_robust_is(lqr, one, 0.95 * K, cov=cov)
        for have, want in zip(together, alone, strict=True):
            close(have[i], want, rtol=1e-8)


def test_data_that_do_not_determine_the_critic_are_refused_with_their_rank():
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 2, 2)
    with pytest.raises(
        ValueError, match=r"^data: expected features of rank 7 .*, found rank 4"
    ):
        doubly_robust_is(MAIN, data, FIRST_GAIN, cov=1.0)


def test_deterministic_data_are_refused_for_their_weights_first():
    data = rollout(MAIN, LinearPolicy(FIRST_GAIN), 20, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^trajectories: .*no density"):
        doubly_robust_is(MAIN, data, FIRST_GAIN, cov=1.0)


# All of them.


@pytest.mark.parametrize("function", [per_step_is, ppo_is])
def test_a_horizon_of_one_is_a_horizon(function):
    lqr, K, cov = system(3, 2)
    data = on_its_own(gaussian_data(lqr, K, cov, 24, 1))
    ratios, scores = steps_by_hand(data, 0.9 * K, cov)
    A = advantages(lqr, data)
    expected = np.einsum("it,it,itmn->mn", ratios, A, scores) / 24
    options = {} if function is per_step_is else {"clip": 1e9, "normalise": False}
    found = function(lqr, data, 0.9 * K, cov=cov, **options).gradient
    close(found, expected, rtol=1e-8)


@pytest.mark.parametrize("function", [per_step_is, ppo_is])
def test_few_trajectories_leave_nothing_and_break_nothing(function):
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 3, 5)  # four coefficients
    found = function(MAIN, data, FIRST_GAIN, cov=1.0)
    close(found.gradient, np.zeros((1, 2)), atol=1e-4)


# A critic's word on each step.


def actor_critic_terms(lqr, data, K, cov, critic, signal):
    """Σ_t γᵗ w_t δ_t s_t of each trajectory, written as loops."""
    n, Theta = lqr.n, critic.Theta
    ratios, scores = steps_by_hand(data, K, cov)
    weights = np.cumprod(ratios, axis=1)

    def value(x):
        z = np.concatenate([x, K @ x])
        return z @ Theta @ z + np.trace(Theta[n:, n:] @ cov) + critic.const

    N, T = data.cost.shape
    terms = np.zeros((N, *K.shape))
    for i in range(N):
        for t in range(T):
            x, u = data.x[i, t], data.u[i, t]
            z, factor = np.concatenate([x, u]), lqr.gamma**t
            if signal == "expectation":
                before = 1.0 if t == 0 else weights[i, t - 1]
                slope = 2 * (Theta[n:, n:] @ K + Theta[n:, :n]) @ x
                terms[i] += factor * before * np.outer(slope, x)
                continue
            if signal == "advantage":
                paid = z @ Theta @ z + critic.const - value(x)
            else:
                ahead = value(data.x[i, t + 1])
                paid = data.cost[i, t] + lqr.gamma * ahead - value(x)
            terms[i] += factor * weights[i, t] * paid * scores[i, t]
    return terms


@sizes
@pytest.mark.parametrize("signal", SIGNALS)
def test_actor_and_critic_are_their_formula_written_as_loops(n, m, signal):
    lqr, data, K, cov = off_policy(n, m, n_trajectories=24)
    critic = wrong_critic(lqr)
    terms = actor_critic_terms(lqr, data, K, cov, critic, signal)
    gradient, error = mean_and_error(terms)
    found = actor_critic_is(lqr, data, K, cov=cov, critic=critic, signal=signal)
    close(found.gradient, gradient, rtol=1e-8, atol=1e-8 * np.abs(gradient).max())
    close(found.standard_error, error, rtol=1e-8)


@sizes
@pytest.mark.parametrize("signal", SIGNALS)
def test_without_a_critic_it_is_that_of_the_gaussian_policy_from_the_same_data(
    n, m, signal
):
    lqr, data, K, cov = off_policy(n, m, n_trajectories=60)
    own = of_gaussian(lqr, lstdq(lqr, transitions(data), K), cov)
    found, same = (
        actor_critic_is(lqr, data, K, cov=cov, critic=critic, signal=signal)
        for critic in (None, own)
    )
    close(found.gradient, same.gradient, rtol=1e-12)


def slope_told(lqr, K, critic, signal):
    """What the critic says of half the slope of Q at u = Kx, as a gain."""
    n, Theta = lqr.n, critic.Theta
    if signal == "TD error":  # of c + γ V(x'); what it says of Q is not asked for
        L = np.concatenate([np.eye(n), K])
        after = lqr.gamma * lqr.B.T @ L.T @ Theta @ L
        return lqr.R @ K + after @ lqr.closed_loop(K)
    return Theta[n:, n:] @ K + Theta[n:, :n]


@every_world
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("which", ["wrong", "true"])
def test_the_mean_is_the_slope_that_the_critic_tells(world, signal, which):
    lqr, data, K, cov = many_sets(world)
    critic = {"wrong": wrong_critic(lqr), "true": true_critic(lqr, K, cov)}[which]
    stages = finite_horizon.constant(lqr, K, HORIZON)
    X = finite_horizon.state_moments(lqr, stages, cov)[:-1].sum(axis=0)
    told, true = 2 * slope_told(lqr, K, critic, signal), 2 * exact.gain_error(lqr, K)
    found = actor_critic_is(lqr, data, K, cov=cov, critic=critic, signal=signal)
    assert np.abs(z_scores(found.gradient, told @ X)).max() < MOST
    if which == "true":
        close(told, true, rtol=1e-9, atol=1e-9 * np.abs(true).max())
    else:
        assert np.abs(z_scores(found.gradient, true @ X)).max() > 2 * MOST


def test_a_constant_in_the_critic_moves_only_the_spread_of_the_td_error():
    lqr, data, K, cov = many_sets("double_integrator")
    critic = true_critic(lqr, K, cov)
    shifted = critic._replace(const=critic.const + 500.0)  # of δ by 500 (γ − 1)
    for signal in SIGNALS:
        one, other = (
            actor_critic_is(lqr, data, K, cov=cov, critic=c, signal=signal).gradient
            for c in (critic, shifted)
        )
        if signal == "TD error":
            assert np.abs(z_scores(one - other, 0.0)).max() < MOST
            assert (other.std(axis=0) > 3 * one.std(axis=0)).all()
        else:
            close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("signal", ["delta", 3, None])
def test_another_signal_is_refused(signal):
    lqr, data, K, cov = off_policy(2, 1)
    with pytest.raises(ValueError, match=r"^signal: expected one of"):
        actor_critic_is(lqr, data, K, cov=cov, signal=signal)
