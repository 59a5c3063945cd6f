"""A check to be trusted: right functions pass, planted mistakes are told apart."""

import functools

import numpy as np
import pytest
import scipy.stats
from by_hand import exact_critic, truncated_gradient
from systems import (
    FIRST_GAIN,
    FIRST_GAINS,
    NAMED,
    close,
    gaussian_data,
    radius,
    z_scores,
)

from lqrlib import GaussianPolicy, GradientReport, check, exact, gradients, worlds
from lqrlib.check import PLACES, TARGETS, check_gradient
from lqrlib.model import fit
from lqrlib.rollout import transitions
from lqrlib.weights import log_weights, second_moment

MAIN = worlds.double_integrator()
COV, HORIZON = 0.4, 20
QUICK = {"n_trajectories": 100, "horizon": HORIZON, "data_sets": 20, "cov": COV}
SPARSE = QUICK | {"n_trajectories": 5, "data_sets": 15}
every_world = pytest.mark.parametrize("world", FIRST_GAINS)


def checked(gradient, world="double_integrator", seed=0, **options):
    rng = np.random.default_rng(seed)
    return check_gradient(
        gradient, NAMED[world](), FIRST_GAINS[world], rng=rng, **(QUICK | options)
    )


# A reader's own gradient, with every part of it open to a mistake.


def ratio(data, K, cov):
    """π/π_b of each step [N, T], for one covariance σ²."""
    x, u = data.x[:, :-1], data.u
    far, near = (np.square(u - x @ k.T).sum(-1) for k in (K, data.policy.K))
    return np.exp((near - far) / (2 * cov))


def score(data, K, cov):
    x, u = data.x[:, :-1], data.u
    return np.einsum("itm,itn->itmn", u - x @ K.T, x) / cov


def discounted(lqr, data):
    return data.cost * lqr.gamma ** np.arange(data.cost.shape[1])


def total(w, c, S):
    """Mean over trajectories of Σ_t w_t c_t S_t, with S summed up to t."""
    return np.einsum("it,itmn->mn", w * c, S.cumsum(axis=1)) / len(c)


def mine(lqr, data, K, *, cov):
    w = ratio(data, K, cov).cumprod(axis=1)
    return total(w, discounted(lqr, data), score(data, K, cov))


def without_causality(lqr, data, K, *, cov):
    w = ratio(data, K, cov).prod(axis=1)
    returns = discounted(lqr, data).sum(axis=1)
    S = score(data, K, cov).sum(axis=1)
    return np.einsum("i,imn->mn", w * returns, S) / len(w)


def with_a_baseline(lqr, data, K, *, cov):
    return mine(lqr, data._replace(cost=data.cost - 7.0), K, cov=cov)


def half(lqr, data, K, *, cov):
    """Right, and much of its luck is its own."""
    N = len(data.cost) // 2
    data = data._replace(x=data.x[:N], u=data.u[:N], cost=data.cost[:N])
    return mine(lqr, data, K, cov=cov)


def doubly_robust(lqr, data, K, *, cov):
    critic = exact_critic(lqr, K)
    return gradients.doubly_robust_is(lqr, data, K, cov=cov, critic=critic)


def wrong_sign(lqr, data, K, *, cov):
    return -mine(lqr, data, K, cov=cov)


def wrong_scale(lqr, data, K, *, cov):
    return 3.0 * mine(lqr, data, K, cov=cov)


def no_inverse(lqr, data, K, *, cov):
    return cov * mine(lqr, data, K, cov=cov)


def deviation(lqr, data, K, *, cov):
    return np.sqrt(cov) * mine(lqr, data, K, cov=cov)


def sum_for_mean(lqr, data, K, *, cov):
    return len(data.cost) * mine(lqr, data, K, cov=cov)


def mean_over_steps(lqr, data, K, *, cov):
    return mine(lqr, data, K, cov=cov) / HORIZON


def no_discount(lqr, data, K, *, cov):
    w = ratio(data, K, cov).cumprod(axis=1)
    return total(w, data.cost, score(data, K, cov))


def discounted_early(lqr, data, K, *, cov):
    return lqr.gamma * mine(lqr, data, K, cov=cov)


def no_weights(lqr, data, K, *, cov):
    return total(1.0, discounted(lqr, data), score(data, K, cov))


def inverse_weights(lqr, data, K, *, cov):
    w = 1.0 / ratio(data, K, cov).cumprod(axis=1)
    return total(w, discounted(lqr, data), score(data, K, cov))


def normalised_over_steps(lqr, data, K, *, cov):
    w = ratio(data, K, cov).cumprod(axis=1)
    w = w / w.mean(axis=1, keepdims=True)
    return total(w, discounted(lqr, data), score(data, K, cov))


def score_of_behaviour(lqr, data, K, *, cov):
    w = ratio(data, K, cov).cumprod(axis=1)
    return total(w, discounted(lqr, data), score(data, data.policy.K, cov))


def next_states(lqr, data, K, *, cov):
    w = ratio(data, K, cov).cumprod(axis=1)
    S = np.einsum("itm,itn->itmn", data.u - data.x[:, :-1] @ K.T, data.x[:, 1:]) / cov
    return total(w, discounted(lqr, data), S)


def transposed(lqr, data, K, *, cov):
    return mine(lqr, data, K, cov=cov).T


def lost(lqr, data, K, *, cov):
    found = mine(lqr, data, K, cov=cov)
    found[0, 0] = np.inf
    return found


def test_a_single_estimate_would_tell_little():
    data = gaussian_data(MAIN, FIRST_GAIN, COV, 6000, 50)
    size = np.linalg.norm(truncated_gradient(MAIN, FIRST_GAIN, COV * np.eye(1), 50))
    for function, shares in (
        (gradients.per_decision_is, (1.7, 2.4)),
        (gradients.trajectory_is, (3.4, 4.6)),
    ):
        error = function(MAIN, data, FIRST_GAIN, cov=COV).standard_error
        share = np.linalg.norm(error) * np.sqrt(6000 / 200) / size
        assert shares[0] < share < shares[1]


# What is right passes.


@every_world
@pytest.mark.parametrize(
    "function",
    [
        gradients.trajectory_is,
        gradients.per_decision_is,
        gradients.self_normalised_is,
        mine,
        half,
        without_causality,
        with_a_baseline,
        doubly_robust,
    ],
)
def test_what_has_the_right_mean_passes(function, world):
    report = checked(function, world)
    assert report.passed, str(report)
    assert report.failed == ()
    assert report.reason.startswith("no difference found")


@every_world
@pytest.mark.parametrize("target", ["dpg", "natural", "gauss_newton"])
def test_learned_critics_pass_for_what_they_are_about(target, world):
    name = target if target == "dpg" else f"{target}_dpg"
    report = checked(getattr(gradients, name), world, target=target, n_trajectories=400)
    assert report.passed, str(report)


@every_world
def test_a_fitted_model_passes_for_the_gradient_without_end(world):
    def planned(lqr, data, K, *, cov):
        return exact.gradient(fit(transitions(data)).problem(lqr), K)

    report = checked(planned, world, target="deterministic", n_trajectories=400)
    assert report.passed, str(report)


# What is wrong fails, where it is wrong and with the reason.


@every_world
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (wrong_sign, "minus the exact value"),
        (wrong_scale, "right direction, 3 times as long"),
        (no_inverse, "score without Σ⁻¹"),
        (deviation, "σ for σ²"),
        (sum_for_mean, "sum over trajectories"),
        (mean_over_steps, "mean over steps"),
        (no_discount, "without discount"),
    ],
)
def test_a_wrong_length_fails_on_policy_and_is_named(function, words, world):
    report = checked(function, world)
    assert {"on_policy", "off_policy", "slope"} <= {*report.failed}
    assert "mean_weight" not in report.failed
    assert words in report.reason


def test_one_discount_too_many_is_seen_where_it_exceeds_the_tolerance():
    report = checked(discounted_early)  # γ = .95
    assert "discounted once too often" in report.reason
    close(report.slope.mean, MAIN.gamma, rtol=1e-6)
    assert checked(discounted_early, tolerance=0.06).passed
    slight = checked(discounted_early, "laplacian")  # γ = .98
    assert slight.passed
    assert not checked(discounted_early, "laplacian", tolerance=0.01).passed


@every_world
@pytest.mark.parametrize(
    "function",
    [no_weights, inverse_weights, normalised_over_steps, score_of_behaviour],
)
def test_wrong_weights_fail_off_policy_only(function, world):
    report = checked(function, world)
    assert report.failed == ("off_policy",)
    assert "right on its own data" in report.reason


@every_world
def test_another_direction_is_told_from_another_length(world):
    report = checked(next_states, world)
    assert {"on_policy", "elsewhere", "off_policy"} <= {*report.failed}
    assert "another direction" in report.reason
    assert report.cosine < 0.98


def test_a_cause_is_named_only_if_it_explains_all_gains():
    def half_at_first(lqr, data, K, *, cov):
        share = 0.5 if (K == FIRST_GAIN).all() else 1.0
        return share * mine(lqr, data, K, cov=cov)

    report = checked(half_at_first)
    assert report.failed == ("on_policy", "slope")
    assert report.reason.startswith("another direction")


def test_a_transposed_gradient_fails_or_is_refused_by_its_shape():
    # World and gain are symmetric, so that only the random gains can tell.
    report = checked(transposed, "laplacian")
    assert {"elsewhere", "off_policy"} <= {*report.failed}
    assert "on_policy" not in report.failed
    words = r"^gradient: expected a real array of shape \(1, 2\), found shape \(2, 1\)"
    with pytest.raises(ValueError, match=words):
        checked(transposed)


def test_nan_and_inf_are_data():
    report = checked(lost)
    assert {"on_policy", "off_policy", "slope"} <= {*report.failed}
    assert report.reason == "some estimates are nan or inf"
    assert "FAILED" in str(report)


def of_target(target):
    """A function that returns the exact value, computed once more."""

    def moment(lqr, K, cov):
        X, M = 0.0, lqr.X0
        for t in range(HORIZON):
            X = X + lqr.gamma**t * M
            F = lqr.A + lqr.B @ K
            M = F @ M @ F.T + lqr.W + cov * lqr.B @ lqr.B.T
        return X

    def function(lqr, data, K, *, cov):
        if target == "gaussian":
            return truncated_gradient(lqr, K, cov * np.eye(lqr.m), HORIZON)
        E, P = exact.gain_error(lqr, K), exact.value_matrix(lqr, K)
        if target == "gauss_newton":
            return np.linalg.solve(lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B, E)
        states = {
            "deterministic": exact.state_moment(lqr, K),
            "dpg": moment(lqr, data.policy.K, cov),
            "natural": np.eye(lqr.n),
        }
        return 2.0 * E @ states[target]

    return function


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("true", TARGETS)
def test_each_exact_value_passes_as_itself_and_is_recognised_elsewhere(true, target):
    options = SPARSE | {"target": target, "tolerance": 0.0}
    report = checked(of_target(true), "three_rooms", **options)
    assert report.passed == (true == target)
    if true != target:
        assert report.reason == f"the mean agrees with the exact value for {true!r}"
        assert report.cosine < 1 - 1e-6


def test_an_undiscounted_world_is_checked_too():
    lqr, rng = worlds.recht_double_integrator(), np.random.default_rng(0)
    K = 0.9 * exact.optimal_gain(lqr)
    assert check_gradient(mine, lqr, K, rng=rng, **QUICK).passed
    report = check_gradient(wrong_scale, lqr, K, rng=rng, **QUICK)
    assert report.reason == "the right direction, 3 times as long"


# What the report holds.


@every_world
def test_the_gains_are_where_they_are_said_to_be(world):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    report = checked(mine, world, **SPARSE)
    best = exact.optimal_gain(lqr)
    close(report.K[[0, 2]], [K_b, best], rtol=1e-12, atol=1e-12)
    assert radius(lqr, report.K[1]) <= (1 + radius(lqr, best)) / 2
    away = np.linalg.norm(report.K[1] - best) / np.linalg.norm(K_b - best)
    assert 0.0 < away <= 0.5 + 1e-12
    step, cov = report.K[3] - K_b, COV * np.eye(lqr.m)
    for share, exists in ((3.99, True), (4.01, False)):
        moment = second_moment(lqr, K_b + share * step, K_b, cov, HORIZON)
        assert np.isfinite(moment) == exists
    moment = second_moment(lqr, report.K[3], K_b, cov, HORIZON)
    assert report.second_moment == pytest.approx(moment, rel=1e-12)
    exact_values = [truncated_gradient(lqr, K, cov, HORIZON) for K in report.K]
    found = [getattr(report, name).exact for name in PLACES]
    close(found, exact_values, rtol=1e-9, atol=1e-9 * np.abs(exact_values).max())


def test_data_are_fresh_and_made_by_whom_it_is_said():
    calls = []

    def noting(lqr, data, K, *, cov):
        assert cov is COV
        assert data.cost.shape == (5, HORIZON)
        close(data.policy.cov, [[COV]])
        calls.append((K, data.policy.K, data.x[0, 0, 0]))
        return K

    report = checked(noting, **SPARSE)
    asked, made_by, starts = map(np.array, zip(*calls, strict=True))
    assert len({*starts}) == len(calls) == 60
    for K, origin in zip(report.K, [*report.K[:3], FIRST_GAIN], strict=True):
        mine_alone = (asked == K).all(axis=(1, 2))
        assert mine_alone.sum() == 15
        assert (made_by[mine_alone] == origin).all()


def test_a_function_may_spoil_what_it_is_given():
    def spoiling(lqr, data, K, *, cov):
        found = mine(lqr, data, K, cov=cov)
        for given in (K, data.x, data.u, data.cost):
            given[...] = np.nan
        return found

    assert str(checked(spoiling)) == str(checked(mine))


def test_the_mean_weight_is_that_of_whole_trajectories():
    sums = []

    def noting(lqr, data, K, *, cov):
        sums.append((K, ratio(data, K, cov).prod(axis=1).mean()))
        return K

    report = checked(noting)
    w = [w for K, w in sums if (report.K[3] == K).all()]
    assert report.mean_weight.mean == pytest.approx(np.mean(w), rel=1e-12)
    error = np.std(w, ddof=1) / np.sqrt(len(w))
    assert report.mean_weight.standard_error == pytest.approx(error, rel=1e-9)
    assert abs(z_scores(np.array(w), 1.0)) < 4


@pytest.mark.parametrize("reach", [1.1, 5.0, 100.0])
def test_past_the_breakdown_the_weights_are_useless_and_it_says_so(reach):
    report = checked(mine, reach=reach)
    assert report.second_moment == np.inf
    assert "mean_weight" in report.failed
    assert "do not reach so far" in report.reason


def test_slope_and_cosine_are_those_of_the_means():
    rng = np.random.default_rng(1)
    turn = {}

    def turned(lqr, data, K, *, cov):
        if K.tobytes() not in turn:
            turn[K.tobytes()] = rng.standard_normal(K.shape)
        return truncated_gradient(lqr, K, cov * np.eye(1), HORIZON) + turn[K.tobytes()]

    report = checked(turned, **SPARSE)
    own = [report.on_policy, report.elsewhere, report.optimum]
    X, y = (np.ravel([c[i] for c in own]) for i in (2, 0))
    close(report.slope.mean, np.linalg.lstsq(X[:, None], y)[0][0], rtol=1e-9)
    close(report.cosine, X @ y / np.linalg.norm(X) / np.linalg.norm(y), rtol=1e-12)


def test_the_regression_is_ordinary_least_squares():
    rng = np.random.default_rng(2)
    known = rng.standard_normal((30, 2, 3)) * [1e-3, 1.0, 1e3]
    y = 5.0 + known @ [1.0, -2.0, 3.0] + rng.standard_normal((30, 2))
    found = check._comparison(y, known, np.array([4.0, 6.0]), 1.0)
    for i in range(2):
        X = np.column_stack([np.ones(30), known[:, i]])
        theta, squares, *_ = np.linalg.lstsq(X, y[:, i])
        error = np.sqrt(squares[0] / 26 * np.linalg.inv(X.T @ X)[0, 0])
        close([found.mean[i], found.standard_error[i]], [theta[0], error], rtol=1e-9)
    close(found.z, (found.mean - [4.0, 6.0]) / found.standard_error)


def test_what_the_library_shares_is_taken_out():
    # Without that, the error of the mean would be the spread over the root of 20.
    plain = []

    def noting(lqr, data, K, *, cov):
        plain.append(half(lqr, data, K, cov=cov))
        return plain[-1]

    report = checked(noting)
    spread = np.std(plain[:: len(PLACES)], axis=0, ddof=1) / np.sqrt(20)
    assert (report.on_policy.standard_error < 0.9 * spread).all()
    for function in (without_causality, with_a_baseline):
        assert (checked(function).on_policy.standard_error < 1e-6 * spread).all()


def test_the_threshold_shares_the_level_among_all_comparisons():
    report = checked(mine, "three_rooms", level=0.1)
    count = 4 * 6 + 2
    t = scipy.stats.t(20 - 5).ppf(1 - 0.1 / count / 2)
    assert report.threshold == pytest.approx(t, rel=1e-9)


RUNS, LEVEL = 40, 0.2


@functools.cache
def runs(world):
    """Reports of a right function with luck of its own, without tolerance."""
    options = {"tolerance": 0.0, "level": LEVEL, "n_trajectories": 60, "horizon": 10}
    return [checked(half, world, seed, **options) for seed in range(RUNS)]


@every_world
def test_a_right_function_fails_no_more_often_than_the_level_says(world):
    failures = sum(not report.passed for report in runs(world))
    assert failures <= scipy.stats.binom(RUNS, LEVEL).ppf(0.999)


@every_world
def test_z_scores_of_a_right_function_are_those_of_students_t(world):
    z = [
        np.concatenate([getattr(report, name).z.ravel() for name in PLACES])
        for report in runs(world)
    ]
    slopes = np.array([report.slope.z for report in runs(world)])
    t = scipy.stats.t(20 - (9 if world == "laplacian" else 5))
    for sample in (np.ravel(z), slopes):
        inside = np.mean(np.abs(sample) < t.ppf(0.75))
        assert abs(inside - 0.5) < 4 * 0.5 / np.sqrt(RUNS)  # entries share their luck


def test_the_tolerance_is_a_share_of_the_largest_exact_value():
    def longer(lqr, data, K, *, cov):
        return 1.015 * mine(lqr, data, K, cov=cov)

    assert checked(longer).passed
    assert {"on_policy", "slope"} <= {*checked(longer, tolerance=0.01).failed}


def test_the_report_is_a_table_in_words_and_nothing_is_printed(capsys):
    report = checked(no_weights)
    assert isinstance(report, GradientReport)
    assert capsys.readouterr().out == ""
    verdict, target, shape, *rows = str(report).splitlines()
    assert verdict == f"FAILED: {report.reason}"
    assert target == f"compared with {TARGETS['gaussian']}"
    assert shape == f"slope {report.slope.mean:.3f}, cosine {report.cosine:.3f}"
    assert [row.split()[0] for row in rows] == [*PLACES, "slope", "mean_weight"]
    assert [row.split()[0] for row in rows if "FAILED" in row] == ["off_policy"]
    assert str(checked(mine)).startswith("passed: ")


def test_the_same_generator_gives_the_same_report():
    assert str(checked(half)) == str(checked(half)) != str(checked(half, seed=1))


# What is refused.


def plainly(**options):
    given = {"gradient": mine, "rng": np.random.default_rng(0)} | SPARSE | options
    return check_gradient(lqr=MAIN, **({"K_behaviour": FIRST_GAIN} | given))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("gradient", None),
        ("gradient", 2.0),
        ("target", "hack"),
        ("target", None),
        ("n_trajectories", 0),
        ("horizon", 2.5),
        ("data_sets", 14),
        ("data_sets", None),
        ("reach", 0.0),
        ("reach", np.inf),
        ("tolerance", -0.1),
        ("tolerance", "0"),
        ("level", 0.0),
        ("level", 1),
        ("rng", 0),
        ("K_behaviour", np.ones((2, 1, 2))),
        ("cov", np.ones((3, 1, 1))),
    ],
)
def test_a_bad_option_is_refused_by_name(name, bad):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        plainly(**{name: bad})


@pytest.mark.parametrize(
    "returned",
    [
        None,
        1.0,
        np.ones(2),
        np.ones((1, 1, 2)),
        [[1.0], [1.0, 2.0]],
        [[1j, 0]],
        [["a"]],
    ],
    ids=repr,
)
def test_a_return_value_of_another_shape_is_refused_by_name(returned):
    words = r"^gradient: expected a real array of shape \(1, 2\), found "

    def function(lqr, data, K, *, cov):
        return returned

    with pytest.raises(ValueError, match=words):
        plainly(gradient=function)


def test_a_gain_without_a_finite_exact_value_is_refused():
    with pytest.raises(ValueError, match=r"^K_behaviour: expected finite exact values"):
        plainly(K_behaviour=[[0.5, -0.5]], target="natural")
    assert plainly(K_behaviour=[[0.5, -0.5]]).passed


@pytest.mark.parametrize("world", FIRST_GAINS)
def test_what_the_check_knows_are_the_estimates_of_the_library(world):
    lqr, K_b = NAMED[world](), FIRST_GAINS[world]
    cov = np.diag(np.linspace(0.3, 0.5, lqr.m))
    gains = K_b * np.array([0.99, 1.0, 1.01])[:, None, None]
    behaviour = np.broadcast_to(K_b, gains.shape)
    data = gaussian_data(lqr, behaviour, cov, 20, 6)
    own, weight = check._own(lqr, data, gains, cov)
    ones = data._replace(cost=np.ones_like(data.cost))
    wanted = [
        estimate(lqr, asked, gains, cov=cov).gradient
        for asked in (data, ones)
        for estimate in (gradients.per_decision_is, gradients.trajectory_is)
    ]
    close(own, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    log_w = log_weights(data, GaussianPolicy(gains, cov))
    close(weight, np.exp(log_w[..., -1]).mean(axis=-1), rtol=1e-12)
