"""A page's notebook in plain Markdown, as any Jupyter and Colab can show it.

MyST's roles become the words that they have in the book, with its numbers of equations
and figures; its boxes become headings and quotations; captions become cells of their
own below the figures. Code cells stay as they are, without outputs.
"""

import re
from collections.abc import Callable

from nbformat import NotebookNode, v4
from sphinx.environment import BuildEnvironment
from sphinx.util import docname_join
from sphinx.util.nodes import clean_astext

Words = Callable[[str, str], str]

ROLE = re.compile(r"\{(cite(?::[pt])?|eq|numref|ref|doc)\}`([^`]+)`")
TITLED = re.compile(r"(.+) <(.+)>", re.DOTALL)
NUMBERED = re.compile(r"^([ ]*)\$\$ \(([\w-]+)\)$", re.MULTILINE)
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
# A fence of backticks or colons: its name, its title, its options, its content.
FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[a-z-]+)\}[ ]*(?P<title>.*)\n"
    r"(?P<options>(?::[a-z-]+:.*\n)*)(?P<content>(?:.*\n)*?)(?P=fence)$",
    re.MULTILINE,
)
HEADINGS = {"exercise-start": "Exercise: ", "dropdown": "", "admonition": ""}
WRITTEN = {"ledger", "execution", "speed", "bibliography"}


def notebook(page: NotebookNode, words: Words) -> NotebookNode:
    """The notebook of a page; ``words`` says what a role is in the book."""
    cells = []
    for cell in page.cells:
        if cell.cell_type == "code":
            cells += code(cell, words)
        else:
            cells.append(v4.new_markdown_cell(markdown(cell.source, words)))
    return v4.new_notebook(
        cells=[cell for cell in cells if cell.source],
        metadata={
            "kernelspec": {
                "name": "python3",
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
            },
            "language_info": {"name": "python"},
        },
    )


def code(cell: NotebookNode, words: Words) -> list[NotebookNode]:
    """A code cell, folded where the book folds it, and the caption of its figure."""
    tags = cell.metadata.get("tags", [])
    metadata = {"tags": tags} if tags else {}
    if {"hide-input", "hide-cell"} & {*tags}:
        metadata["jupyter"] = {"source_hidden": True}
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    found = [v4.new_code_cell(cell.source, metadata=metadata)]
    if "caption" in figure:
        label = words("numref", figure["name"]) if "name" in figure else "Figure"
        caption = f"**{label}.** {markdown(figure['caption'], words)}"
        found.append(v4.new_markdown_cell(caption))
    return found


def markdown(text: str, words: Words) -> str:
    """MyST as plain Markdown."""
    text = FENCE.sub(box, FENCE.sub(box, text + "\n"))  # boxes stand in boxes
    text = NUMBERED.sub(
        lambda found: f"{found[1]}\\tag{{{words('tag', found[2])}}}\n{found[1]}$$",
        TARGET.sub("", text),
    )
    return ROLE.sub(lambda found: words(found[1], found[2]), text).strip()


def box(found: re.Match[str]) -> str:
    """What is left of a directive."""
    name, title, content = found["name"], found["title"], found["content"].strip()
    if name == "claim":
        return "\n".join(f"> {line}" for line in f"**Claim.** {content}".split("\n"))
    if name in HEADINGS:
        return f"**{HEADINGS[name]}{title}**\n\n{content}"
    if name == "solution-start":
        return "**Solution**"
    if name == "code-block":
        return f"{found['fence']}{title}\n{content}\n{found['fence']}"
    return "*(Here the book has what its build writes.)*" if name in WRITTEN else ""


class BookWords:
    """What roles of a page say, from what Sphinx knows of the whole book."""

    def __init__(self, env: BuildEnvironment, page: str):
        self.env, self.page = env, page
        self.standard, self.math = env.get_domain("std"), env.get_domain("math")
        cited = env.get_domain("cite").citations
        self.cited = {one.key: one.formatted_entry.label for one in cited}

    def __call__(self, role: str, content: str) -> str:
        """The words of one role. Where it leads nowhere Sphinx warns of it."""
        if titled := TITLED.fullmatch(content):
            return titled[1]
        kind, _, style = role.partition(":")
        try:
            return getattr(self, kind)(content, *filter(None, [style]))
        except KeyError:
            return content

    def cite(self, keys: str, style: str = "p") -> str:
        """Fazel et al. (2018) in the text; [Fazel et al., 2018] otherwise."""
        labels = [self.cited[key.strip()] for key in keys.split(",")]
        if style == "t":
            return ", ".join("{} ({})".format(*one.rsplit(", ", 1)) for one in labels)
        return f"[{'; '.join(labels)}]"

    def eq(self, label: str) -> str:
        """The number of an equation, in brackets."""
        return f"({self.tag(label)})"

    def tag(self, label: str) -> str:
        """The same without brackets."""
        page, _ = self.math.equations[label]
        return self.number(page, "displaymath", f"equation-{label}")

    def numref(self, label: str) -> str:
        """The number of a figure."""
        page, anchor = self.standard.anonlabels[label]
        return f"Fig. {self.number(page, 'figure', anchor)}"

    def number(self, page: str, kind: str, anchor: str) -> str:
        """A number as the book prints it, with that of its chapter."""
        return ".".join(map(str, self.env.toc_fignumbers[page][kind][anchor]))

    def ref(self, label: str) -> str:
        """The title of a section."""
        return self.standard.labels[label][2]

    def doc(self, name: str) -> str:
        """The title of a page."""
        title = self.env.titles[docname_join(self.page, name)]
        return f"*{clean_astext(title)}*"
