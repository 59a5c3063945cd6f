"""One call for many gains equals a loop, for every public function."""

import numpy as np
import pytest
from systems import close, discounted_source, plain_world, spd

from lqrlib import exact


def evaluated_error(lqr, K, cov=0.0):
    return exact.evaluate(lqr, K, cov).E


def evaluated_values(lqr, K, cov=0.0):
    return exact.evaluate(lqr, K, cov).P


LQR_3_2 = plain_world()
GAIN_ONLY = {
    exact.is_stable: (),
    exact.value_matrix: (3, 3),
    exact.q_matrix: (5, 5),
    exact.gain_error: (2, 3),
    exact.natural_gradient: (2, 3),
    exact.gauss_newton: (2, 3),
}
WITH_COV = {
    exact.cost: (),
    exact.gradient: (2, 3),
    exact.state_moment: (3, 3),
    exact.average_cost: (),
    evaluated_error: (2, 3),
    evaluated_values: (3, 3),
}


def gains(lead):
    """Gains around 0; in a batch, every second one is unstable."""
    K = 0.3 * np.random.default_rng(2).standard_normal((*lead, 2, 3))
    K.reshape(-1, 2, 3)[1::2] += 9.0
    return K


def covariances(lead):
    rng = np.random.default_rng(3)
    return np.array([spd(2, rng) for _ in np.ndindex(lead)]).reshape(*lead, 2, 2)


def loop(function, K, *cov):
    """The function applied to one gain (and covariance) at a time."""
    lead = np.broadcast_shapes(K.shape[:-2], *(c.shape[:-2] for c in cov))
    K, *cov = (np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in (K, *cov))
    flat = [function(LQR_3_2, K[i], *(c[i] for c in cov)) for i in np.ndindex(lead)]
    return np.reshape(flat, (*lead, *np.shape(flat[0])))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("function", [*GAIN_ONLY, *WITH_COV])
def test_many_gains_equal_a_loop(function, lead):
    K = gains(lead)
    together = function(LQR_3_2, K)
    assert together.shape == (*lead, *(GAIN_ONLY | WITH_COV)[function])
    close(together, loop(function, K), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
def test_the_batches_hold_stable_and_unstable_gains(lead):
    stable = exact.is_stable(LQR_3_2, gains(lead))
    assert stable.any()
    assert not stable.all()
    J = exact.cost(LQR_3_2, gains(lead))
    np.testing.assert_array_equal(np.isfinite(J), stable)
    np.testing.assert_array_equal(
        np.isnan(exact.gradient(LQR_3_2, gains(lead))).all(axis=(-2, -1)), ~stable
    )


@pytest.mark.parametrize(
    ("gain_lead", "cov_lead"),
    [((), (4,)), ((5,), (5,)), ((5, 1), (3,)), ((2, 3), (2, 1)), ((4,), ())],
    ids=str,
)
@pytest.mark.parametrize(
    "function", [exact.cost, exact.gradient, exact.state_moment, exact.average_cost]
)
def test_many_covariances_equal_a_loop(function, gain_lead, cov_lead):
    K, cov = gains(gain_lead), covariances(cov_lead)
    together = function(LQR_3_2, K, cov)
    lead = np.broadcast_shapes(gain_lead, cov_lead)
    assert together.shape == (*lead, *WITH_COV[function])
    close(together, loop(function, K, cov), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)], ids=str)
def test_the_source_of_many_covariances_equals_a_loop(lead):
    cov = covariances(lead)
    together = exact.moment_source(LQR_3_2, cov)
    assert together.shape == (*lead, 3, 3)
    for i in np.ndindex(lead):
        close(together[i], discounted_source(LQR_3_2, cov[i]), rtol=1e-13)


def test_every_public_function_of_a_gain_is_in_the_tables():
    public = {
        name
        for name, value in vars(exact).items()
        if callable(value) and getattr(value, "__module__", "") == exact.__name__
        if not name.startswith("_") and not isinstance(value, type)
    }
    covered = {function.__name__ for function in (*GAIN_ONLY, *WITH_COV)}
    assert public - covered == {"evaluate", "optimal_gain", "moment_source"}


def test_closed_loop_broadcasts():
    K = gains((2, 3))
    together = LQR_3_2.closed_loop(K)
    assert together.shape == (2, 3, 3, 3)
    close(together[1, 2], LQR_3_2.closed_loop(K[1, 2]), rtol=1e-15)
