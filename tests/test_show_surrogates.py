"""The explorer of surrogates: its claims, its words, its shapes, its call."""

import functools
import itertools
import re
import time

import ipywidgets
import numpy as np
import pytest
import scipy.linalg
from scipy.special import softmax
from scipy.stats import norm

from lqrlib import GaussianPolicy, exact, importance, rollout, show, weights, worlds
from lqrlib.show import export, live
from lqrlib.show.outlines import lines, region, simplified
from lqrlib.show.surrogate_study import COUNTS, COVS, SURROGATES

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
K_STAR = exact.optimal_gain(LQR)
T, LENGTH, UPDATES = 60, 0.05, 60
GRID = {"covs": (0.1, 3.0, 30.0), "counts": (50, 100)}
EXPLORER = show.surrogate_explorer(LQR, K0, **GRID)
STATES = list(itertools.product(SURROGATES, GRID["counts"], GRID["covs"]))
every_state = pytest.mark.parametrize(("which", "N", "cov"), STATES)
every_surrogate = pytest.mark.parametrize("which", SURROGATES)
LOW, HIGH = np.array([-5.0, -8.0]), np.array([1.0, 1.0])
SPREAD = np.random.default_rng(0).uniform(LOW, HIGH, (400, 2))[:, None]
CROSS = (HIGH - LOW) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) / 100
ABOVE, BELOW = (0.03, 0.1, 0.3, 1, 3, 10), (-0.7, -0.4, -0.1, 0)


@functools.cache
def sample(N, cov):
    policy = GaussianPolicy(K0, cov)
    return rollout.rollout(LQR, policy, N, T, np.random.default_rng(0))


def dense(A, B, W, K, cov=0.0):
    """Cost of one gain by SciPy; inf where unstable."""
    F = np.sqrt(LQR.gamma) * (A + B @ K)
    if np.abs(np.linalg.eigvals(F)).max() >= 1:
        return np.inf
    P = scipy.linalg.solve_discrete_lyapunov(F.T, LQR.Q + K.T @ LQR.R @ K)
    source = LQR.X0 + LQR.gamma / (1 - LQR.gamma) * (W + cov * B @ B.T)
    return np.trace(P @ source) + cov * np.trace(LQR.R) / (1 - LQR.gamma)


def of_steps(K, cov):
    """Cost of T steps of N(Kx, σ²I), by the covariance of the state at each of them."""
    F, total, S = LQR.A + LQR.B @ K, 0.0, LQR.X0
    if np.abs(np.linalg.eigvals(F)).max() >= 1 / np.sqrt(LQR.gamma):
        return np.inf
    for t in range(T):
        stage = np.trace((LQR.Q + K.T @ LQR.R @ K) @ S) + cov * np.trace(LQR.R)
        total += LQR.gamma**t * stage
        S = F @ S @ F.T + LQR.W + cov * LQR.B @ LQR.B.T
    return total


def weighted(K, N, cov, which):
    x, u, cost = sample(N, cov).x[:, :-1], sample(N, cov).u[..., 0], sample(N, cov).cost
    logs = [norm.logpdf(u, x @ gain[0], np.sqrt(cov)) for gain in (K, K0)]
    log_w, cost = np.cumsum(logs[0] - logs[1], axis=1), cost * LQR.gamma ** np.arange(T)
    if which == "trajectory":
        return (np.exp(log_w[:, -1]) * cost.sum(axis=1)).mean()
    return (softmax(log_w, axis=0) * cost).sum()


@functools.cache
def rows(N, cov):
    """z, cost and x' of all steps."""
    data = sample(N, cov)
    z = np.concatenate([data.x[:, :-1], data.u], axis=-1).reshape(-1, 3)
    return z, data.cost.ravel(), data.x[:, 1:].reshape(-1, 2)


def features(z):
    i, j = np.triu_indices(3)
    return np.column_stack([z[:, i] * z[:, j] * (1 + (i != j)), np.ones(len(z))])


def theta(K, N, cov):
    """Θ̂ and the constant, by the rows themselves."""
    z, cost, after = rows(N, cov)
    phi = features(z)
    phi_after = features(np.column_stack([after, after @ K.T]))
    found = np.linalg.solve(phi.T @ (phi - LQR.gamma * phi_after), phi.T @ cost)
    Theta = np.zeros((3, 3))
    Theta[np.triu_indices(3)] = found[:-1]
    return Theta + np.triu(Theta, 1).T, found[-1]


def critic(K, N, cov):
    Theta, const = theta(K, N, cov)
    if np.linalg.eigvalsh(Theta)[0] <= 0:
        return np.inf
    x = np.vstack([np.eye(2), K])
    return np.trace(x.T @ Theta @ x @ LQR.X0) + const


def model(K, N, cov):
    z, _, after = rows(N, cov)
    AB = np.linalg.lstsq(z, after, rcond=None)[0]
    left = after - z @ AB
    return dense(AB[:2].T, AB[2:].T, left.T @ left / (len(z) - 3), K)


def claimed(which, N, cov, K):
    """What is claimed of one gain, written again here."""
    if which in importance.WEIGHTINGS:
        return weighted(K, N, cov, which)
    if which == "true":
        return true(which, cov, K)
    return {"critic": critic, "model": model}[which](K, N, cov)


def true(which, cov, K):
    if which in importance.WEIGHTINGS:
        return of_steps(K, cov)
    return dense(LQR.A, LQR.B, LQR.W, K, cov * (which == "true"))


def made(which, N, cov):
    return show.surrogate(LQR, K0, cov=cov, n_trajectories=N, which=which)


@functools.cache
def shown(which, N, cov):
    """Words and points of all artists in one state."""
    words = EXPLORER.show(which=which, n_trajectories=N, cov=cov)
    points = [
        np.array(artist.get_xydata() if hasattr(artist, "get_xydata") else artist.xy)
        for artist in EXPLORER.moving
    ]
    return words, points


def close(a, b, **tolerance):
    np.testing.assert_allclose(a, b, **{"rtol": 1e-6} | tolerance)


@every_state
def test_a_claim_and_its_truth_are_those_written_here(which, N, cov):
    found, K = made(which, N, cov), SPREAD[:12]
    close(found.claim(K), [claimed(which, N, cov, gain) for gain in K])
    close(found.truth(K), [true(which, cov, gain) for gain in K])
    close(found.optimum, true(which, cov, K_STAR))
    assert found.claim(K[None]).shape == (1, 12)


@every_state
def test_every_step_leads_straight_down_the_claim(which, N, cov):
    path, h = made(which, N, cov).descend(), 1e-5
    for i in (0, 1, 7, 20):
        K, step = path.K[i], path.K[i] - path.K[i + 1]
        if which == "critic":
            Theta, _ = theta(K, N, cov)
            uphill = Theta[2:, 2:] @ K + Theta[2:, :2]
        else:
            ways = h * np.eye(2)[:, None]
            ends = [
                [claimed(which, N, cov, K + s * way) for way in ways] for s in (1, -1)
            ]
            uphill = np.subtract(*ends)[None]
        close(step, LENGTH * uphill / np.linalg.norm(uphill), atol=1e-5)


def test_truths_of_few_steps_fall_short_by_what_is_left_out():
    found = made("trajectory", 50, 3.0)
    endless = float(exact.cost(LQR, K0, 3.0))
    assert 0.01 < 1 - found.truth(K0) / endless < 0.06


def test_the_data_are_those_of_the_chapter_and_common_to_all_covariances():
    same = [np.random.default_rng(0) for _ in range(2)]
    one, other = (
        rollout.rollout(LQR, GaussianPolicy(K0, cov), 50, T, rng)
        for cov, rng in zip((0.1, 3.0), same, strict=True)
    )
    close(one.x[:, 0], other.x[:, 0])
    claims = importance.estimated_cost(
        LQR, one, K_STAR, cov=0.1, weighting="trajectory"
    )
    close(made("trajectory", 50.3, 0.1).claim(K_STAR), claims)


def number(text):
    return {"infinite": np.inf}.get(text) or float(text.replace(",", ""))


def agree(said, cost):
    if said == "less than 0.01":
        return cost < 0.005
    return number(said) == pytest.approx(cost, abs=0.0051 if cost < 99.99 else 0.051)


@every_state
def test_the_words_are_those_of_costs_computed_here(which, N, cov):
    words, points = shown(which, N, cov)
    end = points[-7].reshape(-1, 2)[-1:]  # of the path
    N_words = "" if which == "true" else f", N = {N}"
    assert words.startswith(f"σ² = {cov:g}{N_words}, {SURROGATES[which]}: ")
    lost = re.search(r"in truth the gain is unstable from step (\d+) on", words)
    assert bool(lost) == np.isinf(true(which, cov, end))
    if lost:
        before = made(which, N, cov).descend().K[int(lost[1]) - 1]
        assert np.isfinite(true(which, cov, before))
    elif which != "true":
        said = re.search(r"in truth it is ([\d,.]+\d)", words)[1]
        assert agree(said, true(which, cov, end))
    if "no gain in view" in words:
        assert all(np.isinf(claimed(which, N, cov, K)) for K in SPREAD[:40])
        return
    frame = r"cost (?:of|is) (.+) \(start: (.+); optimum: (.+)\)"
    claim, start, optimum = re.search(frame, words).groups()
    assert agree(claim, claimed(which, N, cov, end))
    assert agree(start, claimed(which, N, cov, K0))
    assert agree(optimum, true(which, cov, K_STAR))
    if which != "true":
        lowest = points[-4]
        least, there = re.search(
            r"lowest claim in view is (.+), where the true cost is (.+)\.$", words
        ).groups()
        assert agree(least, claimed(which, N, cov, lowest))
        assert agree(there, true(which, cov, lowest))


def test_the_critic_without_a_claim_says_so():
    words, points = shown("critic", 100, 0.1)
    assert "no gain in view has a critic that could be a cost" in words
    assert np.isnan(points[-1][:, 1]).all()
    assert points[-4][0, 0] < LOW[0] - 5  # out of the picture


@every_state
def test_nothing_in_view_is_claimed_to_cost_less_than_the_lowest(which, N, cov):
    words, points = shown(which, N, cov)
    if "no gain" in words:
        return
    lowest = points[-4]
    assert (lowest >= LOW).all()
    assert (lowest <= HIGH).all()
    assert (
        claimed(which, N, cov, lowest) <= 1.01 * made(which, N, cov).claim(SPREAD).min()
    )


def winding(points, at):
    """How often a closed outline runs around a point, by the angles of its edges."""
    way = (points - at) @ [1, 1j]
    return np.round(np.angle(np.roll(way, -1) / way).sum() / (2 * np.pi))


@every_state
def test_the_shades_are_where_the_claims_say(which, N, cov):
    found, shades = made(which, N, cov), shown(which, N, cov)[1][:10]
    above = found.claim(SPREAD) / found.optimum - 1
    wanted = [(above >= 0) & (above < level) for level in reversed(ABOVE)]
    wanted += [above < level for level in reversed(BELOW)]
    for shade, inside in zip(shades, wanted, strict=True):
        turns = np.array([winding(shade[:-1], K[0]) for K in SPREAD])
        assert set(turns) <= {0.0, 1.0}
        assert (turns != inside).mean() < 0.05


@every_state
def test_the_lines_are_at_their_levels(which, N, cov):
    found, points = made(which, N, cov), shown(which, N, cov)[1]
    for line, levels in zip(points[10:12], (ABOVE, BELOW), strict=True):
        K = line[3:][np.isfinite(line[3:, 0])]
        if not K.size:
            continue
        around = K + CROSS[:, None]  # a hundredth of the view away
        near = found.claim(around[..., None, :]) / found.optimum - 1
        low, high = near.min(axis=0), near.max(axis=0)
        levels = np.reshape(levels, (-1, 1))
        at_one = ((low < levels) & (levels < high)).any(axis=0)
        # At σ² = 0.1 weights change within less than a cell of the grid.
        assert at_one.mean() > (0.7 if cov < 1 else 0.9)


@every_surrogate
def test_claims_end_only_where_the_critic_and_the_model_do(which):
    edge = shown(which, 100, 3.0)[1][12][3:]
    edge = edge[np.isfinite(edge[:, 0])]
    assert bool(len(edge)) == (which not in importance.WEIGHTINGS)
    found = made(which, 100, 3.0)
    for K in edge:
        ends = np.isfinite(found.claim((K + 2 * CROSS)[:, None]))
        assert len(set(ends)) == 2


@every_state
def test_the_second_moment_is_outlined_where_there_are_weights(which, N, cov):
    points = shown(which, N, cov)[1][13][:-1]
    assert len(points) == 48
    if which not in importance.WEIGHTINGS:
        close(points, np.tile(K0, (48, 1)))
        return
    beyond = ((points < LOW) | (points > HIGH)).any(axis=1)

    def moment(share):
        K = K0 + share * (points[:, None] - K0)
        return weights.second_moment(LQR, K, K0, cov, T)

    assert np.isfinite(moment(0.999)).all()
    assert (np.isinf(moment(1.001)) | beyond).all()


@every_state
def test_the_call_reproduces_the_path_and_both_costs(which, N, cov):
    written = {
        control.name: control.written()[control.values.index(value)]
        for control, value in zip(EXPLORER.controls, (which, N, cov), strict=True)
    }
    names = {"show": show, "lqr": LQR, "K0": K0}
    path = eval(EXPLORER.call.format(**written), names)
    _, points = shown(which, N, cov)
    close(points[-7], path.K[:, 0])
    optimum = true(which, cov, K_STAR)
    for drawn, cost in ((points[-2], path.truth), (points[-1], path.claim)):
        share = cost / optimum
        seen = (share > 0.03) & (share < 30)
        close(drawn[seen, 1], share[seen])
        assert not ((drawn[:, 1] > 0.03) & (drawn[:, 1] < 30) & ~seen).any()
    assert (points[-2][np.isinf(path.truth), 1] > 30).all()  # leaves through the top


@every_state
def test_the_end_is_marked_by_what_became_of_the_path(which, N, cov):
    *_, path, end, unstable, _, _, _, _ = shown(which, N, cov)[1]
    lost = np.isinf(true(which, cov, path[-1:]))
    marked, hidden = (unstable, end) if lost else (end, unstable)
    close(marked, path[-1:])
    assert hidden[0, 0] < LOW[0]


@every_state
def test_the_gap_lies_between_the_costs(which, N, cov):
    *_, gap, truth, claim = shown(which, N, cov)[1]
    low, high = gap[:61, 1], gap[61:122, 1][::-1]
    said = np.where(np.isnan(claim[:, 1]), truth[:, 1], claim[:, 1])
    close(low, np.minimum(said, truth[:, 1]))
    close(high, np.maximum(said, truth[:, 1]))


def test_surrogates_are_as_the_chapter_says():
    full = {"n_trajectories": 1000, "cov": 3.0}
    weighted = show.surrogate(LQR, K0, which="trajectory", **full)
    path = weighted.descend()
    assert path.claim[-1] < 0.05 * weighted.optimum
    assert np.isinf(path.truth[-1])
    for which in ("critic", "model"):
        sound = show.surrogate(LQR, K0, which=which, **full)
        path = sound.descend()
        assert path.truth[-1] < 1.001 * sound.optimum
        assert abs(path.claim[-1] / path.truth[-1] - 1) < 0.02


def test_it_opens_at_weights_that_lead_astray():
    assert EXPLORER.default == {"which": "trajectory", "n_trajectories": 100, "cov": 3}
    assert "in truth the gain is unstable" in EXPLORER.show()
    assert 3.0 in COVS
    assert COUNTS == (100, 1000)


def test_no_state_holds_nan_in_its_words_and_the_page_is_light():
    texts, _ = export._all_states(EXPLORER)
    assert len(texts) == len(STATES)
    assert not any({"nan", "inf"} & set(re.findall(r"\w+", text)) for text in texts)
    page = EXPLORER.html()
    assert page == EXPLORER.html()
    assert len(page.encode()) < 0.6 * export.LIMIT  # of 30 states; the book's has 70


def test_a_state_is_computed_within_a_second_or_two():
    began = time.process_time()
    small = show.surrogate_explorer(LQR, K0, covs=(1.0, 2.0), counts=(99, 100))
    small.show(which="self-normalised")
    assert time.process_time() - began < 5


def test_its_live_face_takes_values_between_those_of_the_page():
    box = live.widget(EXPLORER)
    words = [child for child in box.children if isinstance(child, ipywidgets.HTML)][1]
    (choice,) = (c for c in box.children if isinstance(c, ipywidgets.Dropdown))
    count, cov = (c for c in box.children if isinstance(c, ipywidgets.FloatLogSlider))
    choice.value = "model"
    count.value, cov.value = 70.4, 2.0
    assert words.value.startswith("σ² = 2, N = 70, fitted model: ")
    assert not cov.continuous_update


def test_surrogates_exist_in_larger_worlds():
    rooms = worlds.three_rooms()
    settings = {"cov": 1.0, "n_trajectories": 30}
    for which in SURROGATES:
        found = show.surrogate(rooms, np.zeros((2, 3)), which=which, **settings)
        path = found.descend(updates=3)
        assert path.K.shape == (4, 2, 3)
        assert path.claim[-1] < path.claim[0]
        if which not in importance.WEIGHTINGS:
            assert path.truth[-1] < path.truth[0]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"which": "hack"}, "which: expected one of ['trajectory', 'self-normalised'"),
        ({"which": ["true"]}, "which: expected one of"),
        ({"cov": 0.0}, "cov: expected"),
        ({"cov": [[1.0]]}, "cov: expected a number"),
        ({"n_trajectories": 0.4}, "n_trajectories: expected a whole number"),
        ({"n_trajectories": np.nan}, "n_trajectories: expected finite"),
        ({"seed": -1}, "seed: expected a whole number, at least 0"),
        ({"seed": 0.5}, "seed: expected a whole number, at least 0"),
        ({"K0": [[0.0, 9.0]]}, "K0: expected one stable gain"),
        ({"K0": [K0, K0]}, "K0: expected one stable gain"),
        ({"K0": [1.0]}, "K0: expected shape"),
    ],
)
def test_a_faulty_argument_of_a_surrogate_is_refused(wrong, complaint):
    good = {"cov": 1.0, "n_trajectories": 30, "which": "true", "K0": K0}
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        show.surrogate(LQR, **good | wrong)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"covs": (1.0, -1.0)}, "covs: expected ascending numbers above 0"),
        ({"covs": ()}, "covs: expected a non-empty array"),
        ({"covs": 1.0}, "covs: expected ascending numbers above 0"),
        ({"counts": (100, 30)}, "counts: expected ascending numbers above 0"),
        ({"counts": (30, 99.5)}, "counts: expected a whole number"),
        ({"K0": [[0.0, 9.0]]}, "K0: expected one stable gain"),
    ],
)
def test_a_faulty_argument_of_the_explorer_is_refused(wrong, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        show.surrogate_explorer(LQR, **{"K0": K0} | wrong)


def test_a_world_whose_gains_are_not_a_plane_is_refused():
    with pytest.raises(ValueError, match=r"^lqr: expected gains of shape \(1, 2\)"):
        show.surrogate_explorer(worlds.three_rooms(), np.zeros((2, 3)))


# --- Outlines


X, Y = np.linspace(-2, 2, 81), np.linspace(-2, 3, 101)
RADIUS = np.hypot(X, Y[:, None])


def area(points):
    (x, y), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    return (x @ y1 - x1 @ y) / 2


def test_a_ring_and_an_island_are_one_outline_with_a_hole():
    far = np.hypot(X - 1.5, Y[:, None] - 2.5)
    z = np.minimum(np.abs(RADIUS - 0.75) - 0.25, far - 0.3)
    found = region(X, Y, z, -9.0, 0.0, 200)
    assert found.shape == (200, 2)
    assert area(found) == pytest.approx(np.pi * (1 - 0.25 + 0.09), rel=0.02)
    for at, inside in (((0, 0), 0), ((0.75, 0), 1), ((1.5, 2.5), 1), ((-1.5, 2), 0)):
        assert winding(found, at) == inside


@pytest.mark.parametrize("size", [12, 40, 200])
def test_outlines_and_lines_get_coarser_to_fit_their_size(size):
    z = np.sin(5 * X) * np.sin(4 * Y[:, None])
    assert region(X, Y, z, 0.2, 2.0, size).shape == (size, 2)
    curve = lines(X, Y, z, [0.2, 0.4], size)
    assert curve.shape == (size, 2)
    assert np.isfinite(curve[:2]).all()


def test_nothing_is_an_outline_in_the_corner_whose_ends_differ():
    found = region(X, Y, RADIUS, 8.0, 9.0, 50)
    assert found.shape == (50, 2)
    assert (found[0] != found[-1]).all()
    close(found, np.tile([X[0], Y[0]], (50, 1)), atol=1e-6)
    nothing = lines(X, Y, RADIUS, [8.0], 50)
    assert np.isnan(nothing[2:]).all()
    close(nothing[:2], found[:2], atol=1e-6)


def test_lines_lie_at_their_levels_and_stop_before_gaps():
    z = np.where(X > 0, RADIUS, np.nan)
    curve = lines(X, Y, z, [0.5, 1.5], 300)
    assert np.isnan(curve[2]).all()
    drawn = curve[3:][np.isfinite(curve[3:, 0])]
    found = np.hypot(*drawn.T)
    off = np.minimum(abs(found - 0.5), abs(found - 1.5))
    assert off.max() < 2e-3
    assert {round(r, 1) for r in found} == {0.5, 1.5}
    assert drawn[:, 0].min() > 0


def test_a_simplified_curve_keeps_its_ends_and_its_distance():
    t = np.linspace(0, 6, 400)
    curve = np.column_stack([t, np.sin(t)])
    few = simplified(curve, 0.01)
    close(few[[0, -1]], curve[[0, -1]])
    assert len(few) < 40
    assert np.abs(np.interp(t, *few.T) - curve[:, 1]).max() < 0.01 * np.sqrt(2)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0.0]])
    close(simplified(square, 0.1), square)
