"""The explorer of method × step size: its words, its points, its call."""

import functools
import itertools
import re
import time

import ipywidgets
import numpy as np
import pytest
import scipy.linalg

from lqrlib import descent, exact, rates, show, worlds
from lqrlib.show import export, live

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
UPDATES = 40
EXPLORER = show.method_explorer(LQR, K0)
STATES = list(itertools.product(*(control.values for control in EXPLORER.controls)))
every_state = pytest.mark.parametrize(("method", "step"), STATES)


def dense(K):
    """Cost and E, C, X of one gain by dense linear algebra; inf where unstable."""
    F = np.sqrt(LQR.gamma) * (LQR.A + LQR.B @ K)
    S = LQR.X0 + LQR.gamma / (1 - LQR.gamma) * LQR.W
    if np.abs(np.linalg.eigvals(F)).max() >= 1:
        return np.inf, None, None, None
    P = scipy.linalg.solve_discrete_lyapunov(F.T, LQR.Q + K.T @ LQR.R @ K)
    X = scipy.linalg.solve_discrete_lyapunov(F, S)
    C = LQR.R + LQR.gamma * LQR.B.T @ P @ LQR.B
    return np.trace(P @ S), C @ K + LQR.gamma * LQR.B.T @ P @ LQR.A, C, X


def moved(K, method, eta):
    _, E, C, X = dense(K)
    change = {
        "gradient": lambda: 2 * E @ X,
        "natural_gradient": lambda: 2 * E,
        "gauss_newton": lambda: np.linalg.solve(C, E),
    }
    return K - eta * change[method]()


@functools.cache
def walk(method, eta):
    """Gains and costs by formulas written again here, up to the first infinite one."""
    gains = [K0]
    while len(gains) <= UPDATES and np.isfinite(dense(gains[-1])[0]):
        gains.append(moved(gains[-1], method, eta))
    return np.array(gains), np.array([dense(K)[0] for K in gains])


@functools.cache
def limit(method):
    """1/(λ_max(C)λ_max(X)), 1/λ_max(C), 2, and the curvatures that they come from."""
    _, _, C, X = dense(exact.optimal_gain(LQR))
    both = 2 * C[0, 0] * np.linalg.eigvalsh(X)
    c = {"gradient": both, "natural_gradient": 2 * C[0], "gauss_newton": np.ones(1)}
    return 2 / c[method].max(), c[method]


@every_state
def test_the_words_agree_with_a_path_computed_here(method, step):
    most, curvatures = limit(method)
    words = EXPLORER.show(method=method, step=step)
    _, cost = walk(method, step * most)
    best = dense(exact.optimal_gain(LQR))[0]
    assert f"η = {step * most:.3g}" in words
    arrived = np.flatnonzero(cost - best < 1e-6 * best)
    if np.isinf(cost[-1]):
        assert f"leaves the stable set at step {len(cost) - 1}." in words
    elif arrived.size:
        assert f"within a millionth of J* at step {arrived[0]}" in words
        assert ("moves away again" in words) == (step > 1)
    elif step < 1:
        above = float(re.search(r"still (\S+) J\* above", words)[1])
        assert above == pytest.approx(cost[-1] / best - 1, rel=0.05)
    else:
        assert "keeps circling" in words
    rate = np.square(1 - step * most * curvatures).max()
    if rate < 1e-9:
        assert "faster than any fixed factor" in words
    else:
        assert f"predicted {rate:.3f} for the worst direction." in words


@pytest.mark.parametrize(
    ("method", "step"),
    [("gradient", 0.5), ("gauss_newton", 0.25), ("gradient", 1.05)],
)
def test_the_measured_factor_is_the_predicted_one_where_theory_says_so(method, step):
    most, _ = limit(method)
    words = EXPLORER.show(method=method, step=step)
    measured = float(re.search(r"measured (\d\.\d+)", words)[1])
    assert measured == pytest.approx(
        rates.local_rate(LQR, method, step * most), abs=2e-3
    )


def test_a_path_without_the_worst_direction_is_faster_than_predicted():
    # The other direction's factor: the steep one died out on the way along the valley.
    most, curvatures = limit("gradient")
    words = EXPLORER.show(method="gradient", step=0.95)
    measured = float(re.search(r"measured (\d\.\d+)", words)[1])
    factors = np.sort(np.square(1 - 0.95 * most * curvatures))
    assert measured == pytest.approx(factors[0], abs=5e-3)
    assert factors[1] > 2 * measured


@every_state
def test_the_path_on_the_plane_is_that_of_descend(method, step):
    EXPLORER.show(method=method, step=step)
    track = [artist.get_xydata() for artist in EXPLORER.moving[:2]]
    gains, cost = walk(method, step * limit(method)[0])
    inside = len(gains) - np.isinf(cost[-1])
    for points in track:
        assert points.shape == (UPDATES + 1, 2)
        assert np.allclose(points[:inside], shown(gains[:inside, 0]), atol=1e-8)
    if np.isinf(cost[-1]):
        assert leaves_straight(track[0][inside - 1 : inside + 1], gains[inside, 0])


def shown(gains):
    """Within one length of the axes beyond either end, as every scene does it."""
    ax = EXPLORER.panels[0].figure.axes[0]
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    width, height = right - left, high - low
    far = [left - width, low - height], [right + width, high + height]
    return np.clip(gains, *far)


def leaves_straight(ends, target):
    """Whether the last step drawn leads to its gain, or out of sight towards it."""
    start, end = ends
    drawn, true = end - start, target - start
    turned = drawn[0] * true[1] - drawn[1] * true[0]
    ax = EXPLORER.panels[0].figure.axes[0]
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    out_of_sight = ((end < low) | (end > high)).any()
    ends_well = out_of_sight or np.allclose(end, target, atol=1e-8)
    return ends_well and abs(turned) < 1e-7 * (true @ true) and drawn @ true > 0


def test_a_last_step_that_leads_far_away_is_cut_in_its_own_direction():
    gains, _ = walk("natural_gradient", 0.9 * limit("natural_gradient")[0])
    assert gains[-1].min() < -60  # else this test says nothing
    EXPLORER.show(method="natural_gradient", step=0.9)
    points = EXPLORER.moving[0].get_xydata()
    assert points.min() > -22
    assert leaves_straight(points[len(gains) - 2 : len(gains)], gains[-1, 0])


@every_state
def test_the_call_reproduces_the_state(method, step):
    (choice, slider), call = EXPLORER.controls, EXPLORER.call
    EXPLORER.show(method=method, step=step)
    code = call.format(
        method=choice.written()[choice.values.index(method)],
        step=slider.written()[slider.values.index(step)],
    )
    names = {"descent": descent, "rates": rates, "lqr": LQR, "K0": K0}
    excess = eval(code, names).cost - exact.cost(LQR, exact.optimal_gain(LQR))
    drawn, finite = EXPLORER.moving[2].get_ydata(), np.isfinite(excess)
    assert np.allclose(drawn[finite], np.maximum(excess, 1e-13)[finite], rtol=1e-6)
    assert (drawn[~finite] > 300).all()  # leaves through the top


@every_state
def test_the_predicted_line_has_the_slope_of_the_local_rate_or_hides(method, step):
    EXPLORER.show(method=method, step=step)
    (x, y), fall = EXPLORER.moving[-1].get_data(), EXPLORER.moving[2].get_ydata()
    best = float(exact.cost(LQR, exact.optimal_gain(LQR)))
    rate = np.square(1 - step * np.multiply(*limit(method))).max()
    near = np.flatnonzero(fall < 1e-2 * best)
    low, high = EXPLORER.panels[1].figure.axes[0].get_ylim()
    if rate < 1e-9 or not near.size:
        assert (y < low).all()
    else:
        assert (x[0], y[0]) == (near[0], pytest.approx(fall[near[0]]))
        assert x[0] < x[1] <= UPDATES
        assert np.diff(np.log10(y)) / np.diff(x) == pytest.approx(np.log10(rate))
        assert (low < y).all()
        assert (y <= high * (1 + 1e-9)).all()


def test_no_state_holds_nan_and_all_are_computed_within_seconds():
    began = time.process_time()
    texts, points = export._all_states(EXPLORER)
    assert time.process_time() - began < 20
    assert np.isfinite(points).all()
    assert len(texts) == len(STATES)
    assert not any({"nan", "inf"} & set(re.findall(r"\w+", text)) for text in texts)


def test_its_built_face_is_light_and_alike_twice():
    page = EXPLORER.html()
    assert page == EXPLORER.html()
    assert len(page.encode()) < export.LIMIT
    assert "Gauss–Newton</option>" in page


def test_its_live_face_answers_both_controls_and_takes_steps_between():
    box = live.widget(EXPLORER)
    words = [child for child in box.children if isinstance(child, ipywidgets.HTML)][1]
    (slider,) = (c for c in box.children if isinstance(c, ipywidgets.FloatSlider))
    (choice,) = (c for c in box.children if isinstance(c, ipywidgets.Dropdown))
    assert words.value.startswith("Gradient, η = 0.297")
    choice.value = "gauss_newton"
    assert "policy iteration" in words.value
    slider.value = 0.5 + slider.step
    assert "policy iteration" not in words.value
    assert "faster" not in words.value


def test_a_live_slider_reaches_every_value_of_the_built_page():
    box = live.widget(EXPLORER)
    (slider,) = (c for c in box.children if isinstance(c, ipywidgets.FloatSlider))
    ticks = (np.array(EXPLORER.controls[1].values) - slider.min) / slider.step
    assert np.allclose(ticks, np.round(ticks), atol=1e-6)


def test_a_start_at_the_optimum_stays_there():
    there = show.method_explorer(LQR, exact.optimal_gain(LQR), updates=5)
    assert "within a millionth of J* at step 0" in there.show()
    assert np.isfinite(export._all_states(there)[1]).all()


def test_a_start_that_is_not_one_stable_gain_is_refused():
    for wrong in ([[1.0, -1.0]], [K0, K0]):
        with pytest.raises(ValueError, match="K0: expected one stable gain"):
            show.method_explorer(LQR, wrong)
    laplacian = worlds.laplacian()
    best = exact.optimal_gain(laplacian)
    with pytest.raises(ValueError, match="lqr: expected gains of shape"):
        show.method_explorer(laplacian, best)
