"""Moments of products of quadratic forms in Gaussian vectors, exactly.

For z ~ N(0, C) and q_i = z'M_i z + c_i the joint cumulants are traces around a circle:
κ(q_1, …, q_k) = 2^(k−1) Σ tr(M_1 C M_σ2 C ⋯ M_σk C) over the orders σ of the others,
plus c_1 if k = 1. Moments follow as sums over partitions.

Here z is a trajectory up to now, and most forms look at its last step y = Hz only. One
does not, a running sum S of forms in past steps. Circles with S in them need HCM_SCH'
and HCM_SCM_SCH' beside HCH', which a recursion carries along.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from lqrlib._validate import Array


@dataclass(frozen=True)
class Form:
    """y'My + c.

    Parameters
    ----------
    matrix : array, shape [..., d, d], symmetric
    const : array, shape [...]
    """

    matrix: Array
    const: Array

    def __add__(self, other: "Form") -> "Form":
        return Form(self.matrix + other.matrix, self.const + other.const)

    def __sub__(self, other: "Form") -> "Form":
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> "Form":
        return Form(factor * self.matrix, factor * self.const)

    def of(self, G: Array, N: Array) -> "Form":
        """The mean of the form at y = Gx + ε with ε ~ N(0, N), as a form in x.

        Parameters
        ----------
        G : array, shape [..., d, n]
        N : array, shape [..., d, d]

        Returns
        -------
        Form
        """
        M = self.matrix
        return Form(G.mT @ M @ G, self.const + np.einsum("...ij,...ij->...", M, N))


RUNNING = Form(np.zeros((0, 0)), np.zeros(()))  # the mark of S among the forms


class Law(NamedTuple):
    """What is known of y = Hz and of the running sum S = z'M_S z under N(0, C).

    Parameters
    ----------
    links : tuple of array, shape [..., d, d]
        HCH', HCM_SCH' and HCM_SCM_SCH'.
    loops : tuple of array, shape [...]
        tr(M_SC) and tr(M_SCM_SC).
    """

    links: tuple[Array, Array, Array]
    loops: tuple[Array, Array]

    def tilted(self, M: Array) -> "Law":
        """Under the density exp(y'My) times the old one: C grows by CH'DHC.

        Parameters
        ----------
        M : array, shape [..., d, d]
            With I − 2 M HCH' invertible; then D = 2 (I − 2 M HCH')⁻¹ M.

        Returns
        -------
        Law
        """
        G, A, B = self.links
        eye = np.eye(G.shape[-1])
        D = 2.0 * np.linalg.solve(eye - 2.0 * M @ G, M)
        left = eye + G @ D
        links = (
            left @ G,
            left @ A @ left.mT,
            left @ (B + A @ D @ A) @ left.mT,
        )
        first = self.loops[0] + _trace(D, A)
        second = self.loops[1] + 2.0 * _trace(D, B) + _trace(D @ A, D @ A)
        return Law(links, (first, second))

    def mapped(self, F: Array, N: Array) -> "Law":
        """Of Fy + ε with ε ~ N(0, N) independent of z.

        Parameters
        ----------
        F : array, shape [..., e, d]
        N : array, shape [..., e, e]

        Returns
        -------
        Law
        """
        G, A, B = (F @ link @ F.mT for link in self.links)
        return Law((G + N, A, B), self.loops)

    def last(self, size: int) -> "Law":
        """Of the last coordinates of y alone.

        Parameters
        ----------
        size : int

        Returns
        -------
        Law
        """
        G, A, B = (link[..., -size:, -size:] for link in self.links)
        return Law((G, A, B), self.loops)

    def grown(self, M: Array) -> "Law":
        """With S + y'My in the place of S.

        Parameters
        ----------
        M : array, shape [..., d, d]

        Returns
        -------
        Law
        """
        G, A, B = self.links
        GMG = G @ M @ G
        AMG = A @ M @ G
        first = self.loops[0] + _trace(M, G)
        second = self.loops[1] + 2.0 * _trace(M, A) + _trace(M, GMG)
        return Law((G, A + GMG, B + AMG + AMG.mT + GMG @ M @ G), (first, second))

    def moment(self, *forms: Form | None) -> Array:
        """E of the product of some forms in y, and of S for `RUNNING`, at most twice.

        Parameters
        ----------
        *forms : Form or None
            None is zero.

        Returns
        -------
        array, shape [...]
        """
        known = [form for form in forms if form is not None]
        if len(known) < len(forms):
            return np.zeros(())
        first, *rest = known
        total: Array = np.zeros(())
        for size in range(len(rest) + 1):
            for chosen in combinations(range(len(rest)), size):
                others = [f for i, f in enumerate(rest) if i not in chosen]
                term = self._cumulant([first, *(rest[i] for i in chosen)])
                total = total + (term * self.moment(*others) if others else term)
        return total

    def _cumulant(self, forms: Sequence[Form]) -> Array:
        first, *rest = forms
        # Either way around a circle the trace is the same.
        orders = [o for o in permutations(range(len(rest))) if o <= o[::-1]]
        circles = [self._circle([first, *(rest[i] for i in o)]) for o in orders]
        ways = 2.0 if len(rest) > 1 else 1.0
        total = np.asarray(ways * 2.0 ** len(rest) * sum(circles))
        return total if rest else np.asarray(total + first.const)

    def _circle(self, forms: Sequence[Form]) -> Array:
        """tr(M_1 C M_2 C ⋯), where an S between two forms makes their link longer."""
        start = next((i for i, form in enumerate(forms) if form is not RUNNING), None)
        if start is None:
            return self.loops[len(forms) - 1]
        first, *around = (*forms[start:], *forms[:start])
        product, passed = first.matrix, 0
        for form in around:
            if form is RUNNING:
                passed += 1
            else:
                product = product @ self.links[passed] @ form.matrix
                passed = 0
        return _trace(product, self.links[passed])


def _trace(M: Array, C: Array) -> Array:
    """tr(MC) for symmetric C or M, or for any pair with one factor transposed."""
    found: Array = np.einsum("...ij,...ji->...", M, C)
    return found
