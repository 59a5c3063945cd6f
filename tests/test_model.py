"""The fitted model: exact where it can be, calibrated where it cannot, and honest."""

import dataclasses

import numpy as np
import pytest
from systems import FIRST_GAIN, MOST, close, gaussian_data, system, z_scores

from lqrlib import LinearPolicy, worlds
from lqrlib.model import LinearModel, fit, fit_ensemble, prediction_error
from lqrlib.rollout import Transitions, concatenate, rollout, transitions

SIZES = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])
MAIN = worlds.double_integrator()


def without_noise(lqr):
    return dataclasses.replace(lqr, W=np.zeros_like(lqr.W))


def by_gains(lqr, gains, n_trajectories=10, horizon=5):
    """Steps of deterministic policies, pooled."""
    rng = np.random.default_rng(0)
    parts = [rollout(lqr, LinearPolicy(K), n_trajectories, horizon, rng) for K in gains]
    return transitions(concatenate(parts))


def fitted(lqr, K, cov, n_trajectories, horizon, seed=0):
    return fit(transitions(gaussian_data(lqr, K, cov, n_trajectories, horizon, seed)))


@SIZES
def test_without_noise_the_law_of_motion_is_recovered_exactly(n, m):
    lqr, K, cov = system(n, m)
    found = fitted(without_noise(lqr), K, cov, 20, 5)
    close(found.A, lqr.A, rtol=0, atol=1e-11)
    close(found.B, lqr.B, rtol=0, atol=1e-11)
    close(found.W, 0.0, rtol=0, atol=1e-20)
    assert np.isfinite(found.condition)


@SIZES
def test_it_is_numpys_least_squares_solution(n, m):
    lqr, K, cov = system(n, m)
    rows = transitions(gaussian_data(lqr, K, cov, 6, 5))
    z = np.concatenate([rows.x, rows.u], axis=-1)
    solution, squares, *_ = np.linalg.lstsq(z, rows.x_next)
    found = fit(rows)
    close(np.hstack([found.A, found.B]), solution.T, rtol=1e-10, atol=1e-11)
    close(np.diagonal(found.W) * (30 - n - m), squares, rtol=1e-10)
    scaled = z / np.linalg.norm(z, axis=0)
    assert found.condition == pytest.approx(np.linalg.cond(scaled), rel=1e-9)


def test_residuals_are_orthogonal_to_the_data():
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 6, 5))
    found = fit(rows)
    left = rows.x_next - rows.x @ found.A.T - rows.u @ found.B.T
    close(left.T @ rows.x, 0.0, rtol=0, atol=1e-11)
    close(left.T @ rows.u, 0.0, rtol=0, atol=1e-11)


def test_two_scalar_rows_by_hand():
    # 3 = 2a + 1b and 4 = 1a + 3b: a = b = 1; a third row (1, 0) → 1 changes nothing.
    rows = Transitions([[2.0], [1.0], [1.0]], [[1.0], [3.0], [0.0]], [0.0] * 3, None)
    found = fit(rows._replace(x_next=[[3.0], [4.0], [1.0]]))
    close([found.A, found.B], 1.0, rtol=1e-14)
    close(found.W, 0.0, rtol=0, atol=1e-28)
    # Off by d in that row alone: least squares leaves a residual, W = Σ r²/(3 − 2).
    off = fit(rows._replace(x_next=[[3.0], [4.0], [2.0]]))
    z = np.array([[2.0, 1.0], [1.0, 3.0], [1.0, 0.0]])
    leverage = z[2] @ np.linalg.inv(z.T @ z) @ z[2]
    close(off.W, 1.0 - leverage, rtol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_errors_have_the_covariance_of_least_squares(n, m):
    lqr, K, cov = system(n, m)
    data = gaussian_data(lqr, np.broadcast_to(K, (500, m, n)), cov, 200, 5)
    rows = transitions(data)
    found = fit(rows)
    z = np.concatenate([rows.x, rows.u], axis=-1)
    spread = np.linalg.inv(z.mT @ z)
    variance = np.einsum("i,bjj->bij", np.diagonal(lqr.W), spread)
    truth = np.hstack([lqr.A, lqr.B])
    errors = (np.concatenate([found.A, found.B], axis=-1) - truth) / np.sqrt(variance)
    assert np.abs(z_scores(errors, 0.0)).max() < MOST
    assert np.abs(z_scores(errors**2, 1.0)).max() < MOST
    assert np.abs(z_scores(found.W, lqr.W)).max() < MOST


def test_one_deterministic_gain_shows_the_closed_loop_and_nothing_else():
    lqr, K, _ = system(3, 2)
    lqr = without_noise(lqr)
    found = fit(by_gains(lqr, [K]))
    assert found.condition == np.inf
    close(found.A + found.B @ K, lqr.closed_loop(K), rtol=0, atol=1e-10)
    assert np.abs(found.B - lqr.B).max() > 0.1


@pytest.mark.parametrize(("n", "m", "enough"), [(2, 1, 2), (3, 2, 2), (2, 3, 3)])
def test_as_many_gains_as_it_takes_identify_the_model_without_exploration(n, m, enough):
    lqr, K, _ = system(n, m)
    lqr = without_noise(lqr)
    gains = K + 0.2 * np.random.default_rng(1).standard_normal((enough, m, n))
    assert fit(by_gains(lqr, gains[:-1])).condition == np.inf
    found = fit(by_gains(lqr, gains))
    assert np.isfinite(found.condition)
    close(found.A, lqr.A, rtol=0, atol=1e-8)
    close(found.B, lqr.B, rtol=0, atol=1e-8)


def test_condition_and_error_grow_like_one_over_the_deviation():
    deviations = np.array([1e-2, 1e-3, 1e-4])
    models = [fitted(MAIN, FIRST_GAIN, s**2, 100, 20) for s in deviations]
    sizes = {
        "condition": [found.condition for found in models],
        "B": [np.linalg.norm(found.B - MAIN.B) for found in models],
    }
    for values in sizes.values():
        slope = np.polyfit(np.log(deviations), np.log(values), 1)[0]
        assert slope == pytest.approx(-1.0, abs=0.1)
    loops = [found.A + found.B @ FIRST_GAIN for found in models]
    close(loops, np.broadcast_to(MAIN.closed_loop(FIRST_GAIN), (3, 2, 2)), atol=0.01)


def test_rows_of_diverged_trajectories_are_left_out():
    lqr, K, cov = system(3, 2)
    good = transitions(gaussian_data(lqr, K, cov, 6, 5))
    spoiled = Transitions(*(np.array(part) for part in good))
    spoiled.x[3, 1], spoiled.x_next[8, 0], spoiled.u[20, 1] = np.inf, -1e200, 1e61
    kept = np.delete(np.arange(30), [3, 8, 20])
    expected = fit(Transitions(*(part[kept] for part in good)))
    for have, want in zip(fit(spoiled), expected, strict=True):
        close(have, want, rtol=1e-9, atol=1e-12)


def test_data_that_all_diverged_say_nothing_and_admit_it():
    rows = Transitions(
        *(np.full(shape, np.inf) for shape in [(4, 2), (4, 1), (4,), (4, 2)])
    )
    found = fit(rows)
    assert found.condition == np.inf
    for part in found[:3]:
        np.testing.assert_array_equal(part, 0.0)


@pytest.mark.parametrize("rows", [1, 2])
def test_fewer_rows_than_unknowns_do_not_identify(rows):
    lqr, K, cov = system(2, 1)
    few = Transitions(
        *(part[:rows] for part in transitions(gaussian_data(lqr, K, cov, 2, 2)))
    )
    found = fit(few)
    assert found.condition == np.inf
    predicted = few.x @ found.A.T + few.u @ found.B.T
    close(predicted, few.x_next, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lead", [(4,), (2, 3)], ids=str)
def test_many_data_sets_equal_a_loop(lead):
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, np.broadcast_to(K, (*lead, 2, 3)), cov, 6, 5))
    together = fit(rows)
    assert together.condition.shape == lead
    for i in np.ndindex(lead):
        alone = fit(Transitions(*(part[i] for part in rows)))
        for have, want in zip(together, alone, strict=True):
            close(have[i], want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_units_of_states_and_actions_do_not_change_the_condition(unit):
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 6, 5))
    scaled = fit(rows._replace(u=unit * rows.u))
    plain = fit(rows)
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-9)
    close(unit * scaled.B, plain.B, rtol=1e-9)


def test_a_model_is_a_world_with_the_known_cost():
    lqr, K, cov = system(3, 2)
    found = fitted(lqr, K, cov, 20, 5)
    world = found.problem(lqr)
    for name in "ABW":
        close(getattr(world, name), getattr(found, name), rtol=1e-15, atol=1e-18)
    for name in ("Q", "R", "X0", "gamma"):
        np.testing.assert_array_equal(getattr(world, name), getattr(lqr, name))


def test_a_batch_of_models_is_no_world():
    lqr, K, cov = system(3, 2)
    batch = fitted(lqr, np.stack([K, K]), cov, 6, 5)
    with pytest.raises(ValueError, match=r"^A: expected shape .+, found .+"):
        batch.problem(lqr)


def test_a_model_of_other_sizes_is_no_world_with_that_cost():
    lqr, K, cov = system(3, 2)
    found = fitted(lqr, K, cov, 6, 5)
    with pytest.raises(ValueError, match=r"^Q: expected shape .+, found .+"):
        found.problem(system(2, 2)[0])


@pytest.mark.parametrize("name", ["u", "cost", "x_next"])
def test_parts_of_different_length_are_refused_by_name(name):
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 2, 5))
    with pytest.raises(
        ValueError, match=rf"^transitions.{name}: expected (one row for|shape)"
    ):
        fit(rows._replace(**{name: getattr(rows, name)[:-1]}))


def test_next_states_of_another_size_are_refused():
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 2, 5))
    with pytest.raises(ValueError, match=r"^transitions.x_next: expected .+, found"):
        fit(rows._replace(x_next=rows.x_next[:, :2]))


def taken(rows, index):
    """Some rows of one data set, or of many at once."""
    x, u, cost, x_next = rows
    some = Transitions(x[..., index, :], u[..., index, :], cost[..., index], None)
    return some._replace(x_next=x_next[..., index, :])


def model_of(A, B):
    return LinearModel(np.asarray(A, float), np.asarray(B, float), None, None)


def test_prediction_error_of_three_scalar_rows_by_hand():
    # a = 2, b = −1: residuals 3 − 1, 1 − 2, −4 − 0; squares 4, 1, 16.
    rows = Transitions([[1.0], [0.0], [1.0]], [[1.0], [-2.0], [2.0]], [0.0] * 3, None)
    rows = rows._replace(x_next=[[3.0], [1.0], [-4.0]])
    assert prediction_error(model_of([[2.0]], [[-1.0]]), rows) == pytest.approx(7.0)
    # A row that diverged is not counted.
    spoiled = rows._replace(x_next=[[3.0], [1.0], [1e61]])
    assert prediction_error(model_of([[2.0]], [[-1.0]]), spoiled) == pytest.approx(2.5)


def test_prediction_error_of_the_fit_is_that_of_its_residuals_and_the_least():
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 6, 5))
    found = fit(rows)
    least = prediction_error(found, rows)
    close(least, np.trace(found.W) * (30 - 5) / 30, rtol=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(5):
        moved = found._replace(A=found.A + 1e-3 * rng.standard_normal((3, 3)))
        assert prediction_error(moved, rows) > least


def test_models_and_data_broadcast_in_the_prediction_error():
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, np.broadcast_to(K, (2, 2, 3)), cov, 6, 5))
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((4, 1, 3, 2))
    together = prediction_error(model_of(A, B), rows)
    assert together.shape == (4, 2)
    for i, d in np.ndindex(4, 2):
        alone = Transitions(*(part[d] for part in rows))
        residual = alone.x_next - alone.x @ A[i, 0].T - alone.u @ B[i, 0].T
        close(together[i, d], (residual**2).sum() / 30, rtol=1e-12)


def members_by_hand(rows, size, rng, holdout):
    """Bootstrap fits and the rows that none of them saw, drawn in the same order."""
    M = len(rows.cost)
    order = rng.permutation(M)
    out = int(holdout * M)
    held, left = order[:out], order[out:]
    drawn = [rng.choice(left, len(left)) for _ in range(size)]
    return [fit(taken(rows, index)) for index in drawn], taken(rows, held), drawn


@pytest.mark.parametrize("holdout", [0.25, 0.5])
def test_members_are_fits_to_their_own_rows_the_best_on_the_holdout_first(holdout):
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, K, cov, 6, 5))
    rng = np.random.default_rng(5)
    fits, held, drawn = members_by_hand(rows, 6, rng, holdout)
    assert len(held.cost) == {0.25: 7, 0.5: 15}[holdout]
    for index in drawn:  # with replacement, from what is left
        assert len(set(index)) < len(index) == 30 - len(held.cost)
    errors = [prediction_error(one, held) for one in fits]
    best = [fits[i] for i in np.argsort(errors)]
    found = fit_ensemble(rows, 6, np.random.default_rng(5), holdout=holdout)
    assert len(found) == 6
    for have, want in zip(found, best, strict=True):
        for part, expected in zip(have, want, strict=True):
            close(part, expected, rtol=1e-12)
    elites = fit_ensemble(rows, 6, np.random.default_rng(5), holdout=holdout, elites=2)
    for have, want in zip(elites, found[:2], strict=True):
        for part, expected in zip(have, want, strict=True):
            np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("lead", [(4,), (2, 3)], ids=str)
def test_ensembles_of_many_data_sets_equal_a_loop(lead):
    lqr, K, cov = system(3, 2)
    rows = transitions(gaussian_data(lqr, np.broadcast_to(K, (*lead, 2, 3)), cov, 6, 5))
    together = fit_ensemble(rows, 5, np.random.default_rng(0), elites=3)
    firsts = set()
    for i in np.ndindex(lead):
        own = Transitions(*(part[i] for part in rows))
        alone = fit_ensemble(own, 5, np.random.default_rng(0), elites=3)
        for have, want in zip(together, alone, strict=True):
            for part, expected in zip(have, want, strict=True):
                close(part[i], expected, rtol=1e-10, atol=1e-12)
        fits, *_ = members_by_hand(own, 5, np.random.default_rng(0), 0.2)
        firsts.add(int(np.argmin([abs(f.A - alone[0].A).max() for f in fits])))
    assert len(firsts) > 1  # not the same member is the best everywhere


def test_the_same_generator_gives_the_same_members_and_another_others():
    rows = transitions(gaussian_data(MAIN, FIRST_GAIN, 1.0, 10, 20))
    one, same, other = (
        fit_ensemble(rows, 3, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for first, second, third in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(first.A, second.A)
        assert not np.array_equal(first.A, third.A)


def test_members_scatter_as_the_law_of_their_rows_and_like_one_over_its_root():
    cov, sets, spreads = 1.0, 40, {}
    for N in (10, 40, 160):
        K = np.broadcast_to(FIRST_GAIN, (sets, 1, 2))
        rows = transitions(gaussian_data(MAIN, K, cov, N, 60, seed=N))
        members = fit_ensemble(rows, 8, np.random.default_rng(N))
        AB = np.concatenate(
            [np.stack([m.A for m in members]), np.stack([m.B for m in members])],
            axis=-1,
        )
        z = np.concatenate([rows.x, rows.u], axis=-1)
        inverse = np.linalg.inv(z.mT @ z)
        law = np.einsum("i,bjj->bij", np.diagonal(MAIN.W), inverse) / 0.8
        spreads[N] = np.sqrt((AB.var(axis=0, ddof=1) / law).mean(axis=(0, 1, 2)))
        spreads[N, "B"] = np.sqrt(AB[..., 2].var(axis=0, ddof=1).mean())
    # A mean of 40 x 6 variances of 8 members, which share their rows: a few per cent.
    for N in (10, 40, 160):
        assert spreads[N] == pytest.approx(1.0, abs=0.1)
    for N in (10, 40):
        assert spreads[N, "B"] / spreads[4 * N, "B"] == pytest.approx(2.0, abs=0.2)


def test_ensembles_of_few_rows_admit_that_nothing_is_identified():
    lqr, K, cov = system(2, 1)
    rows = transitions(gaussian_data(lqr, K, cov, 1, 3))
    for member in fit_ensemble(rows, 3, np.random.default_rng(0), holdout=0.4):
        assert member.condition == np.inf
        assert np.isfinite(member.A).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("size", {"size": bad}) for bad in (0, -1, 1.5, 2.0, None, True, "2")),
        *(("elites", {"elites": bad}) for bad in (0, -1, 4, 1.5, True, "2")),
        *(("holdout", {"holdout": bad}) for bad in (0.0, 1.0, -0.1, 1.5, np.nan, None)),
        *(("holdout", {"holdout": bad}) for bad in (0.05, "0.2", True, [0.2, 0.3])),
        *(("rng", {"rng": bad}) for bad in (None, 0, np.random)),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused_by_name(name, options):
    rows = transitions(gaussian_data(MAIN, FIRST_GAIN, 1.0, 1, 10))
    good = {"size": 3, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        fit_ensemble(rows, **good | options)


def test_an_ensemble_of_one_row_is_refused():
    rows = taken(transitions(gaussian_data(MAIN, FIRST_GAIN, 1.0, 1, 2)), [0])
    with pytest.raises(ValueError, match=r"^holdout: expected .+ 1 rows, found"):
        fit_ensemble(rows, 2, np.random.default_rng(0), holdout=0.5)
