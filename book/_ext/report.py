"""Pages that the build writes: the ledger of claims, and the report of what was run.

A cell checks a claim with `lqrlib.show.claim(name, …)`, which leaves its numbers in an
HTML comment among the cell's outputs. (What else MyST-NB offers for passing on a value
does not say which cell it comes from.) The page marks the claim:

    ```{claim} name
    :equation: label, another
    :test: tests/test_file.py::test_function
    What is claimed, in a sentence.
    ```

`{ledger}` lists all claims, `{execution}` all pages with cells. A claim without a check
on its page, a check without a claim, a check that does not hold and a test that does
not exist are warnings, which fail the build.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile("<!-- lqrlib-claim (.*) -->")  # by `lqrlib.show.ledger`

logger = logging.getLogger(__name__)


class Claim(NamedTuple):
    """What a page claims: its own Markdown, links to equations, a test, the line."""

    statement: str
    equations: str
    test: str
    line: int


class Check(NamedTuple):
    """What a cell of a page has measured."""

    cell: int
    measured: float
    low: float | None
    high: float | None
    allowed: str

    @property
    def holds(self) -> bool:
        """Whether the bounds are kept: not taken on trust from the cell."""
        above = self.low is None or self.low <= self.measured
        return above and (self.high is None or self.measured <= self.high)


class Page(NamedTuple):
    """Of one page: the number of its code cells, its claims and checks by name."""

    cells: int
    claims: dict[str, Claim]
    checks: dict[str, Check]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("claim", ClaimDirective)
    app.add_directive("ledger", LedgerDirective)
    app.add_directive("execution", ExecutionDirective)
    app.connect("env-before-read-docs", read_last)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", forget)
    return {"parallel_read_safe": False, "parallel_write_safe": True}


def pages(env: BuildEnvironment) -> dict[str, Page]:
    """What is known of the pages read so far; kept with Sphinx's environment."""
    if not hasattr(env, "lqrbook_pages"):
        env.lqrbook_pages = {}
    return env.lqrbook_pages


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Drop what is known of a page that will be read again."""
    pages(env).pop(docname, None)


def in_order(env: BuildEnvironment) -> list[tuple[str, Page]]:
    """The same in the order of the table of contents."""
    known = pages(env)
    order = [env.config.root_doc, *reading_order(env, env.config.root_doc)]
    return [(name, known[name]) for name in order if name in known]


def reading_order(env: BuildEnvironment, parent: str) -> Iterator[str]:
    """Names of all pages below one, as the table of contents has them."""
    for child in env.toctree_includes.get(parent, []):
        yield child
        yield from reading_order(env, child)


def read_last(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Read the pages last that are written from all others."""
    written = re.compile(r"^```\{(ledger|execution)\}", re.MULTILINE)
    texts = {name: Path(env.doc2path(name)).read_text("utf-8") for name in docnames}
    docnames.sort(key=lambda name: written.search(texts[name]) is not None)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Give cells their anchors, and join claims with what the cells have measured."""
    env = app.env
    containers = list(doctree.findall(nodes.container))
    cells = [node for node in containers if "cell_index" in node]
    for number, node in enumerate(cells, 1):
        node["ids"].append(f"cell-{number}")
    boxes = {node["claim"]: node for node in containers if "claim" in node}
    if not cells and not boxes:
        return
    claims = {name: box.attributes.pop("record") for name, box in boxes.items()}
    checks = dict(checks_of(cells))
    pages(env)[env.docname] = Page(len(cells), claims, checks)
    for name, box in boxes.items():
        label(env, f"claim-{name}", box["ids"][0])
        if name in checks:
            label(env, f"check-{name}", f"cell-{checks[name].cell}")
            box += outcome(checks[name], claims[name])
    only = os.environ.get("LQRBOOK_CHAPTER")
    if not only or env.docname == only.removesuffix(".md"):
        for complaint, line in complaints(claims, checks):
            logger.warning(complaint, location=(env.docname, line), type="claim")


def label(env: BuildEnvironment, name: str, anchor: str) -> None:
    """Let `{ref}` find a place of the page just read."""
    domain = env.get_domain("std")
    domain.anonlabels[name] = env.docname, anchor
    domain.labels[name] = env.docname, anchor, name


def checks_of(cells: list[nodes.container]) -> Iterator[tuple[str, Check]]:
    """Name and numbers of each check that cells have made; their outputs are taken."""
    for number, cell in enumerate(cells, 1):
        for output in list(cell.findall(nodes.raw)):
            if found := COMMENT.fullmatch(output.astext()):
                record = json.loads(found[1])
                yield record.pop("name"), Check(number, **record)
                remove(output)


def remove(node: nodes.Node) -> None:
    """Take a node out, with the boxes that held nothing else."""
    parent = node.parent
    parent.remove(node)
    if not parent.children:
        remove(parent)


def complaints(
    claims: dict[str, Claim], checks: dict[str, Check]
) -> Iterator[tuple[str, int | None]]:
    """What is wrong with the claims of a page, each with its line."""
    for name, claim in claims.items():
        if name not in checks:
            yield f"claim {name}: no cell of this page checks it", claim.line
        elif not checks[name].holds:
            yield f"claim {name}: it does not hold", claim.line
        if not exists(claim.test):
            yield f"claim {name}: there is no test {claim.test!r}", claim.line
    for name in checks.keys() - claims.keys():
        yield f"check {name}: this page makes no such claim", None


def exists(test: str) -> bool:
    """Whether a test file defines such a function: file::function or file::Class::f."""
    file, *names = test.split("::")
    path = ROOT / file
    if not names or not path.is_file():
        return False
    text = path.read_text("utf-8")
    return all(re.search(rf"^\s*(def|class) {name}\b", text, re.M) for name in names)


def outcome(check: Check, claim: Claim) -> nodes.paragraph:
    """The last line of a claim's box."""
    line = nodes.paragraph(classes=["claim-check"])
    line += nodes.Text(f"Measured {check.measured:.4g} in ")
    line += nodes.reference("", f"cell {check.cell}", refuri=f"#cell-{check.cell}")
    line += nodes.Text(f", allowed: {check.allowed}. Tested by ")
    line += nodes.literal(text=claim.test.split("::")[-1])
    line += nodes.Text(".")
    return line


class ClaimDirective(SphinxDirective):
    """A box with what is claimed; `collect` adds what was measured."""

    required_arguments = 1
    has_content = True
    option_spec = {"equation": directives.unchanged, "test": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """The box, and in it for `collect` what the ledger says of the claim."""
        self.assert_has_content()
        name, labels = self.arguments[0], self.options.get("equation", "").split(",")
        links = ", ".join(f"{{eq}}`{label.strip()}`" for label in labels if label)
        words, test = " ".join(self.content), self.options.get("test", "")
        box = nodes.container(classes=["claim"], ids=[f"claim-{name}"])
        box["claim"], box["record"] = name, Claim(words, links, test, self.lineno)
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]


class Written(SphinxDirective):
    """A directive whose Markdown the build writes."""

    def run(self) -> list[nodes.Node]:
        """What the Markdown says."""
        holder = nodes.container(classes=[f"written-{self.name}"])
        lines = StringList("\n".join(self.lines()).splitlines(), self.env.docname)
        self.state.nested_parse(lines, self.content_offset, holder)
        return [holder]

    def lines(self) -> Iterator[str]:
        """The Markdown, line by line."""
        raise NotImplementedError


class LedgerDirective(Written):
    """All claims, page by page."""

    def lines(self) -> Iterator[str]:
        """A sentence, then a table for each page."""
        read = [(name, page) for name, page in in_order(self.env) if page.claims]
        claims = sum(len(page.claims) for _, page in read)
        yield f"Claims: {claims}. Pages that make them: {len(read)}."
        for name, page in read:
            yield from ("", f"**{{doc}}`/{name}`**", "")
            yield "| claim | measured | allowed | holds | cell | equation | test |"
            yield "|---|---|---|---|---|---|---|"
            for key, claim in page.claims.items():
                yield row(key, claim, page.checks.get(key))


def row(name: str, claim: Claim, check: Check | None) -> str:
    """One claim of the ledger."""
    statement = claim.statement.replace("|", r"\|")
    first = f"{statement} ({{ref}}`{name} <claim-{name}>`)"
    file, _, test = claim.test.partition("::")
    found = ["not run", "", "", ""]
    if check:
        cell = f"{{ref}}`{check.cell} <check-{name}>`"
        holds = "yes" if check.holds else "**no**"
        found = [f"{check.measured:.4g}", check.allowed, holds, cell]
    tested = f"`{Path(file).name}` `{test}`"
    return "| " + " | ".join([first, *found, claim.equations, tested]) + " |"


class ExecutionDirective(Written):
    """All pages with cells: how many, how long they took, how many claims."""

    def lines(self) -> Iterator[str]:
        """A table, and its sums."""
        yield from ("| page | code cells | seconds | claims |", "|---|---:|---:|---:|")
        cells = seconds = claims = 0.0
        for name, page in in_order(self.env):
            data = NbMetadataCollector.get_exec_data(self.env, name) or {}
            took = data.get("runtime") or 0.0
            found = len(page.claims)
            yield f"| {{doc}}`/{name}` | {page.cells} | {took:.1f} | {found} |"
            cells, seconds, claims = cells + page.cells, seconds + took, claims + found
        yield f"| all | {cells:.0f} | {seconds:.0f} | {claims:.0f} |"
