"""The explorers of the built pages, moved as a reader moves them."""

import re

import pytest
from servers import SHARED
from test_browser_pages import open_page  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.book, pytest.mark.browser]

PAGES = {
    "puzzle": "book/index.html",
    "gain": "book/known_world.html",
    "method": "book/exact_gradient.html",
    "queries": "book/finite_horizon.html",
    "hack": "book/gaussian_hack.html",
    "surrogates": "book/gaussian_hack.html",
    "weights": "book/importance_weights.html",
    "ladder": "book/deterministic_gradient.html",
    "model": "book/learning_model.html",
    "phases": "book/phases.html",
    "lag": "book/phases.html",
    "verdict": "book/verdict.html",
    "diagnosis": "book/diagnose.html",
}
every_explorer = pytest.mark.parametrize("name", PAGES)


class Explorer:
    """One explorer on a page: its picture, words, call and controls."""

    def __init__(self, page, name):
        self.page, self.root = page, page.locator(f"#explorer-{name}")
        self.root.locator("form:not([hidden])").wait_for()

    def picture(self):
        return self.root.evaluate(
            """(r) => [...r.querySelectorAll("[id^=lqr-move] path, [id^=lqr-move] use")]
            .map((n) => [n.getAttribute("d"), n.getAttribute("x"), n.getAttribute("y")]
            .join()).join(";")"""
        )

    def words(self):
        return self.root.locator(".lqr-words").inner_text()

    def call(self):
        return self.root.locator(".lqr-call code").inner_text()

    def state(self):
        return self.picture(), self.words(), self.call()


@pytest.fixture
def explorer(open_page, name):  # noqa: F811
    return Explorer(open_page(PAGES[name]), name)


@pytest.fixture
def gain(open_page):  # noqa: F811
    return Explorer(open_page(PAGES["gain"]), "gain")


@pytest.fixture
def puzzle(open_page):  # noqa: F811
    return Explorer(open_page(PAGES["puzzle"]), "puzzle")


def sliders(explorer):
    found = explorer.root.locator("input[type=range]").all()
    assert found
    return found


@every_explorer
def test_each_slider_by_keyboard_changes_picture_and_words_and_comes_back(explorer):
    for slider in sliders(explorer):
        before, output = explorer.state(), slider.get_attribute("aria-valuetext")
        slider.focus()
        explorer.page.keyboard.press("ArrowLeft")
        moved = explorer.state()
        assert all(new != old for new, old in zip(moved, before, strict=True))
        assert slider.get_attribute("aria-valuetext") != output
        explorer.page.keyboard.press("ArrowRight")
        assert explorer.state() == before
        assert slider.get_attribute("aria-valuetext") == output


@every_explorer
def test_each_slider_by_mouse_changes_picture_and_words_and_comes_back(explorer):
    before = explorer.state()
    for slider in sliders(explorer):
        start = slider.input_value()
        box = slider.bounding_box()
        slider.click(position={"x": 0.2 * box["width"], "y": box["height"] / 2})
        assert slider.input_value() != start
        moved = explorer.state()
        assert all(new != old for new, old in zip(moved, before, strict=True))
        explorer.root.get_by_role("button", name="Reset").click()
        assert explorer.state() == before


def test_every_explorer_of_the_book_is_tried_here(html):
    found = {
        name: page.relative_to(html).as_posix()
        for page in (html / "book").rglob("*.html")
        for name in re.findall(r'id="explorer-([a-z-]+)"', page.read_text("utf-8"))
    }
    assert found == PAGES


def test_each_expression_has_its_own_picture_words_and_map(puzzle):
    states = []
    for name in ("hack", "dpg", "model"):
        puzzle.root.locator("select").select_option(index=len(states))
        assert f"'{name}'" in puzzle.call()
        states.append(puzzle.state())
    assert len(set(states)) == 3
    assert "Deterministic gradient" in states[1][1]
    assert "real_ratio changes nothing" in states[2][1]


def test_the_map_shows_every_cell_in_one_region(puzzle):
    shown = puzzle.root.evaluate(
        """(r) => {
        const box = [...r.querySelectorAll("svg")][1].querySelector("clipPath rect");
        const left = box.x.baseVal.value;
        return [2, 3, 4, 5].map((i) =>
          [...document.querySelectorAll(`#lqr-move-puzzle-${i} use`)]
          .filter((n) => n.x.baseVal.value > left).length);
        }"""
    )
    assert sum(shown) == 13 * 9
    assert all(shown)  # the hack has cells of all four kinds


def test_the_words_and_the_call_agree_with_the_library(gain):
    from lqrlib import exact, worlds

    sliders(gain)[0].press("Home")
    k1, k2 = map(float, re.search(r"\[\[(.*), (.*)\]\]", gain.call()).groups())
    cost = float(exact.cost(worlds.double_integrator(), [[k1, k2]]))
    assert k1 == -6
    assert f"J = {cost:.2f}" in gain.words()


def test_an_infinite_cost_is_said_and_the_curve_leaves_through_the_top(gain):
    for slider in sliders(gain):
        slider.press("End")
    assert "J = ∞" in gain.words()
    curve, top = gain.root.evaluate(
        """(r) => {
        const path = document.getElementById("lqr-move-gain-1").querySelector("path");
        const boxes = [...r.querySelectorAll("clipPath rect")];
        const top = Math.min(...boxes.map((box) => box.y.baseVal.value));
        return [path.getAttribute("d"), top];
        }"""
    )
    heights = [float(y) for y in re.findall(r"[ML]\S+ (\S+?)(?=[ML]|$)", curve)]
    assert heights[-1] < top < heights[0]
    assert "NaN" not in curve


def test_the_state_is_in_the_address_and_the_address_restores_it(gain, open_page):  # noqa: F811
    sliders(gain)[1].press("ArrowLeft")
    address = gain.page.evaluate("location.hash")
    assert address == "#gain:k1=0.5,k2=-3.25"
    again = Explorer(open_page(PAGES["gain"]), "gain")
    assert again.state() != gain.state()
    again.page.evaluate(f"location.hash = '{address}'")
    again.page.wait_for_function("document.body.innerText.includes('[0.5, -3.25]')")
    assert again.state() == gain.state()
    gain.root.get_by_role("button", name="Reset").click()
    assert gain.page.evaluate("location.hash") == ""


@pytest.mark.parametrize("address", ["#the-landscape", "#gain:k9=1,k1=77", "#gain:%%%"])
def test_a_foreign_or_broken_address_changes_nothing(gain, address):
    before = gain.state()
    gain.page.evaluate(f"location.hash = '{address}'")
    gain.page.wait_for_timeout(100)
    assert gain.state() == before
    assert gain.page.faults == []


@every_explorer
def test_a_move_is_on_the_screen_within_50_ms(explorer):
    move = """async (r) => {
        const slider = r.querySelector("input[type=range]"), times = [];
        for (let i = 0; i < 12; i++) {
          const start = performance.now();
          slider.value = i;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          r.querySelector("svg").getBoundingClientRect();
          await new Promise(requestAnimationFrame);
          times.push(performance.now() - start);
        }
        return times;
        }"""
    # Another test may be busy on the other processor: the least of three medians.
    medians = [sorted(explorer.root.evaluate(move))[6] for _ in range(3)]
    assert min(medians) <= 50 * SHARED


@every_explorer
def test_without_javascript_the_figure_and_its_words_stand_and_no_dead_control(
    chromium, html, name
):
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"file://{html / PAGES[name]}")
    assert page.locator(f"#explorer-{name} svg").first.is_visible()
    assert page.locator(f"#explorer-{name} .lqr-words").inner_text()
    assert not page.locator(f"#explorer-{name} form").is_visible()


@every_explorer
def test_the_face_is_transparent_in_the_dark_and_text_takes_the_page_colour(
    open_page,  # noqa: F811
    name,
):
    page = open_page(PAGES[name], color_scheme="dark")
    explorer = Explorer(page, name)
    colours = explorer.root.evaluate(
        """(r) => {
        const opaque = [];
        for (let e = r; e && e !== document.body; e = e.parentElement) {
          const c = getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number);
          if (c.length < 4 || c[3] > 0) opaque.push(Math.max(...c.slice(0, 3)));
        }
        const text = getComputedStyle(r.querySelector("svg text")).fill;
        return [opaque, text.match(/\\d+/g).map(Number)];
        }"""
    )
    assert all(shade < 60 for shade in colours[0])
    assert min(colours[1][:3]) > 150
