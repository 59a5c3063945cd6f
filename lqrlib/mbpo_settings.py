"""What MBPO is run with, and how a batch is divided between world and model."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from lqrlib import _pool, _validate

EXPRESSIONS = ("hack", "dpg", "pathwise", "model")  # whose covariance stays as given
SOFT = "soft"
MIXINGS = ("stratified", "bernoulli")


@dataclass(frozen=True)
class MBPOSettings:
    """What MBPO is run with.

    Defaults marked *original* are those of the code of Janner et al. (2019). The others
    are this book's, chosen for the puzzle of its first page.

    Parameters
    ----------
    K0 : array, shape [m, n]
        The gain that collects the first real data, and the first one to be improved.
    expression : str
        ``"hack"``, ``"dpg"``, ``"pathwise"``, ``"model"`` or ``"soft"``. Default: the
        book's recommendation.
    cov : float or array, shape [m, m]
        Covariance Σ of the policies that make the real data and the model's rows, and
        of the weights; a number σ² means σ²I. Of ``"soft"`` the first one only.
        Default: 1, the puzzle's.
    real_ratio : float
        Share of real trajectories in a batch, in [0, 1]. Default: .05, original
        (`examples/config/*/0.py`).
    n_trajectories : int
        N real trajectories in each collection. Default: 100, enough for planning with
        the model (`book/index.md`).
    horizon : int
        T steps of each. Default: 60, for whose cost K* is the best gain to .01 %.
    updates : int
        Number of updates after each collection. Default: 60; steps of the default
        length reach K* in 46.
    collections : int
        How often the current policy collects. Default: once, the notes' sanity check;
        the original collects throughout.
    batch_size : int, optional
        Trajectories in a batch. Default: N, so that with one collection and real rows
        only every batch is the data set. (The original: 256 transitions.)
    branch_length : int, optional
        Steps k of a model rollout, a divisor of T: it starts at a real state drawn
        from all of them. Default: T, from the real initial states, since the hack
        weighs whole trajectories. (The original: 1, rising to 15 or 25 in some tasks.)
    members : int
        Models in the ensemble, of which one is drawn for every sample and step. With 1,
        the default, it is one least-squares fit of all rows. (The original: 7.)
    elites : int, optional
        How many of the members are used, by their error on held-out rows. Default: all
        of them. (The original: 5.)
    mixing : str
        ``"stratified"``: int(B · real_ratio) trajectories of every batch are real;
        default, original. ``"bernoulli"``: all of a batch is, with that probability, as
        in mbrl-lib.
    lag : float
        Of the true actuator, in [0, 1), which nobody knows of (`worlds.with_lag`).
        Default: 0, so that the model can be right.
    step_length : float
        |ΔK| of a step of the hack and of pathwise. Default: .05, one forty-sixth of the
        way to K* in the puzzle.
    damping : float
        Share of the full Gauss–Newton step that ``"dpg"``, ``"soft"`` and ``"model"``
        take. Default: .5, which halves what an error of the critic does.
    temperature : float, optional
        τ of ``"soft"``, above 0; None, the default, for all others. (The original's
        soft actor-critic adapts it.)

    Raises
    ------
    ValueError
        If a setting is out of its range, by name.
    """

    K0: ArrayLike
    expression: str = "dpg"
    cov: ArrayLike = 1.0
    real_ratio: float = 0.05
    n_trajectories: int = 100
    horizon: int = 60
    updates: int = 60
    collections: int = 1
    batch_size: int | None = None
    branch_length: int | None = None
    members: int = 1
    elites: int | None = None
    mixing: str = "stratified"
    lag: float = 0.0
    step_length: float = 0.05
    damping: float = 0.5
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("expression", (*EXPRESSIONS, SOFT)),
            ("mixing", MIXINGS),
        ):
            _validate.choice(name, getattr(self, name), known)
        for name in ("n_trajectories", "horizon", "updates", "collections", "members"):
            _validate.count(name, getattr(self, name))
        for name in ("step_length", "damping"):
            _validate.above_zero(name, getattr(self, name))
        self._check_temperature()
        if not 0.0 <= _validate.number("lag", self.lag) < 1.0:
            raise _validate.error("lag", "a number in [0, 1)", self.lag)
        if self.batch_size is not None:
            _validate.count("batch_size", self.batch_size)
        split_batch(self.sizes.batch_size, self.real_ratio)
        self._check_branches()
        wanted = f"at most {self.members}, the members"
        if self.elites is not None and (
            _validate.count("elites", self.elites) > self.members
        ):
            raise _validate.error("elites", wanted, self.elites)

    def _check_temperature(self) -> None:
        tau, needed = self.temperature, self.expression == SOFT
        if not needed and tau is not None:
            raise _validate.error("temperature", "None unless soft", tau)
        if needed and (tau is None or not _validate.number("temperature", tau) > 0.0):
            raise _validate.error("temperature", "a number above 0 for soft", tau)

    def _check_branches(self) -> None:
        k = self.branch_length
        if k is not None and (_validate.count("branch_length", k), self.horizon % k)[1]:
            raise _validate.error("branch_length", f"a divisor of {self.horizon}", k)
        if self.expression == "hack" and k not in (None, self.horizon):
            wanted = f"{self.horizon} for the hack, which weighs whole trajectories"
            raise _validate.error("branch_length", wanted, k)

    @property
    def sizes(self) -> _pool.Sizes:
        """The sizes, with defaults filled in."""
        return _pool.Sizes(
            self.n_trajectories,
            self.horizon,
            self.batch_size or self.n_trajectories,
            self.branch_length or self.horizon,
            self.members,
            self.elites or self.members,
        )


def split_batch(batch_size: int, real_ratio: float) -> tuple[int, int]:
    """How many rows of a batch are real, and how many are the model's.

    int(batch_size × real_ratio), as in the original: the share is rounded down.

    Parameters
    ----------
    batch_size : int
    real_ratio : float
        In [0, 1].

    Returns
    -------
    n_real, n_model : int

    Raises
    ------
    ValueError
        If ``batch_size`` is no whole number above 0, or ``real_ratio`` not in [0, 1].

    Examples
    --------
    >>> split_batch(256, 0.05)
    (12, 244)

    Notes
    -----
    Janner et al. (2019), `mbpo/algorithms/mbpo.py`, lines 426 and 427.
    """
    size, ratio = _validate.count("batch_size", batch_size), real_ratio
    if not 0.0 <= _validate.number("real_ratio", ratio) <= 1.0:
        raise _validate.error("real_ratio", "a number in [0, 1]", ratio)
    n_real = int(size * ratio)
    return n_real, size - n_real
