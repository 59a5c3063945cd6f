"""Claims: what a cell leaves for the build, and what it refuses."""

import json
import re

import pytest

from lqrlib.show import claim, ledger


@pytest.fixture
def published(monkeypatch):
    """What cells have published."""
    outputs = []
    monkeypatch.setattr(ledger, "publish_display_data", outputs.append)
    monkeypatch.setenv("LQRLIB_STATIC", "1")
    return outputs


@pytest.mark.parametrize(
    ("bound", "low", "high", "words"),
    [
        ({"at_most": 2.0}, None, 2.0, "at most 2"),
        ({"at_least": 0.5}, 0.5, None, "at least 0.5"),
        ({"between": (0.5, 1.5)}, 0.5, 1.5, "0.5 to 1.5"),
        ({"at_most": 1.0}, None, 1.0, "at most 1"),
        ({"at_least": 1.0}, 1.0, None, "at least 1"),
    ],
)
def test_a_claim_that_holds_leaves_its_numbers(published, bound, low, high, words):
    claim("a-claim", 1.0, **bound)
    ((mime, comment),) = published[0].items()
    assert mime == "text/html"
    record = re.fullmatch("<!-- lqrlib-claim (.*) -->", comment)[1]
    assert json.loads(record) == {
        "name": "a-claim",
        "measured": 1.0,
        "low": low,
        "high": high,
        "allowed": words,
    }


def test_a_notebook_shows_the_outcome_in_words(published, monkeypatch):
    monkeypatch.delenv("LQRLIB_STATIC")
    claim("a-claim", 3, at_least=2)
    assert published == [{"text/plain": "a-claim: 3, allowed: at least 2"}]


@pytest.mark.parametrize(
    "bound", [{"at_most": 0.9}, {"at_least": 1.1}, {"between": (2.0, 3.0)}]
)
def test_a_claim_that_does_not_hold_raises_and_leaves_nothing(published, bound):
    with pytest.raises(AssertionError, match=r"a-claim does not hold: measured 1, all"):
        claim("a-claim", 1.0, **bound)
    assert published == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("Big", 1.0, {"at_most": 2.0}), "name"),
        ((3, 1.0, {"at_most": 2.0}), "name"),
        (("a", float("nan"), {"at_most": 2.0}), "measured"),
        (("a", float("inf"), {"at_least": 2.0}), "measured"),
        (("a", [1.0, 2.0], {"at_most": 2.0}), "measured"),
        (("a", "much", {"at_most": 2.0}), "measured"),
        (("a", 1.0, {"at_most": float("nan")}), "at_most"),
        (("a", 1.0, {"between": (2.0, 1.0)}), "between"),
        (("a", 1.0, {}), "at_most, at_least, between"),
        (("a", 1.0, {"at_most": 2.0, "at_least": 0.0}), "at_most, at_least, between"),
    ],
)
def test_what_is_no_claim_is_refused(published, arguments, named):
    *given, bounds = arguments
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        claim(*given, **bounds)
    assert published == []
