"""The explorer of the hack: its study, its words, its points, its call."""

import functools
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import ipywidgets
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

from lqrlib import (
    GaussianPolicy,
    LinearPolicy,
    descent,
    exact,
    importance,
    rollout,
    show,
    studies,
    weights,
    worlds,
)
from lqrlib.show import export, live
from lqrlib.show.hack_study import COUNTS, COVS, DATA

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
K_STAR = exact.optimal_gain(LQR)
J_STAR = float(exact.cost(LQR, K_STAR))
LENGTH, T = 0.05, 60
GRID = {"covs": (0.1, 1.0, 100.0), "counts": (30, 300), "runs": 6}


@functools.cache
def study():
    return show.hack_study(LQR, K0, **GRID)


@functools.cache
def explorer():
    return show.hack_explorer(LQR, K0, study())


STATES = list(itertools.product(GRID["covs"], GRID["counts"], DATA))
every_state = pytest.mark.parametrize(("cov", "N", "data"), STATES)
both = pytest.mark.parametrize("data", DATA)


def place(cov, N, data):
    return [*DATA].index(data), GRID["covs"].index(cov), GRID["counts"].index(N)


def of(cov, N, data):
    """Gains [steps, runs, 2], costs and effective sizes [steps, runs] of a point."""
    K, cost, size = (part[place(cov, N, data)] for part in study().paths)
    return K[..., 0, :], cost, size


@functools.cache
def sample(cov, N, data, seed, spread=0.3):
    """The data set of a seed, drawn here, with the policies that are said of it."""
    rng = np.random.default_rng([seed, N])
    if data == "Gaussian":
        return rollout.rollout(LQR, GaussianPolicy(K0, cov), N, T, rng)
    K = K0 + spread * rng.standard_normal((N, 1, 2))
    while not exact.is_stable(LQR, K).all():
        bad = ~exact.is_stable(LQR, K)
        K[bad] = K0 + spread * rng.standard_normal((bad.sum(), 1, 2))
    made = rollout.rollout(LQR, LinearPolicy(K), 1, T, rng)
    x, u, cost, diverged = (part[:, 0] for part in made[:-1])
    return rollout.Trajectories(x, u, cost, diverged, GaussianPolicy(K, cov))


def log_ratios(K, drawn, cov):
    """Of the first t + 1 steps, by SciPy's densities, [N, T]."""
    x, u = drawn.x[:, :-1], drawn.u[..., 0]

    def logs(gain):
        mean = np.einsum("...k,itk->it" if gain.ndim == 1 else "ik,itk->it", gain, x)
        return norm.logpdf(u, mean, np.sqrt(cov))

    return np.cumsum(logs(K) - logs(drawn.policy.K[..., 0, :]), axis=1)


def slope(K, drawn, cov, data):
    """Σ_t over weighted costs and scores, summed over trajectories one by one."""
    log_w = log_ratios(K, drawn, cov)
    w = softmax(log_w, axis=0) if data == "deterministic" else np.exp(log_w)
    cost = drawn.cost * LQR.gamma ** np.arange(T)
    cost = cost - (w * cost).sum(axis=0) / w.sum(axis=0)
    x, total = drawn.x[:, :-1], np.zeros(2)
    for i in range(len(w)):
        e = drawn.u[i, :, 0] - x[i] @ K
        total += (w[i] * cost[i]) @ np.cumsum(e[:, None] * x[i] / cov, axis=0)
    return total


@both
def test_a_path_follows_sums_written_out_here(data):
    drawn, K = sample(1.0, 30, data, 0), K0[0]
    path = show.hack_path(LQR, K0, cov=1.0, n_trajectories=30, data=data)
    for gain, size in zip(path.K[:6, 0], path.effective_sample_size, strict=False):
        np.testing.assert_allclose(gain, K, rtol=1e-9)
        shares = softmax(log_ratios(K, drawn, 1.0)[:, -1])
        assert size == pytest.approx(1 / np.square(shares).sum())
        way = slope(K, drawn, 1.0, data)
        K = K - LENGTH * way / np.linalg.norm(way)


@every_state
def test_every_run_is_a_descent_with_the_library_s_estimate(cov, N, data):
    drawn = sample(cov, N, data, 2)

    def gradient(K):
        known = {"Gaussian": importance.per_decision_is}
        function = known.get(data, importance.self_normalised_is)
        return function(LQR, drawn, K, cov=cov, time_baseline=True)

    path = descent.descend(LQR, K0, gradient, descent.of_length(LENGTH), updates=9)
    gains, cost, _ = of(cov, N, data)
    np.testing.assert_allclose(gains[:10, 2], path.K[:, 0], rtol=1e-6)
    np.testing.assert_allclose(cost[:10, 2], path.cost, rtol=1e-6)


@both
def test_a_single_path_is_that_of_the_study(data):
    for seed in range(6):
        path = show.hack_path(
            LQR, K0, cov=1.0, n_trajectories=299.7, data=data, seed=seed
        )
        for one, of_many in zip(path, of(1.0, 300, data), strict=True):
            one = one[:, 0] if one.ndim == 3 else one
            np.testing.assert_allclose(one, of_many[:, seed], rtol=1e-6)


def test_the_runs_on_gaussian_data_are_those_of_the_law():
    setting = studies.settings()["double integrator"]
    longer = show.HackSettings(length=setting.length)
    for cov, seed in ((1.0, 0), (30.0, 1)):
        path = show.hack_path(
            LQR,
            K0,
            cov=cov,
            n_trajectories=100,
            data="Gaussian",
            seed=seed,
            settings=longer,
        )
        law = studies.law(setting, cov, 100, seed)
        assert path.cost[-1] == pytest.approx(float(law), rel=1e-6)


def test_a_study_is_the_same_for_any_number_of_workers():
    small = {"covs": (0.1, 1.0), "counts": (30, 300), "runs": 4}
    alone = show.hack_study(LQR, K0, **small)
    with ThreadPoolExecutor(3) as pool:
        shared = show.hack_study(LQR, K0, executor=pool, **small)
    for one, other in zip(alone.paths, shared.paths, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_point_of_the_study_does_not_depend_on_the_grid_around_it():
    alone = show.hack_study(LQR, K0, covs=(1.0,), counts=(300,), runs=6)
    for one, many in zip(alone.paths, study().paths, strict=True):
        np.testing.assert_array_equal(one[:, 0, 0], many[:, 1, 1])
    assert (alone.covs, alone.counts) == ((1.0,), (300,))
    assert alone.settings == show.HackSettings()
    assert alone.optimum == pytest.approx(17.392386706948827)


def test_the_default_grid_is_as_the_controls_promise():
    assert COVS == (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
    assert COUNTS == (30, 100, 300, 1000)


def test_a_run_that_left_stays_where_it_left():
    found = [of(*state) for state in STATES]
    lost = [(K[:, i], J[:, i], n[:, i]) for K, J, n in found for i in range(6)]
    lost = [each for each in lost if np.isinf(each[1][-1])]
    assert lost
    for K, cost, size in lost:
        last = np.isinf(cost).argmax()
        assert np.isinf(cost[last:]).all()
        assert (K[last:] == K[last]).all()
        np.testing.assert_allclose(size[last:], size[last], rtol=1e-9)
        steps = np.linalg.norm(np.diff(K[: last + 1], axis=0), axis=1)
        np.testing.assert_allclose(steps, LENGTH)


def test_gains_that_make_deterministic_data_are_drawn_until_stable():
    drawn = sample(1.0, 30, "deterministic", 3, spread=1.5)
    rng = np.random.default_rng([3, 30])
    first = K0 + 1.5 * rng.standard_normal((30, 1, 2))
    assert not exact.is_stable(LQR, first).all()  # else this test says nothing
    wide = show.HackSettings(spread=1.5, updates=1)
    path = show.hack_path(
        LQR,
        K0,
        cov=1.0,
        n_trajectories=30,
        data="deterministic",
        seed=3,
        settings=wide,
    )
    shares = softmax(log_ratios(K0[0], drawn, 1.0)[:, -1])
    assert path.effective_sample_size[0] == pytest.approx(1 / np.square(shares).sum())


def test_paths_are_as_the_chapter_says():
    _, cost, size = of(100.0, 300, "Gaussian")
    assert np.median(cost[-1]) < 1.03 * J_STAR  # above the critical covariance
    _, cost, size = of(0.1, 300, "Gaussian")
    assert np.median(size[10]) < 15  # of 300, from 300
    assert np.median(cost[-1]) > cost[0, 0]
    _, cost, size = of(100.0, 300, "deterministic")
    assert np.median(size[-1]) > 150  # nothing warns
    assert np.median(cost[-1]) > cost[0, 0]


@every_state
def test_the_words_are_those_of_the_study(cov, N, data):
    words = explorer().show(cov=cov, n_trajectories=N, data=data)
    _, cost, size = of(cov, N, data)
    pattern = (
        rf"σ² = {cov:g}, N = {N}, {data} data: after 60 updates the median of J − J\* "
        rf"is (\S+) of J\* \(start: 28 %; quartiles: (\S+) and (\S+)\); "
        rf"(\d) of 6 runs left the stable set\. The median effective sample size "
        rf"(.*) and ends at (\S+) of {N}\."
    )
    found = re.fullmatch(
        pattern, words.replace("\N{NO-BREAK SPACE}%", "%").replace("28%", "28 %")
    )
    assert found, words
    middle, low, high, lost, fall, end = found.groups()
    ordered = np.sort(cost[-1]) / J_STAR - 1
    for said, rank in ((low, 1), (middle, 2), (high, 4)):
        share = (
            np.inf if said == "infinite" else float(said[:-1].replace(",", "")) / 100
        )
        assert share == pytest.approx(ordered[rank], rel=0.051)
    assert int(lost) == np.isinf(cost[-1]).sum()
    sizes = np.sort(size, axis=1)[:, 2]
    assert float(end) == pytest.approx(sizes[-1], rel=0.051)
    update = re.fullmatch(r"falls below a tenth of N at update (\d+)", fall)
    if update:
        k = int(update[1])
        assert sizes[k] < N / 10 <= sizes[:k].min()
    elif sizes[0] < N / 10:
        assert fall == "is below a tenth of N from the start"
    else:
        assert fall == "stays above a tenth of N"
        assert sizes.min() >= N / 10


@every_state
def test_the_paths_drawn_are_those_of_the_study(cov, N, data):
    explorer().show(cov=cov, n_trajectories=N, data=data)
    _, others, path, ended, lost = explorer().moving[:5]
    K, cost, _ = of(cov, N, data)
    np.testing.assert_allclose(path.get_xydata(), K[:, 0])
    thin = others.get_xydata().reshape(4, -1, 2)
    assert np.isnan(thin[:, -1]).all()
    np.testing.assert_allclose(thin[:, :-1], K[::-2, 1:5].swapaxes(0, 1))
    left = np.isinf(cost[-1, :5])
    edge = explorer().panels[0].figure.axes[0].get_xlim()[0]
    for marks, here in ((ended, ~left), (lost, left)):
        np.testing.assert_allclose(marks.get_xydata()[here], K[-1, :5][here])
        assert (marks.get_xydata()[~here, 0] < edge).all()


@every_state
def test_the_shares_drawn_are_those_of_the_study(cov, N, data):
    explorer().show(cov=cov, n_trajectories=N, data=data)
    shade, size, excess, one = explorer().moving[5:]
    _, cost, sizes = of(cov, N, data)
    share, above = np.sort(sizes / N, axis=1), np.sort(cost, axis=1) / J_STAR - 1
    np.testing.assert_allclose(size.get_ydata(), share[:, 2])
    low, high = shade.get_xy()[:61, 1], shade.get_xy()[61:122, 1][::-1]
    np.testing.assert_allclose(low, share[:, 1])
    np.testing.assert_allclose(high, share[:, 4])
    np.testing.assert_allclose(one.get_ydata(), 1 / N)
    middle, drawn = above[:, 2], excess.get_ydata()
    seen = (middle > 6e-4) & (middle < 10)
    np.testing.assert_allclose(drawn[seen], middle[seen], rtol=1e-6)
    assert (drawn[middle > 1e5] > 10).all()  # leaves through the top


@every_state
def test_the_region_ends_where_the_second_moment_does(cov, N, data):
    explorer().show(cov=cov, n_trajectories=N, data=data)
    points = explorer().moving[0].get_xy()[:-1]
    assert len(points) == 48
    if data == "deterministic":
        assert np.allclose(points, K0)
        return
    ax = explorer().panels[0].figure.axes[0]
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    beyond = ((points < low) | (points > high)).any(axis=1)

    def moment(share):
        K = K0 + share * (points[:, None] - K0)
        return weights.second_moment(LQR, K, K0, cov, T)

    assert np.isfinite(moment(0.999)).all()
    assert (np.isinf(moment(1.001)) | beyond).all()


@every_state
def test_the_call_reproduces_the_thick_path(cov, N, data):
    explorer().show(cov=cov, n_trajectories=N, data=data)
    written = {
        control.name: control.written()[control.values.index(value)]
        for control, value in zip(explorer().controls, (cov, N, data), strict=True)
    }
    names = {"show": show, "lqr": LQR, "K0": K0}
    path = eval(explorer().call.format(**written), names)
    drawn = explorer().moving[2].get_xydata()
    np.testing.assert_allclose(path.K[:, 0], drawn, rtol=1e-4)


def test_it_opens_where_paths_wander_off():
    words = explorer().show()
    assert words.startswith("σ² = 1, N = 300, Gaussian data: ")
    assert "falls below a tenth of N" in words


def test_no_state_holds_nan_in_its_words_and_the_page_is_light():
    texts, _ = export._all_states(explorer())
    assert len(texts) == len(STATES)
    assert not any({"nan", "inf"} & set(re.findall(r"\w+", text)) for text in texts)
    page = explorer().html()
    assert page == explorer().html()
    assert len(page.encode()) < export.LIMIT / 2


def test_its_live_face_shows_the_nearest_point_of_the_study():
    box = live.widget(explorer())
    words = [child for child in box.children if isinstance(child, ipywidgets.HTML)][1]
    (data,) = (c for c in box.children if isinstance(c, ipywidgets.Dropdown))
    cov, count = (c for c in box.children if isinstance(c, ipywidgets.FloatLogSlider))
    data.value = "deterministic"
    cov.value, count.value = 20.0, 50.0
    assert words.value.startswith("σ² = 100, N = 30, deterministic data: ")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (
            {"data": "many"},
            "data: expected one of ('Gaussian', 'deterministic'), found 'many'",
        ),
        ({"data": ["Gaussian"]}, "data: expected one of ('Gaussian', 'deterministic')"),
        ({"settings": None}, "settings: expected HackSettings"),
        ({"cov": 0.0}, "cov: expected a number above 0"),
        ({"n_trajectories": 0}, "n_trajectories: expected a number above 0"),
        ({"n_trajectories": 0.4}, "n_trajectories: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number, at least 0"),
        ({"seed": 0.5}, "seed: expected a whole number, at least 0"),
        ({"K0": [[0.0, 9.0]]}, "K0: expected one stable gain"),
        ({"K0": [K0, K0]}, "K0: expected one stable gain"),
        ({"K0": [1.0]}, "K0: expected shape"),
    ],
)
def test_a_faulty_argument_of_a_path_is_refused(wrong, complaint):
    good = {"cov": 1.0, "n_trajectories": 30, "data": "Gaussian", "K0": K0}
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        show.hack_path(LQR, **good | wrong)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"covs": (1.0, -1.0)}, "covs: expected a number above 0"),
        ({"covs": ()}, "covs: expected a non-empty array"),
        ({"counts": (30, 0)}, "counts: expected a whole number"),
        ({"counts": (30, 99.5)}, "counts: expected a whole number"),
        ({"runs": 0}, "runs: expected a whole number"),
    ],
)
def test_a_faulty_argument_of_a_study_is_refused(wrong, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        show.hack_study(LQR, K0, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"horizon": 0}, {"updates": 1.5}, {"length": 0.0}, {"spread": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        show.HackSettings(**wrong)


def test_an_explorer_of_another_study_is_refused():
    with pytest.raises(ValueError, match=r"^K0: expected the first gain of the study"):
        show.hack_explorer(LQR, [[-1.0, -1.1]], study())
    single = show.hack_study(LQR, K0, covs=(1.0,), counts=(30,), runs=1)
    with pytest.raises(ValueError, match=r"^study: expected at least two runs"):
        show.hack_explorer(LQR, K0, single)
    rooms = worlds.three_rooms()
    with pytest.raises(ValueError, match=r"^lqr: expected gains of shape \(1, 2\)"):
        show.hack_explorer(rooms, np.zeros((2, 3)), study())


def test_the_study_works_in_larger_worlds():
    rooms = worlds.three_rooms()
    found = show.hack_study(rooms, np.zeros((2, 3)), covs=(1.0,), counts=(30,), runs=2)
    assert found.paths.K.shape == (2, 1, 1, 61, 2, 2, 3)
    np.testing.assert_allclose(found.paths.effective_sample_size[0, ..., 0, :], 30)
