"""Every contender's time, turn by turn, so that what disturbs one disturbs all."""

import functools

import pytest

from benchmarks import gradients, imports, landscapes, rollouts, sweeps
from benchmarks.comparison import Comparison, Run

TURNS = 7
PARTS = (rollouts, landscapes, gradients, sweeps, imports)
COMPARISONS = {name: make for part in PARTS for name, make in part.COMPARISONS.items()}


@functools.lru_cache(maxsize=1)  # one comparison after the other
def ready(name: str) -> tuple[Comparison, dict[str, Run]]:
    """What is timed, compiled and found to agree."""
    comparison = COMPARISONS[name]()
    runs = {who: c.prepare() for who, c in comparison.contenders.items()}
    if comparison.agree:
        comparison.agree(runs)
    return comparison, runs


@pytest.mark.parametrize(
    ("name", "turn", "place"),
    [
        pytest.param(name, turn, place, id=f"{name}-turn{turn}-{place}")
        for name, make in COMPARISONS.items()
        for turn in range(TURNS)
        for place in range(len(make().contenders))
    ],
)
def test_speed(name: str, turn: int, place: int, benchmark: object) -> None:
    """One measurement of one contender."""
    comparison, runs = ready(name)
    who, contender = list(comparison.contenders.items())[place]
    benchmark.group = name
    benchmark.extra_info.update(
        work=comparison.work,
        who=who,
        turn=turn,
        share=contender.share,
        reach=comparison.reach.get(who),
        items=comparison.items,
        unit=comparison.unit,
    )
    benchmark.pedantic(
        runs[who],
        rounds=contender.rounds,
        iterations=contender.repeat,
        warmup_rounds=int(turn == 0),
    )
