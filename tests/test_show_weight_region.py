"""The explorer of weights: its region, its words, its points, its call."""

import dataclasses
import functools
import itertools
import re
import time

import ipywidgets
import numpy as np
import pytest
from matplotlib.path import Path

from lqrlib import exact, show, weights, worlds
from lqrlib.show import export, live
from lqrlib.show.weight_region import _COVS, _HORIZONS

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
K_STAR = exact.optimal_gain(LQR)
STATES = list(itertools.product(_COVS, _HORIZONS))


@functools.cache
def explorer():
    return show.weight_explorer(LQR, K0)


every_state = pytest.mark.parametrize(("cov", "T"), STATES)
NO = r"no second moment beyond (\S+)\N{NO-BREAK SPACE}% of the way to K\*; at half of "
PRICE = r"(\S+) trajectories for 10\N{NO-BREAK SPACE}%"
INDEX = r"tail index at K\* (\S+): the error of an average falls like N\^−(\S+)\.$"
ALL = r"a second moment all the way to K\*: "


@functools.cache
def shown(cov, T):
    """Words and the points of all artists in one state."""
    words = explorer().show(cov=cov, horizon=T)
    curves = [np.array(artist.get_xydata()) for artist in lines()]
    return words, explorer().moving[0].get_xy()[:-1].copy(), *curves


def lines():
    _, edge, _, curve, foot = explorer().moving
    return edge, curve, foot


def log_moment(K, cov, T, order=2.0):
    """Of w^order, from the covariance of all Δx_t at once; inf where there is none."""
    T, change = int(T), K - K0
    F = LQR.A + LQR.B @ (order * K - (order - 1) * K0)
    kick = np.linalg.cholesky(LQR.W + cov * LQR.B @ LQR.B.T)
    rows = [change]
    for _ in range(T - 1):
        rows.append(rows[-1] @ F)
    start = np.concatenate([row @ np.linalg.cholesky(LQR.X0) for row in rows])
    past = np.subtract.outer(np.arange(T) - 1, np.arange(T))  # steps since a kick
    noise = np.where((past >= 0)[..., None], (np.concatenate(rows) @ kick)[past], 0)
    y = np.concatenate([start, noise.reshape(T, -1)], axis=1)
    values = np.linalg.eigvalsh(np.eye(T) - order * (order - 1) / cov * y @ y.T)
    return -0.5 * np.log(values).sum() if values[0] > 0 else np.inf


def along(share):
    return K0 + share * (K_STAR - K0)


def trajectories(share, cov, T):
    return 100 * np.expm1(log_moment(along(share), cov, T))


def test_the_dense_moment_of_one_step_is_that_by_hand():
    # E exp(x₀'S x₀) with x₀ ~ N(0, I) is 1/√(1 − 2|Δ|²/σ²).
    by_hand = -0.5 * np.log(1 - 2 * (0.05**2 + 0.1**2) / 0.25)
    assert log_moment(np.array([[-1.05, -1.1]]), 0.25, 1) == pytest.approx(by_hand)


@every_state
def test_the_words_agree_with_dense_moments(cov, T):
    words = shown(cov, T)[0]
    assert words.startswith(f"σ² = {cov:g}, T = {T:g}: ")
    rest = words.split(": ", 1)[1]
    whole = re.fullmatch(ALL + PRICE + r" at K\*; tail index (\S+)\.", rest)
    broken = re.fullmatch(NO + "that, " + PRICE + "; " + INDEX, rest)
    assert bool(whole) == np.isfinite(log_moment(K_STAR, cov, T))
    assert bool(whole) != bool(broken)
    if whole:
        price, alpha = (float(g.replace(",", "")) for g in whole.groups())
        needed = trajectories(1.0, cov, T)
    else:
        end, price, alpha, rate = (float(g.replace(",", "")) for g in broken.groups())
        assert np.isfinite(log_moment(along(end / 100 - 6e-4), cov, T))
        assert np.isinf(log_moment(along(end / 100 + 6e-4), cov, T))
        needed = trajectories(shown(cov, T)[4][0, 0] / 2, cov, T)
        assert 1 < alpha < 2
        last_digit = 10.0 ** -len(str(rate).split(".")[1])
        assert rate == pytest.approx(1 - 1 / alpha, abs=max(1.1 * last_digit, 0.011))
    assert price == pytest.approx(needed, rel=0.051, abs=1)
    step = 0.6 * 10.0 ** -len(re.search(r"tail index (?:at K\* )?\d\.(\d+)", rest)[1])
    assert np.isfinite(log_moment(K_STAR, cov, T, alpha - step))
    assert np.isinf(log_moment(K_STAR, cov, T, alpha + step))


@every_state
def test_the_region_ends_where_dense_moments_do(cov, T):
    points = shown(cov, T)[1]
    ax = explorer().panels[0].figure.axes[0]
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    for point in points[::9]:
        beyond = ((point < low) | (point > high)).any()
        inside = np.isfinite(log_moment(K0 + 0.9999 * (point - K0), cov, T))
        outside = np.isinf(log_moment(K0 + 1.0001 * (point - K0), cov, T))
        assert inside
        assert outside or beyond


def test_a_region_larger_than_the_view_keeps_its_rays():
    start = np.angle(complex(*(K_STAR - K0)[0]))
    angles = start + np.linspace(0, 2 * np.pi, 72, endpoint=False)
    for cov, T in ((100.0, 1.0), (100.0, 100.0), (22.0, 2.0)):
        change = shown(cov, T)[1] - K0[0]
        assert np.hypot(*change.T).max() > 3  # else this test says nothing
        along_ray = change @ np.stack([np.cos(angles), np.sin(angles)])
        assert np.allclose(along_ray.diagonal(), np.hypot(*change.T))


@every_state
def test_the_optimum_lies_in_the_region_exactly_if_the_way_has_no_end(cov, T):
    words, region, edge, _, foot = shown(cov, T)
    inside = Path(region).contains_point(K_STAR[0])
    assert inside == ("all the way" in words)
    if inside:
        left = [panel.figure.axes[0].get_xlim()[0] for panel in explorer().panels]
        assert edge[0, 0] < left[0]
        assert foot[0, 0] < left[1] - 1  # off the figure: nothing clips it
    else:
        assert np.allclose(edge, along(foot[0, 0]))
        assert foot[0, 1] == 1


@every_state
def test_the_curve_is_that_of_dense_moments_and_ends_in_a_wall(cov, T):
    words, _, _, curve, foot = shown(cov, T)
    seen = (curve[:, 1] > 1) & (curve[:, 1] < 1e7)
    for share, needed in curve[seen][::6]:
        assert needed == pytest.approx(trajectories(share, cov, T), rel=1e-4)
    shading = explorer().moving[2]
    explorer().show(cov=cov, horizon=T)
    start = shading.get_xy()[:, 0].min()
    if "all the way" in words:
        assert tuple(curve[-1]) == pytest.approx((1, trajectories(1.0, cov, T)))
        assert start > 1
    else:
        assert curve[-1, 0] == foot[0, 0] == pytest.approx(start)
        assert curve[-1, 1] > 1e7


@every_state
def test_the_call_reproduces_the_state(cov, T):
    written = {
        control.name: control.written()[control.values.index(value)]
        for control, value in zip(explorer().controls, (cov, T), strict=True)
    }
    names = {"weights": weights, "lqr": LQR, "K0": K0, "K_star": K_STAR}
    end = float(eval(explorer().call.format(**written), names))
    words = shown(cov, T)[0]
    if end > 1:
        assert "all the way" in words
    else:
        assert f"beyond {100 * end:.1f}\N{NO-BREAK SPACE}%" in words


def test_it_opens_far_from_the_optimum():
    words = explorer().show()
    assert words == shown(1.0, 50.0)[0]
    assert "beyond 15.9" in words
    assert "tail index at K* 1.09: the error of an average falls like N^−0.08" in words


def test_no_state_holds_nan_and_all_are_computed_within_seconds():
    fresh = show.weight_explorer(LQR, K0)  # it keeps what it has computed
    began = time.process_time()
    texts, points = export._all_states(fresh)
    assert time.process_time() - began < 120  # well above a quiet machine
    assert np.isfinite(points).all()
    assert len(texts) == len(STATES) == 91
    assert not any({"nan", "inf"} & set(re.findall(r"\w+", text)) for text in texts)


def test_its_built_face_is_light_and_alike_twice():
    page = explorer().html()
    assert page == explorer().html()
    assert len(page.encode()) < export.LIMIT / 2


def test_its_live_face_takes_whole_horizons_between():
    box = live.widget(explorer())
    words, call = [c for c in box.children if isinstance(c, ipywidgets.HTML)][1:]
    cov, horizon = (c for c in box.children if isinstance(c, ipywidgets.FloatLogSlider))
    horizon.value = 2.6
    cov.value = 3.0
    assert words.value.startswith("σ² = 3, T = 3: ")
    names = {"weights": weights, "lqr": LQR, "K0": K0, "K_star": K_STAR}
    code = re.sub("<[^>]*>", "", call.value)
    end = re.search(r"beyond (\S+)\N{NO-BREAK SPACE}%", words.value)[1]
    assert f"{100 * float(eval(code, names)):.1f}" == end


def test_a_start_at_rest_has_weights_without_a_spread_after_one_step():
    calm = dataclasses.replace(LQR, X0=np.zeros((2, 2)))
    words = show.weight_explorer(calm, K0).show(horizon=1.0)
    assert "all the way to K*: 0 trajectories" in words
    assert words.endswith("tail index infinite.")


def test_a_start_that_is_no_use_is_refused():
    for wrong in ([[0.1, -3.0]], [K0, K0]):
        with pytest.raises(ValueError, match=r"^K0: expected one gain with ρ"):
            show.weight_explorer(LQR, wrong)
    with pytest.raises(ValueError, match=r"^K0: expected shape"):
        show.weight_explorer(LQR, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"^K0: expected a gain other than the opt"):
        show.weight_explorer(LQR, K_STAR)
    laplacian = worlds.laplacian()
    with pytest.raises(ValueError, match=r"^lqr: expected gains of shape"):
        show.weight_explorer(laplacian, 1.1 * exact.optimal_gain(laplacian))
