"""The chapters in JupyterLab, as `make lab` opens them: explorers call Python there."""

import re
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from servers import BOOK, CHAPTERS, contents, need, run_in_lab, watched

from lqrlib import show, worlds


@pytest.fixture(scope="module")
def jupytext():
    """The converter of chapters; where it is missing, JupyterLab is missing too."""
    need("jupytext")
    import jupytext

    return jupytext


@pytest.fixture(scope="module")
def before():
    """What the chapters' folder held before JupyterLab was started."""
    return contents(BOOK)


@pytest.fixture(scope="module")
def chapter(before, lab, chromium):
    """`known_world.md`, opened by a double click, with all its cells run."""
    with watched(chromium, viewport={"width": 1400, "height": 1000}) as page:
        run_in_lab(page, lab, "known_world.md")
        yield page


@pytest.fixture
def explorer(chapter):
    found = chapter.locator(".jp-OutputArea-child", has_text="Choose a gain")
    found.locator("img").first.wait_for()
    return found


def pictures(explorer):
    return [image.get_attribute("src") for image in explorer.locator("img").all()]


def words(explorer):
    return explorer.get_by_text("The state").text_content()


def first_gain(explorer):
    call = explorer.locator("code").text_content()
    return float(re.fullmatch(r"exact\.cost\(lqr, \[\[(\S+), \S+\]\]\)", call)[1])


@pytest.mark.browser
def test_every_cell_runs_and_none_shows_an_error(chapter):
    for kind in ("error", "stderr"):
        shown = chapter.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert shown.all_text_contents() == []
    assert chapter.get_by_text("javascript error").count() == 0


@pytest.mark.browser
def test_every_formula_is_typeset(chapter):
    displayed = re.findall(r"^ *\$\$", (BOOK / "known_world.md").read_text(), re.M)
    shown = chapter.locator(".jp-MarkdownCell .katex-display").count()
    assert shown == len(displayed) / 2 > 0  # each opens and closes
    assert chapter.locator(".jp-MarkdownCell .text-red-500").all_text_contents() == []


@pytest.mark.browser
def test_an_explorer_opens_as_in_the_built_page(explorer):
    scene = show.gain_explorer(worlds.double_integrator())
    assert first_gain(explorer) == scene.default["k1"]
    assert words(explorer) == scene.show(**scene.default)


@pytest.mark.browser
def test_a_slider_asks_python_between_the_values_of_the_built_page(chapter, explorer):
    grid = show.gain_explorer(worlds.double_integrator()).controls[0].values
    before, said, gain = pictures(explorer), words(explorer), first_gain(explorer)
    assert len(before) == 2
    explorer.get_by_role("slider").first.press("ArrowLeft")
    chapter.wait_for_function(
        "([img, old]) => img.src !== old",
        arg=[explorer.locator("img").last.element_handle(), before[1]],
    )
    assert all(new != old for new, old in zip(pictures(explorer), before, strict=True))
    assert words(explorer) != said
    assert grid[0] < first_gain(explorer) < gain
    assert min(abs(first_gain(explorer) - value) for value in grid) > 1e-3


@pytest.mark.browser
def test_no_other_host_is_asked_for_anything_and_nobody_for_news(chapter):
    hosts = {urlsplit(url).hostname for url in chapter.requested}
    assert hosts - {None} == {"localhost"}  # None: data in the page itself
    # The extension that asks for news and updates reads its own settings first.
    assert not any("announcements" in url for url in chapter.requested)


@pytest.mark.browser
def test_without_the_token_nothing_is_told(lab):
    with urlopen(f"{lab.root}/api/contents?{lab.token}") as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(f"{lab.root}/api/contents")
    refused.value.close()


@pytest.mark.browser
def test_neither_the_book_nor_the_home_folder_is_written_to(chapter, before, lab):
    assert contents(BOOK) == before
    assert list(lab.home.iterdir()) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_saving_a_chapter_in_jupyterlab_does_not_change_it(jupytext, name):
    from jupyter_client.kernelspec import get_kernel_spec

    notebook = jupytext.read(BOOK / name)
    kernel = get_kernel_spec("python3")
    # JupyterLab writes the kernel's data anew, in this order.
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": kernel.display_name,
        "language": kernel.language,
    }
    saved = jupytext.writes(notebook, fmt="md:myst")
    assert saved == (BOOK / name).read_text(encoding="utf-8")
