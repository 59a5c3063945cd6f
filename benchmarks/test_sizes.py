"""The time of each size of everything that grows, turn by turn."""

import functools

import pytest

from benchmarks.comparison import Run
from benchmarks.sizes import GROWTHS

TURNS = 5


@functools.cache
def ready(name: str, size: int) -> Run:
    """What is timed."""
    return GROWTHS[name].prepare(size)


@pytest.mark.parametrize(
    ("name", "turn", "size"),
    [
        pytest.param(name, turn, size, id=f"{name}-turn{turn}-{size}")
        for name, growth in GROWTHS.items()
        for turn in range(TURNS)
        for size in growth.sizes
    ],
)
def test_size(name: str, turn: int, size: int, benchmark: object) -> None:
    """One measurement at one size."""
    growth = GROWTHS[name]
    benchmark.group = f"size {name}"
    benchmark.extra_info.update(
        work=growth.work, letter=growth.letter, size=size, turn=turn
    )
    benchmark.pedantic(
        ready(name, size), rounds=3, iterations=1, warmup_rounds=int(turn == 0)
    )
