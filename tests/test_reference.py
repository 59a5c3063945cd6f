"""The reference pages: everything public is there, once, and reads as it was meant."""

import importlib
import inspect
import pkgutil
import posixpath
import re
from html import unescape

import pytest
from sphinx.util.inventory import InventoryFile

import lqrlib

pytestmark = pytest.mark.book

PACKAGES = ("show", "studies")  # whose parts are named by the package


def public_names():
    """Full names of all public functions and classes."""
    names = set()
    for module in pkgutil.iter_modules(lqrlib.__path__):
        if module.name.startswith("_"):
            continue
        home = importlib.import_module(f"lqrlib.{module.name}")
        for name, thing in vars(home).items():
            if name.startswith("_") or not callable(thing):
                continue
            if module.name in PACKAGES:
                listed = name in home.__all__
            else:
                listed = getattr(thing, "__module__", "") == home.__name__
            if listed and (inspect.isclass(thing) or inspect.isfunction(thing)):
                names.add(f"{home.__name__}.{name}")
    return names


@pytest.fixture(scope="module")
def inventory(html):
    with (html / "objects.inv").open("rb") as file:
        return InventoryFile.load(file, "", posixpath.join)


@pytest.fixture(scope="module")
def text(html):
    """What the reference pages say, without their markup."""
    pages = sorted((html / "book" / "reference").glob("*.html"))
    return {
        p.stem: unescape(re.sub("<[^>]+>", "", p.read_text("utf-8"))) for p in pages
    }


def test_every_public_function_and_class_is_there_once(inventory):
    listed = {**inventory["py:function"], **inventory["py:class"]}
    assert len(public_names()) > 150
    others = set(listed) - public_names()  # classes, where a package has them from
    assert public_names() <= set(listed)
    assert all(re.match(r"lqrlib\.(show|studies)\.\w+\.\w+$", name) for name in others)
    assert {entry[2].split("#")[0].rsplit("/", 1)[0] for entry in listed.values()} == {
        "book/reference"
    }


def test_every_module_is_there(inventory):
    modules = {name.rpartition(".")[0] for name in public_names()}
    assert modules <= set(inventory["py:module"])


def test_formulas_are_not_taken_for_markup(text):
    assert not [name for name, page in text.items() if name != "index" and "\\" in page]
    assert "K* = −(R + γB′PB)⁻¹γB′PA" in text["exact"]
    assert not re.findall(r"[A-Z₊\u0300-\u036f′]’(?!s)", "".join(text.values()))
    assert "trajectory’s share" in text["loops"]
    assert "|ΔK|" in text["loops"]
    assert "*stable*" not in text["exact"]
    assert "n_trajectories (int) – N.\nhorizon (int) – T.\n" in text["data"]
    assert "z₊z₊′ is linear in x₊x₊′" in text["learned"]
    assert "B̄′PB̄" in text["learned"]


def test_an_enumeration_has_no_signature_which_python_changes(html):
    page = (html / "book/reference/loops.html").read_text("utf-8")
    (head,) = re.findall(r'<dt[^>]* id="lqrlib.history.Status">.*?</dt>', page, re.S)
    assert "sig-paren" not in head


def test_inherited_methods_are_listed(inventory):
    for policy in ("LinearPolicy", "GaussianPolicy", "StagePolicy"):
        for method in ("act", "log_prob", "score"):
            assert f"lqrlib.policy.{policy}.{method}" in inventory["py:method"]


def test_docstrings_link_to_functions_pages_and_equations(html):
    page = (html / "book/reference/exact.html").read_text("utf-8")
    assert 'href="../known_world.html#equation-cost-trace"' in page
    assert 'href="../known_world.html"' in page
    assert 'href="problem.html#lqrlib.problem.LQR"' in page
    gradients = (html / "book/reference/gradients.html").read_text("utf-8")
    assert 'internal" href="#lqrlib.check.check_gradient"' in gradients
