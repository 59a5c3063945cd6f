"""Moments of quadratic forms in a Gaussian vector, against quadrature."""

import itertools

import numpy as np
import pytest
from systems import close, spd

from lqrlib._forms import RUNNING, Form, Law

SIZE, LAST = 3, 2  # of z, and how many of its last coordinates are y
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)  # exact up to degree 17
H = np.eye(SIZE)[-LAST:]


def symmetric(rng, size):
    M = rng.standard_normal((size, size))
    return M + M.T


class Dense:
    """The law of all of z, and what a Law knows of it."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.C, self.S = spd(SIZE, rng), symmetric(rng, SIZE)
        self.forms = [
            Form(symmetric(rng, LAST), np.asarray(rng.standard_normal()))
            for _ in range(4)
        ]

    @property
    def law(self):
        C, S = self.C, self.S
        links = tuple(H @ M @ H.T for M in (C, C @ S @ C, C @ S @ C @ S @ C))
        return Law(links, (np.trace(S @ C), np.trace(S @ C @ S @ C)))

    def mean(self, *functions):
        grid = np.array(list(itertools.product(POINTS, repeat=SIZE)))
        weights = np.prod(list(itertools.product(WEIGHTS, repeat=SIZE)), axis=1)
        z = grid @ np.linalg.cholesky(self.C).T
        values = np.prod([f(z) for f in functions], axis=0)
        return weights @ values / weights.sum()

    def of(self, form):
        if form is RUNNING:
            return lambda z: np.einsum("ai,ij,aj->a", z, self.S, z)
        M = H.T @ form.matrix @ H
        return lambda z: np.einsum("ai,ij,aj->a", z, M, z) + form.const


def agree(dense, law):
    for count in range(1, 5):
        forms = dense.forms[:count]
        close(law.moment(*forms), dense.mean(*map(dense.of, forms)), rtol=1e-9)
    for words in ((RUNNING,), (RUNNING, RUNNING)):
        for count in range(3):
            forms = (*words, *dense.forms[:count])
            close(law.moment(*forms), dense.mean(*map(dense.of, forms)), rtol=1e-9)
    # In any order, and twice the same.
    mixed = dense.forms[0], RUNNING, dense.forms[1], RUNNING
    close(law.moment(*mixed), dense.mean(*map(dense.of, mixed)), rtol=1e-9)
    square = dense.forms[0], dense.forms[0], RUNNING
    close(law.moment(*square), dense.mean(*map(dense.of, square)), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_moments_of_products_agree_with_quadrature(seed):
    dense = Dense(seed)
    agree(dense, dense.law)


def test_a_zero_form_makes_a_zero_moment():
    dense = Dense(0)
    assert dense.law.moment(dense.forms[0], None) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_density_of_the_last_coordinates_changes_the_whole_law(seed):
    dense = Dense(seed)
    law, G = dense.law, H @ dense.C @ H.T
    M = 0.2 * dense.forms[0].matrix / np.linalg.norm(dense.forms[0].matrix @ G)
    dense.C = np.linalg.inv(np.linalg.inv(dense.C) - 2.0 * H.T @ M @ H)
    agree(dense, law.tilted(M))


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_grows_by_a_form_in_the_last_coordinates(seed):
    dense = Dense(seed)
    law, M = dense.law, dense.forms[0].matrix
    dense.S = dense.S + H.T @ M @ H
    agree(dense, law.grown(M))


def test_a_linear_map_with_noise_moves_the_links():
    dense, rng = Dense(0), np.random.default_rng(5)
    F, N = rng.standard_normal((LAST, LAST)), spd(LAST, rng)
    law = dense.law.mapped(F, N)
    G, A, B = dense.law.links
    close(law.links[0], F @ G @ F.T + N)
    close(law.links[1], F @ A @ F.T)
    close(law.links[2], F @ B @ F.T)
    assert law.loops == dense.law.loops


def test_the_last_coordinates_keep_their_blocks():
    law = Dense(0).law.last(1)
    assert [link.shape for link in law.links] == [(1, 1)] * 3
    close(law.links[0], Dense(0).C[-1:, -1:])


def test_the_mean_of_a_form_after_a_step_is_a_form():
    rng = np.random.default_rng(2)
    form = Form(symmetric(rng, 2), np.asarray(0.3))
    G, N, x = rng.standard_normal((2, 3)), spd(2, rng), rng.standard_normal(3)
    after = form.of(G, N)
    by_hand = x @ G.T @ form.matrix @ G @ x + np.trace(form.matrix @ N) + 0.3
    close(x @ after.matrix @ x + after.const, by_hand)
    total = form + 2.0 * form - form
    close(total.matrix, 2.0 * form.matrix)
    close(total.const, 0.6)
