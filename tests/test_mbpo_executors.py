"""Whoever runs the blocks of a sweep: the same bits, and the same errors by name."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback

import dask
import distributed
import numpy as np
import pytest
from conftest import ROOT
from systems import FIRST_GAIN

from lqrlib import MBPOSettings, worlds
from lqrlib.mbpo import EXPRESSIONS, sweep

MAIN = worlds.double_integrator()
AXES = {"cov": [0.1, 1.0], "n_trajectories": [5, 12], "real_ratio": [0.0, 1.0]}
BAD = 10**15  # trajectories: no machine has the memory for them


def small(expression="dpg", **changes):
    """Settings that take milliseconds."""
    sizes = {"n_trajectories": 12, "horizon": 10, "updates": 4}
    start = {"K0": FIRST_GAIN, "expression": expression}
    return MBPOSettings(**(start | sizes | changes))


def assert_same(one, other):
    """Every field of two histories, bit for bit."""
    for field in dataclasses.fields(one):
        here, there = (np.asarray(getattr(x, field.name)) for x in (one, other))
        assert here.dtype == there.dtype, field.name
        assert here.shape == there.shape, field.name
        assert here.tobytes() == there.tobytes(), field.name


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two processes on this machine; a lost block is not retried."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(**options, dashboard_address=None) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def dask_executor(cluster):
    with distributed.Client(cluster) as client:
        yield client.get_executor()


def processes(workers, method="forkserver"):
    context = multiprocessing.get_context(method)
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)


@pytest.fixture(
    scope="module",
    params=["serial", "threads", "1 process", "2 fresh", "3 processes", "dask"],
)
def executor(request):
    """None, and every kind of executor; no failed block spoils it for the next one."""
    kind = request.param
    if kind == "serial":
        yield None
    elif kind == "dask":
        yield request.getfixturevalue("dask_executor")
    elif kind == "threads":
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield pool
    else:
        workers, method = int(kind[0]), "spawn" if "fresh" in kind else "forkserver"
        with processes(workers, method) as pool:
            yield pool


# The same bits.


def test_who_runs_the_blocks_changes_no_bit(executor):
    axes = AXES | {"expression": EXPRESSIONS}
    counts = []
    there = sweep(
        MAIN,
        small(),
        axes,
        [3, 1],
        executor=executor,
        progress=lambda *count: counts.append(count),
    )
    assert_same(sweep(MAIN, small(), axes, [3, 1]).history, there.history)
    assert counts == [(done, 16) for done in range(1, 17)]
    assert there.seeds == (3, 1)
    assert list(there.axes) == list(axes)


def test_seeds_in_another_order_or_alone_are_the_same(executor):
    settings = small(members=3, collections=2, branch_length=5)
    first = sweep(MAIN, settings, AXES, [1, 2, 7, 2]).history
    again = sweep(MAIN, settings, AXES, [2, 7, 1], executor=executor).history
    alone = sweep(MAIN, settings, AXES, [7], executor=executor).history
    assert first.cost.shape[-1] == 4
    for seed, place in ((1, (0, 2)), (2, (1, 0)), (2, (3, 0)), (7, (2, 1))):
        here, there = place
        assert (first.cost[..., here] == again.cost[..., there]).all(), seed
    np.testing.assert_array_equal(first.K[..., 2, :, :], alone.K[..., 0, :, :])


# The lines of the page.

PAGE = ROOT / "book" / "beyond_one_machine.md"
SETTING = """\
from lqrlib import MBPOSettings, mbpo, worlds

lqr, axes, seeds = worlds.double_integrator(), {"cov": [0.1, 1.0]}, [4, 2]
settings = MBPOSettings([[-1.0, -1.0]], updates=2, horizon=5)
"""


def lines_of_the_page(word):
    """The code block of the page that is shown and not run there."""
    shown = re.findall("```{code-block} python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [code for code in shown if word in code]
    return block


def expected():
    names = {}
    exec(f"{SETTING}found = mbpo.sweep(lqr, settings, axes, seeds)", names)
    return names["found"].history


def test_the_lines_of_the_page_for_a_process_pool(tmp_path):
    end = "    import pickle, sys\n    pickle.dump(found.history, sys.stdout.buffer)\n"
    script = tmp_path / "script.py"
    script.write_text(f"{SETTING}\n{lines_of_the_page('ProcessPool')}\n{end}")
    run = subprocess.run([sys.executable, script], capture_output=True, check=True)
    assert_same(expected(), pickle.loads(run.stdout))


def test_the_lines_of_the_page_for_a_dask_cluster(cluster):
    block = lines_of_the_page("dask")
    address = re.search("tcp://[a-z:0-9]+", block)[0]
    names = {}
    exec(SETTING + block.replace(address, cluster.scheduler_address), names)
    assert_same(expected(), names["found"].history)


# The same errors.


class RefusedError(Exception):
    """Breaks a pool where it arrives: it cannot be made from what a pickle keeps."""

    def __init__(self, where, why):
        super().__init__(f"{where}: {why}")


class TwiceError(Exception):
    """Comes back from a pickle with other words."""

    def __init__(self, why):
        super().__init__(f"twice {why}")


class LocalError(Exception):
    """Holds what no pickle takes."""

    def __init__(self, why):
        super().__init__(why)
        self.lock = threading.Lock()


RAISED = {
    "words": lambda: ArithmeticError("out of digits"),
    "two arguments": lambda: RefusedError("here", "no reason"),
    "other words": lambda: TwiceError("over"),
    "a lock": lambda: LocalError("locked"),
}


class Fragile(float):
    """A number that raises when it multiplies; to Dask, as any other .5."""

    __array_ufunc__ = None  # NumPy leaves the product to this class then

    def __new__(cls, kind):
        number = super().__new__(cls, 0.5)
        number.kind = kind
        return number

    def __reduce__(self):
        return Fragile, (self.kind,)

    def __mul__(self, other):
        raise RAISED[self.kind]()

    __rmul__ = __mul__


class Deadly(float):
    """A number that ends every process but the one where it was made."""

    def __reduce__(self):
        return arrive, (os.getpid(), float(self))


def arrive(home, value):
    if os.getpid() != home:
        os._exit(1)
    return Deadly(value)


@pytest.mark.parametrize("kind", RAISED)
def test_a_block_that_fails_is_named_and_keeps_its_reason(executor, kind):
    axes = {"damping": [0.25, Fragile(kind)], "cov": [1.0, 2.0]}
    counts = []
    with pytest.raises(RuntimeError) as caught:
        sweep(
            MAIN,
            small(),
            axes,
            [4, 9],
            executor=executor,
            progress=lambda *count: counts.append(count),
        )
    error = RAISED[kind]()
    words = f"{type(error).__name__}: {error}"
    assert str(caught.value) == f"the block damping=0.5, seed=4 failed: {words}"
    reason = caught.value.__cause__
    comes_back = kind == "words" or not distant(executor)
    assert type(reason) is (type(error) if comes_back else RuntimeError)
    assert str(reason) == (str(error) if comes_back else words)
    assert counts == [(1, 4), (2, 4)]


def distant(executor):
    threads = concurrent.futures.ThreadPoolExecutor
    return executor is not None and not isinstance(executor, threads)


def test_the_worker_tells_where_a_block_has_failed(executor):
    axes = {"damping": [Fragile("words")]}
    with pytest.raises(RuntimeError) as caught:
        sweep(MAIN, small(), axes, [0], executor=executor)
    reason = caught.value.__cause__
    if distant(executor):
        (note,) = reason.__notes__
        assert "in __mul__" in note
        assert "in _run" in note
    else:
        names = {frame.name for frame in traceback.extract_tb(reason.__traceback__)}
        assert {"__mul__", "_run"} <= names


def test_a_block_without_memory_is_named(executor):
    axes = {"expression": ["model"], "n_trajectories": [5, BAD]}
    where = f"the block expression=model, n_trajectories={BAD}, seed=3 failed: "
    with pytest.raises(RuntimeError, match=f"^{where}MemoryError: Unable to") as caught:
        sweep(MAIN, small(), axes, [3], executor=executor)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_settings_that_do_not_fit_stay_a_value_error(executor):
    wrong = small(K0=[[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"^K0: expected .+, found .+") as caught:
        sweep(MAIN, wrong, {"n_trajectories": [7, 5]}, [3, 2], executor=executor)
    assert str(caught.value).endswith("in the block n_trajectories=7, seed=3")
    assert type(caught.value.__cause__) is ValueError


def test_values_of_axes_that_do_not_go_together_are_named():
    axes = {"expression": ["dpg", "hack"], "branch_length": [5, 10]}
    with pytest.raises(ValueError, match=r"^branch_length: expected 10 .+") as caught:
        sweep(MAIN, small(), axes, [0])
    assert str(caught.value).endswith("in the block expression=hack, branch_length=5")


class Watched(concurrent.futures.ThreadPoolExecutor):
    """A pool that remembers its futures."""

    def __init__(self, workers):
        super().__init__(workers)
        self.futures = []

    def submit(self, *call):
        self.futures.append(super().submit(*call))
        return self.futures[-1]


def told_to_stop(done, of):
    raise InterruptedError("enough")


@pytest.mark.parametrize(
    ("damping", "progress", "error"),
    [(Fragile("words"), None, RuntimeError), (0.25, told_to_stop, InterruptedError)],
    ids=["a block fails", "progress fails"],
)
def test_what_has_not_begun_is_cancelled(damping, progress, error):
    axes, seeds = {"damping": [damping]}, range(200)
    with Watched(1) as pool:
        with pytest.raises(error):
            sweep(MAIN, small(), axes, seeds, executor=pool, progress=progress)
        assert len(pool.futures) == 200
        assert all(future.done() or future.running() for future in pool.futures)
        assert sum(future.cancelled() for future in pool.futures) > 100
        assert pool.futures[-1].cancelled()


def test_a_pool_that_is_closed_or_broken_is_said_with_the_first_block():
    pool = processes(1)
    with pytest.raises(RuntimeError):
        sweep(MAIN, small(damping=Deadly(0.5)), {}, [5], executor=pool)
    with pytest.raises(RuntimeError, match=r"^the block seed=6 .+ of 2: BrokenProcess"):
        sweep(MAIN, small(), {}, [6, 7], executor=pool)
    closed = concurrent.futures.ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(RuntimeError, match=r"^the block seed=6 .+after shutdown"):
        sweep(MAIN, small(), {}, [6, 7], executor=closed)


def test_what_is_no_executor_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^executor: expected Executor, found int"):
        sweep(MAIN, small(), {}, [0], executor=4)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_named(workers, method):
    axes = {"damping": [Deadly(0.25)], "n_trajectories": [5, 12]}
    with processes(workers, method) as pool, pytest.raises(RuntimeError) as caught:
        sweep(MAIN, small(), axes, [8, 9], executor=pool)
    first = "the block damping=0.25, n_trajectories=5, seed=8 has no result"
    assert str(caught.value).startswith(
        f"{first}, as the first of 4: BrokenProcessPool"
    )
    broken = concurrent.futures.process.BrokenProcessPool
    assert isinstance(caught.value.__cause__, broken)


def test_a_worker_that_dies_late_leaves_what_was_done_before():
    axes = {"damping": [0.25, Deadly(0.5)], "cov": [1.0]}
    counts = []
    with processes(1) as pool, pytest.raises(RuntimeError) as caught:
        sweep(
            MAIN,
            small(),
            axes,
            [8, 9, 10, 11],
            executor=pool,
            progress=lambda *count: counts.append(count),
        )
    # The pool takes a block from the queue before it has sent the one before it.
    left = 8 - len(counts)
    assert counts[-1:] == [(8 - left, 8)] * bool(counts)
    assert f"as the first of {left}: BrokenProcessPool" in str(caught.value)


def test_a_dask_worker_that_dies_is_named(dask_executor):
    axes = {"damping": [0.25, Deadly(0.5)]}
    with pytest.raises(RuntimeError) as caught:
        sweep(MAIN, small(), axes, [8], executor=dask_executor)
    first = "the block damping=0.5, seed=8 has no result, as the first of 1: Killed"
    assert str(caught.value).startswith(first)
    here = sweep(MAIN, small(), AXES, [1])
    there = sweep(MAIN, small(), AXES, [1], executor=dask_executor)
    assert_same(here.history, there.history)  # by the worker that took its place
