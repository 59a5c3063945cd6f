"""From what pytest-benchmark measured to the data file that the book draws.

python -m benchmarks.table measured.json book/records/benchmarks.json
"""

import json
import platform
import statistics
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

NAMED = (
    "numpy",
    "scipy",
    "jax",
    "torch",
    "gymnasium",
    "quantecon",
    "control",
    "pytest-benchmark",
)


def table(measured: dict) -> dict:
    """Medians over turns, and ratios within turns, of all that was measured.

    Parameters
    ----------
    measured : dict
        What ``--benchmark-json`` wrote.

    Returns
    -------
    dict
        ``versions``, ``machine``, ``comparisons`` and ``growths``.
    """
    groups = defaultdict(list)
    for one in measured["benchmarks"]:
        groups[one["group"]].append(one)
    growths = {name for name in groups if name.startswith("size ")}
    return {
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in NAMED},
        "machine": _machine(measured["machine_info"]),
        "comparisons": [
            _comparison(ones) for name, ones in groups.items() if name not in growths
        ],
        "growths": [_growth(groups[name]) for name in groups if name in growths],
    }


def _machine(info: dict) -> str:
    cpu = info.get("cpu", {})
    model = cpu.get("brand_raw", info.get("processor", "unknown processor"))
    return f"{model}, {info['system']}, one processor and one thread for everybody"


def _seconds(one: dict) -> float:
    """Of the whole work, where a part was timed."""
    return one["stats"]["median"] / one["extra_info"].get("share", 1.0)


def _comparison(ones: list[dict]) -> dict:
    times, info = defaultdict(dict), {}
    for one in ones:
        said = one["extra_info"]
        times[said["who"]][said["turn"]] = _seconds(one)
        info[said["who"]] = said
    own, *others = times
    said = info[own]
    return {
        "work": said["work"],
        "seconds": statistics.median(times[own].values()),
        "items": said["items"],
        "unit": said["unit"],
        "peers": [
            {
                "who": who,
                "reach": info[who]["reach"],
                **_ratios([times[who][turn] / times[own][turn] for turn in times[own]]),
            }
            for who in others
        ],
    }


def _ratios(ratios: list[float]) -> dict:
    return {
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def _growth(ones: list[dict]) -> dict:
    times = defaultdict(list)
    for one in ones:
        times[one["extra_info"]["size"]].append(one["stats"]["median"])
    said = ones[0]["extra_info"]
    return {
        "work": said["work"],
        "letter": said["letter"],
        "sizes": list(times),
        "seconds": [statistics.median(turns) for turns in times.values()],
    }


def main(source: str, target: str) -> None:
    """Read, condense, write."""
    found = table(json.loads(Path(source).read_text("utf-8")))
    Path(target).write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
