"""Blocks of a sweep: run by whoever there is, taken in order, named where one fails."""

import pickle
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from functools import partial
from typing import Any

Progress = Callable[[int, int], None]


class Failure:
    """Why a block has no result.

    It is returned, not raised: an exception that does not survive a pickle would break
    the pool, and hide what had happened.

    Parameters
    ----------
    error : Exception
    words : str
        Its name and message.
    lost : bool
        Whether it is the executor's error, not the block's.
    """

    def __init__(self, error: Exception, words: str = "", *, lost: bool = False):
        self.error, self.lost = error, lost
        self.words = words or f"{type(error).__name__}: {error}"

    def __reduce__(self) -> tuple[Any, ...]:
        """For a pickle: the error if it comes back as it was, or else its words."""
        told = "".join(traceback.format_exception(self.error))
        error = self.error if _comes_back(self.error) else RuntimeError(self.words)
        return _arrived, (error, self.words, told)

    def named(self, block: str, left: int) -> Exception:
        """The error to raise: a plain ValueError, as of bad settings, remains one.

        Parameters
        ----------
        block : str
        left : int
            How many blocks have no result.

        Returns
        -------
        Exception
        """
        if self.lost:
            place = f"the block {block} has no result, as the first of {left}"
            return RuntimeError(f"{place}: {self.words}")
        if type(self.error) is ValueError:
            return ValueError(f"{self.error}, in the block {block}")
        return RuntimeError(f"the block {block} failed: {self.words}")


def _comes_back(error: Exception) -> bool:
    try:
        back = pickle.loads(pickle.dumps(error))  # noqa: S301 (just written)
        return repr(back) == repr(error)
    except Exception:
        return False


def _arrived(error: Exception, words: str, told: str) -> Failure:
    error.add_note(f"Raised by the worker:\n{told}")  # a pickle drops the traceback
    return Failure(error, words)


def in_order(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    names: Sequence[str],
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Any]:
    """The result of each job, in their order.

    Parameters
    ----------
    function : callable
        Of one job; where the executor has processes, a function of a module.
    jobs, names : sequence
        What is run, and what it is called where it fails.
    executor : concurrent.futures.Executor, optional
        Only its ``submit`` is used, and ``cancel`` and ``result`` of the futures.
    progress : callable, optional
        Called with (jobs done, jobs in all).

    Returns
    -------
    list

    Raises
    ------
    RuntimeError
        If a job fails, or the executor loses it, with its name; the first in their
        order, whoever runs them. Chained to the error that was its reason.
    ValueError
        If that reason is a ValueError: its message, and the name.
    """
    found: list[Any] = []
    # Dask knows a task by its arguments, and may still hold an earlier failure.
    attempt = partial(_attempt, function, uuid.uuid4().hex)
    with closing(_outcomes(attempt, jobs, executor)) as outcomes:
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, Failure):
                raise outcome.named(name, len(jobs) - len(found)) from outcome.error
            found.append(outcome)
            if progress is not None:
                progress(len(found), len(jobs))
    return found


def _attempt(function: Callable[[Any], Any], _call: str, job: Any) -> Any:
    try:
        return function(job)
    except Exception as error:
        return Failure(error)


def _outcomes(
    attempt: Callable[[Any], Any], jobs: Sequence[Any], executor: Executor | None
) -> Generator[Any, None, None]:
    """A result or a failure for each job; those not needed any more are cancelled."""
    if executor is None:
        yield from map(attempt, jobs)
        return
    waiting: deque[Future[Any]] = deque()
    try:
        for job in jobs:
            waiting.append(_submitted(executor, attempt, job))
        while waiting:
            yield _brought(waiting[0])
            waiting.popleft()
    finally:  # from behind, so that no worker takes up the next one in the meantime
        while waiting:
            waiting.pop().cancel()


def _submitted(
    executor: Executor, attempt: Callable[[Any], Any], job: Any
) -> Future[Any]:
    try:
        return executor.submit(attempt, job)
    except Exception as error:  # of a pool that broke while it was being filled
        refused: Future[Any] = Future()
        refused.set_exception(error)
        return refused


def _brought(future: Future[Any]) -> Any:
    try:
        return future.result()
    except Exception as error:
        return Failure(error, lost=True)
