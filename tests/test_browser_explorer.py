"""The explorers of the built pages, moved as a reader moves them."""

import re

import pytest
from test_browser_pages import open_page  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.book, pytest.mark.browser]

PAGE = "book/known_world.html"


class Explorer:
    """One explorer on a page: its picture, words, call and controls."""

    def __init__(self, page, name="gain"):
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
def gain(open_page):  # noqa: F811
    return Explorer(open_page(PAGE))


def sliders(explorer):
    found = explorer.root.locator("input[type=range]").all()
    assert found
    return found


def test_each_slider_by_keyboard_changes_picture_and_words_and_comes_back(gain):
    for slider in sliders(gain):
        before, output = gain.state(), slider.get_attribute("aria-valuetext")
        slider.focus()
        gain.page.keyboard.press("ArrowLeft")
        moved = gain.state()
        assert all(new != old for new, old in zip(moved, before, strict=True))
        assert slider.get_attribute("aria-valuetext") != output
        gain.page.keyboard.press("ArrowRight")
        assert gain.state() == before
        assert slider.get_attribute("aria-valuetext") == output


def test_each_slider_by_mouse_changes_picture_and_words_and_comes_back(gain):
    before = gain.state()
    for slider in sliders(gain):
        start = slider.input_value()
        box = slider.bounding_box()
        slider.click(position={"x": 0.2 * box["width"], "y": box["height"] / 2})
        assert slider.input_value() != start
        moved = gain.state()
        assert all(new != old for new, old in zip(moved, before, strict=True))
        gain.root.get_by_role("button", name="Reset").click()
        assert gain.state() == before


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
    again = Explorer(open_page(PAGE))
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


def test_a_move_is_on_the_screen_within_50_ms(gain):
    times = gain.root.evaluate(
        """async (r) => {
        const slider = r.querySelector("input[type=range]"), times = [];
        for (let i = 0; i < 25; i++) {
          const start = performance.now();
          slider.value = i;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          r.querySelector("svg").getBoundingClientRect();
          await new Promise(requestAnimationFrame);
          times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b);
        }"""
    )
    assert times[len(times) // 2] <= 50


def test_without_javascript_the_figure_and_its_words_stand_and_no_dead_control(
    open_page,  # noqa: F811
    chromium,
    html,
):
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"file://{html / PAGE}")
    assert page.locator("#explorer-gain svg").first.is_visible()
    assert page.locator("#explorer-gain .lqr-words").inner_text()
    assert not page.locator("#explorer-gain form").is_visible()


def test_the_face_is_transparent_in_the_dark_and_text_takes_the_page_colour(open_page):  # noqa: F811
    page = open_page(PAGE, color_scheme="dark")
    explorer = Explorer(page)
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
