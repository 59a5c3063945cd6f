"""Claims of the book, checked in its cells.

A page marks a claim with the directive ``{claim}`` and its name; a cell of that page
checks it under the same name. The build puts both beside each other, on the page and in
the ledger of claims, and fails where one of them is missing.
"""

import json
import os
import re

import numpy as np
from IPython.display import publish_display_data

from lqrlib import _validate

MARK = "lqrlib-claim"


def claim(
    name: str,
    measured: float,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    between: tuple[float, float] | None = None,
) -> None:
    """Check a claim, and leave what was measured in the cell's output.

    Parameters
    ----------
    name : str
        Of the claim: small letters, digits and hyphens.
    measured : float
        A finite number.
    at_most, at_least : float, optional
        The bound that it has to keep.
    between : tuple of float, optional
        Both bounds, in ascending order.

    Raises
    ------
    AssertionError
        If what was measured does not keep its bound.
    ValueError
        If the name is none, ``measured`` or a bound is no finite number, or not just
        one of the bounds is given.
    """
    if not isinstance(name, str) or not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise _validate.error("name", "words of a-z, 0-9 with hyphens", name)
    found = _validate.number("measured", np.asarray(measured)[()])
    low, high = _bounds(at_most, at_least, between)
    allowed = _words(low, high)
    words = f"{found:.4g}, allowed: {allowed}"
    if not (low is None or low <= found) or not (high is None or found <= high):
        message = f"the claim {name} does not hold: measured {words}"
        raise AssertionError(message)
    record = {"name": name, "measured": found, "low": low, "high": high}
    if os.environ.get("LQRLIB_STATIC") == "1":  # for the build, which shows it itself
        comment = f"<!-- {MARK} {json.dumps(record | {'allowed': allowed})} -->"
        output = {"text/html": comment}
    else:
        output = {"text/plain": f"{name}: {words}"}
    publish_display_data(output)  # type: ignore[no-untyped-call]


def _words(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:.4g}"
    return f"at least {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"


def _bounds(
    at_most: float | None,
    at_least: float | None,
    between: tuple[float, float] | None,
) -> tuple[float | None, float | None]:
    given = [bound is not None for bound in (at_most, at_least, between)]
    if sum(given) != 1:
        raise _validate.error(
            "at_most, at_least, between", "one of them", f"{sum(given)}"
        )
    if between is None:
        low = None if at_least is None else _validate.number("at_least", at_least)
        high = None if at_most is None else _validate.number("at_most", at_most)
        return low, high
    low, high = (_validate.number("between", bound) for bound in between)
    if not low < high:
        raise _validate.error("between", "bounds in ascending order", between)
    return low, high
