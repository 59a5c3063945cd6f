"""The reference of `lqrlib`, from its docstrings, by Sphinx's own autodoc and napoleon.

The docstrings are plain text: |x|, K*, K_b and x'Qx are mathematics, not markup, and
what stands between single backticks is code, `exact.cost` for example. Before napoleon
reads a docstring, formulas are escaped, and links are made of code that names something
of the library, of pages of the book and of labels of its equations.
"""

import re
import sys
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

from sphinx.application import Sphinx

import lqrlib

CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
EMPHASIS = r"(?<![\w*])\*[A-Za-z][A-Za-z -]*\*(?!\w)"
MARKUP = re.compile(rf"({EMPHASIS})|[*|\\]|_(?![A-Za-z0-9])")
PRIME = re.compile(  # K', x', z'', not world's
    r"(?<=[\w\])¹₊*\u0300-\u036f])(?<![a-z]{3})'+(?!s\b)"
)
LETTER = re.compile(r"^(\s*)([A-Za-z]\.)(?=\s|$)")  # "T." alone begins no list
LABEL = re.compile(r"\(([a-z][a-z0-9-]*)\)")
EQUATIONS = re.compile(
    rf"\b[Ee]quations?\s+{LABEL.pattern}(?:(?:,| and)\s+{LABEL.pattern})*\s+of\s"
)
FIELD = "Alias for field number"  # what Python says of a NamedTuple's field


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    for extension in ("autodoc", "autosummary", "napoleon", "viewcode"):
        app.setup_extension(f"sphinx.ext.{extension}")
    app.connect("autodoc-process-docstring", as_markup, priority=400)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", bare_enumerations)
    stand_in_for_gymnasium()
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Base:
    """What an environment is derived from, where Gymnasium is not installed."""

    def __class_getitem__(cls, types: Any) -> type:
        """Take type arguments, as Gymnasium's classes do."""
        return cls


def stand_in_for_gymnasium() -> None:
    """Let `lqrlib.envs` be imported, and read, where Gymnasium is not installed.

    The build does without it. To be documented the environments need plain classes to
    be derived from, and of everything else only the names: Sphinx's own mocks would be
    bases that hide how the environments are called.
    """
    try:
        import_module("gymnasium")
    except ModuleNotFoundError:
        package = MagicMock(Env=Base)
        package.vector.VectorEnv = Base
        sys.modules["gymnasium"] = package
        sys.modules["gymnasium.vector"] = package.vector
        sys.modules["gymnasium.vector.utils"] = package.vector.utils


def bare_enumerations(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str, str] | None:
    """Enumerations are not called; their signature differs from Python to Python."""
    bare = what == "class" and issubclass(obj, Enum)
    return ("", "") if bare else None


def skip_fields(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of NamedTuples: the class documents them."""
    return True if FIELD in (getattr(obj, "__doc__", None) or "") else None


def as_markup(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn the plain text of a docstring into reStructuredText, in place."""
    home = obj if isinstance(obj, ModuleType) else import_module(module_of(name))
    lines[:] = "\n".join(lines).split("\n")
    text = "\n".join(line if ">>>" in line else escaped(line) for line in lines)
    text = CODE.sub(lambda found: linked(found[0], home), text)
    lines[:] = EQUATIONS.sub(numbered, text).split("\n")


def module_of(name: str) -> str:
    """The longest part of a dotted name that is a module."""
    parts = name.split(".")
    while len(parts) > 1:
        try:
            import_module(".".join(parts))
        except ModuleNotFoundError:
            parts.pop()
        else:
            break
    return ".".join(parts)


def escaped(line: str) -> str:
    """A line in which nothing but code and *emphasis* is markup."""
    parts = CODE.split(line)
    text = "".join(
        part if part.startswith("`") else MARKUP.sub(escape, primed(part))
        for part in parts
    )
    return LETTER.sub(r"\1\\\2", text)


def primed(text: str) -> str:
    """Transposes with a prime, which no typographer takes for a quotation mark."""
    return PRIME.sub(lambda found: "\N{PRIME}" * len(found[0]), text)


def escape(found: re.Match[str]) -> str:
    """Emphasis as it is; before any other sign a backslash."""
    return found[1] or "\\" + found[0]


def numbered(found: re.Match[str]) -> str:
    """Labels of equations as links that show their numbers."""
    return LABEL.sub(r":eq:`\1`", found[0])


def linked(code: str, home: ModuleType) -> str:
    """Code in backticks as a link to what it names in the library, or as it is."""
    name = code.strip("`")
    if page := re.fullmatch(r"book/(\w+)\.md", name):
        return f":doc:`/book/{page[1]}`"
    target = found(name.removeprefix("lqrlib."), home)
    return f":py:obj:`{name} <{target}>`" if target else f"``{name}``"


def found(name: str, home: ModuleType) -> str | None:
    """The full name of a public function, class or module of the library."""
    for place in (home, lqrlib):
        thing: Any = place
        for part in name.split("."):
            thing = getattr(thing, part, None)
        full = full_name(thing)
        if full.startswith("lqrlib") and "._" not in full:
            package = re.match(r"lqrlib\.(show|studies)\.", full)
            return f"{package[0]}{full.rsplit('.', 1)[1]}" if package else full
    return None


def full_name(thing: Any) -> str:
    """Where a module, class or function lives; empty for anything else."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    name = getattr(thing, "__qualname__", None)
    return f"{thing.__module__}.{name}" if name else ""
