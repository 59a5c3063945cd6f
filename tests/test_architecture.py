"""Imports go down the floors only, and importing the library stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lqrlib

PACKAGE = Path(lqrlib.__file__).parent
FLOORS = [
    {"_validate", "_blocks"},
    {"_steps", "_forms"},
    {"problem", "lyapunov", "history"},
    {"worlds", "exact", "policy", "finite_horizon"},
    {"rates", "rollout", "weight_moments", "estimate", "observed"},
    {"weights", "model", "critic", "_queries", "ladder"},
    {"_weighted", "ensemble", "soft", "forecast"},
    {"importance", "remedies"},
    {"gradients", "diagnose"},
    {"descent"},
    {"_pool"},
    {"_updates", "_grid", "mbpo_settings"},
    {"mbpo"},
    {"check"},
]
FLOOR_OF = {module: floor for floor, names in enumerate(FLOORS) for module in names}
# The roof: names everything, or faces another library; no floor may import it.
ROOF = {"__init__", "envs"}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
DRAWING = {"matplotlib", "ipywidgets", "IPython"}


def imported(module):
    """Dotted names of everything that a module imports, anywhere in its code."""
    yield from imported_by(PACKAGE / f"{module}.py")


def imported_by(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(module):
    """Modules of this library that a module imports; "" for the package itself."""
    for name in imported(module):
        package, *path = name.split(".")
        if package == "lqrlib":
            known = path and (path[0] in {*MODULES, "show", "studies"})
            yield path[0] if known else ""


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module):
    assert module in FLOOR_OF or module in ROOF


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ROOF])
def test_a_module_imports_from_lower_floors_only(module):
    upward = [
        name for name in own(module) if FLOOR_OF.get(name, 99) >= FLOOR_OF[module]
    ]
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_below_show_draws(module):
    assert "show" not in own(module)
    assert DRAWING.isdisjoint(name.split(".")[0] for name in imported(module))


@pytest.mark.parametrize("file", sorted((PACKAGE / "studies").glob("*.py")), ids=str)
def test_the_studies_stand_on_the_floors_and_do_not_draw(file):
    names = list(imported_by(file))
    assert not any(name.startswith("lqrlib.show") for name in names)
    assert DRAWING.isdisjoint(name.split(".")[0] for name in names)


def test_importing_the_library_imports_neither_scipy_nor_what_draws():
    heavy = sorted(DRAWING | {"scipy", "pandas", "gymnasium"})
    code = f"import sys, lqrlib; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_every_public_name_of_the_package_exists_and_hides_no_module():
    for name in lqrlib.__all__:
        assert hasattr(lqrlib, name)
    for module in set(lqrlib.__all__) & set(MODULES):
        assert getattr(lqrlib, module).__name__ == f"lqrlib.{module}"
