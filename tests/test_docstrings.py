"""Every public name says what it does, takes, returns and refuses."""

import ast
import enum
import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from pathlib import Path

import pytest

import lqrlib


def public_modules():
    names = [
        info.name
        for info in pkgutil.walk_packages(lqrlib.__path__, "lqrlib.")
        if not any(part.startswith("_") for part in info.name.split("."))
        if info.name.split(".")[1] != "show"
    ]
    return [lqrlib, *map(importlib.import_module, names)]


def members(owner):
    """Public functions and classes that ``owner`` itself defines."""
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        value = (
            value.__func__ if isinstance(value, classmethod | staticmethod) else value
        )
        value = value.fget if isinstance(value, property) else value
        home = getattr(value, "__module__", None)
        written_here = inspect.isfunction(value) or inspect.isclass(value)
        if written_here and home is not None and home.startswith("lqrlib"):
            yield name, value


def public_objects():
    for module in public_modules()[1:]:
        for name, value in members(module):
            if value.__module__ != module.__name__:
                continue
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for method_name, method in members(value):
                    yield f"{module.__name__}.{name}.{method_name}", method


OBJECTS = dict(public_objects())
every_object = pytest.mark.parametrize("name", OBJECTS)


def section(text, title):
    """The lines of one section of a NumPy docstring; empty if there is none."""
    _, found, after = inspect.cleandoc(text).partition(f"{title}\n{'-' * len(title)}\n")
    body, *_ = re.split(r"\n\n?\w+\n---+\n", after)
    return body.splitlines() if found else []


def documented(text):
    """Argument → what its entry under Parameters says on the same line."""
    entries = [line for line in section(text, "Parameters") if line[:1].strip()]
    pairs = [entry.partition(" : ") for entry in entries]
    return {
        name.strip(" *"): kind for names, _, kind in pairs for name in names.split(",")
    }


def arguments(value):
    """Argument → its annotation, as text; properties have no argument to document."""
    if inspect.isclass(value) and issubclass(value, enum.Enum | Exception):
        return {}
    parameters = inspect.signature(value).parameters
    return {
        name: str(parameter.annotation)
        for name, parameter in parameters.items()
        if name not in ("self", "cls")
    }


def definitions():
    """Name → syntax trees of what bears it anywhere in the package, show apart.

    A class stands for what runs when it is built.
    """
    found = defaultdict(list)
    package = Path(lqrlib.__file__).parent
    for path in {*package.rglob("*.py")} - {*(package / "show").glob("*.py")}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found[node.name].append(node)
            elif isinstance(node, ast.ClassDef):
                found[node.name] += [
                    method
                    for method in node.body
                    if getattr(method, "name", "") in ("__init__", "__post_init__")
                ]
    return found


def called_names(tree):
    """Last names of what is called, other libraries' functions apart."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            *owners, last = ast.unparse(call.func).split(".")
            if owners[:1] not in (["np"], ["rng"], ["scipy"]):
                yield last


def raising():
    """Names whose code raises, itself or through what it calls in the package."""
    trees = definitions()
    names = {
        name
        for name, bodies in trees.items()
        for body in bodies
        if any(isinstance(node, ast.Raise) for node in ast.walk(body))
    }
    while True:
        through = {
            name
            for name, bodies in trees.items()
            if any(names & set(called_names(body)) for body in bodies)
        }
        if through <= names:
            return names
        names |= through


RAISING = raising()


@pytest.mark.parametrize("module", public_modules(), ids=lambda m: m.__name__)
def test_every_module_says_what_it_is(module):
    assert module.__doc__


@every_object
def test_every_public_name_has_a_docstring(name):
    value = OBJECTS[name]
    assert value.__doc__
    # A dataclass without one is given its signature by Python.
    assert not value.__doc__.startswith(f"{value.__name__}(")


@every_object
def test_every_argument_is_documented_arrays_with_their_shape(name):
    value = OBJECTS[name]
    entries = documented(value.__doc__)
    for argument, annotation in arguments(value).items():
        assert argument in entries, f"{name}: {argument} is not under Parameters"
        if "Array" in annotation or "NDArray" in annotation:
            assert "shape [" in entries[argument], f"{name}: {argument} has no shape"


@every_object
def test_every_documented_argument_exists(name):
    value = OBJECTS[name]
    assert set(documented(value.__doc__)) <= set(arguments(value))


@every_object
def test_what_can_refuse_its_arguments_says_when(name):
    value = OBJECTS[name]
    can_refuse = bool(arguments(value)) and name.rpartition(".")[2] in RAISING
    assert bool(section(value.__doc__, "Raises")) == can_refuse


def test_every_equation_that_a_docstring_names_stands_in_its_chapter():
    root = Path(lqrlib.__file__).parents[1]
    code = "".join(
        path.read_text(encoding="utf-8") for path in root.glob("lqrlib/*.py")
    )
    labels = r"\([a-z-]+\)(?:(?:,|\s+and)\s+\([a-z-]+\))*"
    named = re.findall(rf"[Ee]quations?\s+({labels})\s+of\s+`(book/\w+\.md)`", code)
    assert named
    for several, chapter in named:
        text = (root / chapter).read_text(encoding="utf-8")
        for label in re.findall(r"\(([a-z-]+)\)", several):
            assert f"$$ ({label})" in text
