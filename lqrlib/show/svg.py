"""Matplotlib's SVG, made fit to stand inside a page among others."""

import re
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_PREFIX = "lqr-move-"


def identifier(explorer: str, index: int) -> str:
    """The id under which the page finds a moving artist.

    Parameters
    ----------
    explorer : str
        Name of the explorer.
    index : int
        Place of the artist among the moving ones.

    Returns
    -------
    str
    """
    return f"{_PREFIX}{explorer}-{index}"


def for_page(document: str, prefix: str, alt: str) -> str:
    """Strip, prefix, shorten and describe one SVG document.

    Takes away the metadata and the style rule for every element of the page; prefixes
    all ids but those of moving artists; makes black the text colour of the page;
    rounds coordinates to hundredths of a pixel; scales with its width.

    Parameters
    ----------
    document : str
        What ``savefig(format="svg")`` wrote.
    prefix : str
        Makes ids unique on the page.
    alt : str
        Description for who cannot see the picture.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", _XLINK[1:-1])
    root = ElementTree.fromstring(document)  # noqa: S314 (Matplotlib wrote it)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("metadata") or child.tag == _SVG + "style":
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _attribute(key, value, prefix))
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode")


def drawn(page: str, identifier: str) -> int:
    """How many paths or markers stand on the page for a moving artist.

    Parameters
    ----------
    page : str
        Elements that `for_page` returned.
    identifier : str
        Id of the artist.

    Returns
    -------
    int
    """
    root = ElementTree.fromstring(f"<page>{page}</page>")  # noqa: S314 (ours)
    node = root.find(f".//*[@id='{identifier}']")
    if node is None:
        return 0
    marks = node.findall(f".//{_SVG}use")
    return len(marks or node.findall(f"./{_SVG}path"))


def _attribute(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return value if value.startswith(_PREFIX) else prefix + value
    if key == _XLINK + "href":
        return "#" + prefix + value[1:]
    if key in {"d", "points"}:
        return re.sub(r"-?\d+\.\d+", _rounded, re.sub(r"\s+", " ", value)).strip()
    value = re.sub(r"url\(#", f"url(#{prefix}", value)
    return value.replace("#000000", "currentColor")


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
