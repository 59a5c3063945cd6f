"""What a query of a policy costs: many trajectories, each with a gain of its own.

Trajectory i follows K_t, and some K_t + Δ_i. All of them share the product with K_t;
what its own Δ_i adds is a sum over few entries. Trajectories are last in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.rollout import draw_starts, stage_matrix

_BLOCK = 10_000  # numbers in one draw of noise, where a step needs fewer


class Perturbation(NamedTuple):
    """Which trajectories leave K_t at one step, and by how much.

    Parameters
    ----------
    where : slice
        Of the trajectories; M of them.
    change : array, shape [..., m, n, M]
        Δ, added to the gain.
    """

    where: slice
    change: Array


class Queries(NamedTuple):
    """What is asked: gains at a distance from K, once or on both sides.

    Parameters
    ----------
    U : array, shape [..., m, n, M]
        Directions on the unit sphere of the entries of a gain.
    radius : float
    n_trajectories : int
        M, or 2M for pairs.
    two_point : bool
    """

    U: Array
    radius: float
    n_trajectories: int
    two_point: bool

    @classmethod
    def draw(
        cls,
        shape: tuple[int, ...],
        radius: float,
        n_trajectories: int,
        rng: np.random.Generator,
        two_point: bool,
    ) -> "Queries":
        """Check the arguments, and draw directions for gains of a shape.

        Parameters
        ----------
        shape : tuple of int
            [..., m, n].
        radius : float
        n_trajectories : int
        rng : numpy.random.Generator
        two_point : bool

        Returns
        -------
        Queries

        Raises
        ------
        ValueError
            If radius is not above 0, a count not whole, or odd for pairs, or rng no
            generator.
        """
        radius = _validate.above_zero("radius", radius)
        two_point = _validate.flag("two_point", two_point)
        count = _validate.count("n_trajectories", n_trajectories)
        if two_point and count % 2:
            raise _validate.error("n_trajectories", "an even number for pairs", count)
        rng = _validate.generator("rng", rng)
        normals = rng.standard_normal((*shape, count // 2 if two_point else count))
        length = np.sqrt(np.square(normals).sum(axis=(-3, -2), keepdims=True))
        return cls(normals / length, radius, count, two_point)

    def starts(self, lqr: LQR, x0: ArrayLike | None, rng: np.random.Generator) -> Array:
        """A start for each direction: given, or drawn from N(0, X0).

        Parameters
        ----------
        lqr : LQR
        x0 : array, shape [..., M, n], or None
        rng : numpy.random.Generator

        Returns
        -------
        array, shape [..., M, n]

        Raises
        ------
        ValueError
            If x0 has a wrong shape or entry.
        """
        lead, M = self.U.shape[:-3], self.U.shape[-1]
        if x0 is None:
            return draw_starts(lqr, M, rng, lead)
        given = _validate.view("x0", x0, (M, lqr.n), lead)
        if np.broadcast_shapes(given.shape[:-2], lead) != lead:
            raise _validate.error("x0", f"leading axes {lead}", given.shape[:-2])
        return np.broadcast_to(given, (*lead, M, lqr.n))

    def signed(self) -> Array:
        """The perturbations, [S, ..., m, n, M] with S = 2 for pairs."""
        signs = np.array([1.0, -1.0] if self.two_point else [1.0])
        return np.multiply.outer(self.radius * signs, self.U)

    def terms(self, costs: Array) -> Array:
        """(D/r) c U, or (D/2r) (c₊ − c₋) U, of each direction.

        Parameters
        ----------
        costs : array, shape [S, ..., M]

        Returns
        -------
        array, shape [..., m, n, M]
        """
        change = 0.5 * (costs[0] - costs[1]) if self.two_point else costs[0]
        entries = self.U.shape[-3] * self.U.shape[-2]
        return entries / self.radius * change[..., None, None, :] * self.U


def pushes(
    lqr: LQR, starts: Array, horizon: int, rng: np.random.Generator
) -> Iterator[Array]:
    """The world's noise at each step, drawn for all trajectories.

    Parameters
    ----------
    lqr : LQR
    starts : array, shape [..., N, n]
    horizon : int
        T.
    rng : numpy.random.Generator

    Yields
    ------
    array, shape [..., n, N]
    """
    root, shape = _steps.root(lqr.W), starts.mT.shape
    many = max(1, _BLOCK // starts.size)  # the same numbers, in fewer draws
    for t in range(0, horizon, many):
        yield from root @ rng.standard_normal((min(many, horizon - t), *shape))


@np.errstate(over="ignore", invalid="ignore")
def costs(
    lqr: LQR,
    K: Array,
    perturbed: Callable[[int], Perturbation],
    terminal: Array,
    starts: Array,
    noise: Iterable[Array],
) -> Array:
    """Σ_{t<T} γᵗ(x'Qx + u'Ru) + γᵀ x_T'Q_T x_T of each trajectory, by simulating it.

    Entries of the first axis of the result differ in their perturbation only.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [T, ..., m, n]
        Its leading axes after T are those of ``starts``.
    perturbed : callable
        Step t → the `Perturbation` there, with leading axes [S, ...].
    terminal : array, shape [n, n]
        Q_T.
    starts : array, shape [..., N, n]
    noise : iterable of array, shape [..., n, N]
        Of each step, as from `pushes`.

    Returns
    -------
    array, shape [S, ..., N]
        inf, never nan or -inf, where a trajectory left the floats.
    """
    n, width, N = lqr.n, lqr.n + lqr.m, starts.shape[-2]
    # One product gives the terms of the stage cost, and where the state moves.
    law = np.concatenate([stage_matrix(lqr), np.hstack([lqr.A, lqr.B])])
    z = np.empty((*perturbed(0).change.shape[:-3], width, N))
    x, u = z[..., :n, :], z[..., n:, :]
    x[...], total, discount = starts.mT, np.zeros((*z.shape[:-2], N)), 1.0
    for t, (gain, push) in enumerate(zip(K, noise, strict=True)):
        where, change = perturbed(t)
        np.matmul(gain, x, out=u)
        u[..., where] += np.einsum("...mni,...ni->...mi", change, x[..., where])
        after = law @ z
        total += discount * np.einsum("...ki,...ki->...i", after[..., :width, :], z)
        np.add(after[..., width:, :], push, out=x)
        discount *= lqr.gamma
    total += discount * (x * (terminal @ x)).sum(axis=-2)
    return np.where(np.isfinite(total), total, np.inf)
