"""Proven errors on the line: against closed forms, a fine independent rule, and the proof's own premises."""

from itertools import pairwise

import numpy as np
import pytest

from divergences import Gaussian, Mixture, Quadrature, Uniform, alpha_divergence, f_divergence, hellinger, jsd, kl
from divergences.cell_bounds import _ORDERS, _cell_errors
from divergences.cell_parts import read_pair
from divergences.cell_rule import sum_over_cells
from divergences.generators import GENERATORS
from divergences.panel_bounds import OVERFLOW, _integrate, _moved, _panel_errors, _read, log_of_sum
from divergences.panel_forms import form_of
from tests.cases import LINE, NARROW_RING, PLANE, STANDARD, Pair, grid

PROVEN = "Gauss-Legendre quadrature on panels (bound)"
NUMERIC = Quadrature()
LONG = np.longdouble
_NODES, _WEIGHTS = (a.astype(LONG) for a in np.polynomial.legendre.leggauss(10))
# 2⁻⁶³ on x86; where long double is double the oracle is no better than what it checks.
SHARP = float(np.finfo(LONG).eps)


def _draw(rng):
    """Up to ten components, σ ratios to 1000, separations to 50 of the widest or the narrowest σ."""
    k = rng.integers(1, 11)
    sigma = 10.0 ** rng.uniform(-1.5, 1.5, k)
    unit = rng.choice([sigma.max(), np.median(sigma), sigma.min(), 1.0])
    mean = rng.uniform(-0.5, 0.5, k) * 10.0 ** rng.uniform(-1, np.log10(50)) * unit
    weight = rng.dirichlet(np.full(k, rng.choice([0.3, 1, 5]))) + 1e-6
    return Mixture([Gaussian(m, s * s) for m, s in zip(mean, sigma, strict=True)], weight / weight.sum())


def _oracle(p, q):
    """KL both ways and JSD: textbook integrands in long double, 10 nodes on thousands of panels, kinks included."""
    rows = []
    for law in (p, q):
        weights, leaves = law.parts()
        rows.append([(w, leaf.mean[0], leaf.cholesky[0, 0]) for w, leaf in zip(weights, leaves, strict=True)])
    places = [np.array([m for part in rows for _, m, _ in part])]
    steps = np.sinh(np.linspace(0, np.arcsinh(4000), 60)) / 100
    for part in rows:
        for w, m, s in part:
            places.append(m + s * np.concatenate([-steps[::-1], steps]))
            for v, n, t in part:
                # Where two components cross log-densities have kinks.
                for root in _crossings((w, m, s), (v, n, t)):
                    slope = abs((root - m) / s**2 - (root - n) / t**2)
                    grade = np.geomspace(0.2, 500, 40) / max(slope, 1e-300)
                    places.append(root + np.concatenate([-grade[::-1], [0.0], grade]))
    edges = np.unique(np.concatenate(places))
    reach = [(m - 38 * s, m + 38 * s) for part in rows for _, m, s in part]
    edges = edges[(edges >= min(a for a, _ in reach)) & (edges <= max(b for _, b in reach))].astype(LONG)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    x = (middle[:, None] + half[:, None] * _NODES).ravel()
    weight = (half[:, None] * _WEIGHTS).ravel()
    log_p, log_q = (_log_density(part, x) for part in rows)
    log_m = np.logaddexp(log_p, log_q) - np.log(LONG(2))
    p_x, q_x = np.exp(log_p), np.exp(log_q)
    forward, reverse = weight @ (p_x * (log_p - log_q)), weight @ (q_x * (log_q - log_p))
    middle_ground = weight @ (p_x * (log_p - log_m) + q_x * (log_q - log_m)) / 2
    return float(forward), float(reverse), float(middle_ground)


def _crossings(first, second):
    """Real x where two weighted normal densities are equal."""
    (w, m, s), (v, n, t) = first, second
    a, b = (1 / s**2 - 1 / t**2) / 2, -m / s**2 + n / t**2
    c = m**2 / s**2 / 2 - n**2 / t**2 / 2 - np.log(w / v * t / s)
    if a == 0 and b == 0:
        return []
    roots = np.roots([a, b, c]) if abs(a) > 1e-12 * abs(b) else np.array([-c / b])
    return [float(root.real) for root in roots if abs(root.imag) < 1e-12 * abs(root) + 1e-300]


def _log_density(part, x):
    terms = np.stack(
        [
            np.log(LONG(w)) - np.log(LONG(s)) - np.log(2 * LONG(np.pi)) / 2 - ((x - LONG(m)) / LONG(s)) ** 2 / 2
            for w, m, s in part
        ]
    )
    top = terms.max(axis=0)
    return top + np.log(np.exp(terms - top).sum(axis=0))


def _check_draw(seed):
    rng = np.random.default_rng(seed)
    p, q = _draw(rng), _draw(rng)
    truths = _oracle(p, q)
    for estimate, truth in zip((kl(p, q, expect=NUMERIC), kl(q, p, expect=NUMERIC), jsd(p, q)), truths, strict=True):
        assert estimate.method == PROVEN
        assert abs(estimate.value - truth) <= estimate.error
        assert estimate.error <= 1e-9 * max(1.0, abs(truth))


@pytest.mark.parametrize("seed", range(24))
def test_random_mixtures_are_proven_and_right(seed):
    _check_draw(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 500))
def test_many_random_mixtures_are_proven_and_right(seed):
    _check_draw(seed)


def _closed():
    for pair in LINE:
        if all(type(law) in (Gaussian, Uniform, Mixture) for law in (pair.p, pair.q)):
            for name, truth in (("kl", pair.kl), ("reverse", pair.reverse), ("jsd", pair.jsd)):
                if truth is not None and np.isfinite(truth):
                    yield pytest.param(name, pair.p, pair.q, truth, id=f"{pair.name}, {name}")


@pytest.mark.parametrize(("name", "p", "q", "truth"), list(_closed()))
def test_closed_forms_lie_within_the_proven_error(name, p, q, truth):
    # Against the integral, not the closed form that Gaussians would take.
    estimate = {"kl": kl, "reverse": lambda a, b, expect: kl(b, a, expect=expect), "jsd": jsd}[name](
        p, q, expect=NUMERIC
    )
    assert estimate.method == PROVEN
    # The bank's own digits: a unit in the last place of a double.
    assert abs(estimate.value - truth) <= estimate.error + 2e-16 * abs(truth)
    assert estimate.error <= 1e-9 * max(1.0, abs(truth))


FORMS = ["kl", "reverse_kl", "jensen_shannon", "gan", "squared_hellinger"]
MIXED = (
    Mixture([Gaussian(-1.0, 0.09), Uniform(0.0, 2.0), Gaussian(1.2, 1.0)], [0.3, 0.3, 0.4]),
    Mixture([Gaussian(0.5, 0.25), Gaussian(3.0, 1e-4), Uniform(-1.0, 0.5)], [0.5, 0.2, 0.3]),
)


@pytest.mark.parametrize("name", FORMS)
def test_bound_of_each_panel_holds_also_where_it_is_far_from_met(name):
    # Panels with no regard to where the components are: the rule errs visibly, and the bound must say so.
    form = form_of(GENERATORS[name].weighted)
    first, second = (_moved(_read(law), 0.0) for law in MIXED)
    visible, sharp = 0, 0
    for pieces in (1, 2, 5, 12):
        walls = [-6.0, -1.0, 0.0, 0.5, 2.0, 9.0]
        cut = np.unique(np.concatenate([np.linspace(a, b, pieces + 1) for a, b in pairwise(walls)]))
        center, half = (cut[1:] + cut[:-1]) / 2, np.diff(cut) / 2
        bound = _panel_errors(form, first, second, center, half)
        for k in range(len(center)):
            value, _ = _integrate(form, first, second, center[k : k + 1], half[k : k + 1])
            fine = np.linspace(center[k] - half[k], center[k] + half[k], 161)
            truth, allowance = _integrate(form, first, second, (fine[1:] + fine[:-1]) / 2, np.diff(fine) / 2)
            assert abs(value - truth) <= bound[k] + 2 * allowance
            visible += abs(value - truth) > 1e-12
            sharp += bound[k] < 1e-12
    assert visible >= 4
    assert sharp >= 20


def test_every_analytic_divergence_is_proven():
    p, q = MIXED
    for name in FORMS:
        estimate = f_divergence(p, q, name)
        assert estimate.method == PROVEN
        assert estimate.error <= 1e-9
    assert hellinger(p, q).method == alpha_divergence(p, q, order=0.3).method == PROVEN
    # ∫p^½ q^½ is 1 − H² by definition.
    assert alpha_divergence(p, q, order=0.5).agrees(4 * hellinger(p, q).value)
    # The same law in two guises is at distance 0, within what is proven.
    assert kl(Mixture([p, p]), p).agrees(0.0)


def test_far_from_zero_and_in_other_units_nothing_is_lost():
    for shift, scale in ((1e6, 1.0), (-1e9, 1.0), (0.0, 1e-12), (0.0, 1e12), (3e5, 1e-3)):
        estimate = kl(Gaussian(shift, scale**2), Gaussian(shift + 2 * scale, scale**2), expect=NUMERIC)
        assert estimate.method == PROVEN
        # The means themselves are rounded to their last place.
        assert estimate.value == pytest.approx(2.0, abs=1e-13 + 1e-15 * abs(shift) / scale)
        assert estimate.error <= 1e-9


def test_what_is_not_proven_is_called_an_estimate():
    from scipy import stats

    class Stranger:
        dim, support = 1, STANDARD.support
        log_prob, sample = STANDARD.log_prob, STANDARD.sample

    tilted = GENERATORS["kl"]._replace(weighted=lambda d: GENERATORS["kl"].weighted(d))
    estimates = [
        kl(Stranger(), STANDARD),
        kl(stats.cauchy(), stats.cauchy(1, 2)),
        f_divergence(STANDARD, Gaussian(1.0, 1.0), "total_variation"),
        f_divergence(STANDARD, Gaussian(1.0, 1.0), tilted),
        kl(*MIXED, expect=Quadrature(max_nodes=1000)),
    ]
    assert all("(estimate)" in estimate.method for estimate in estimates)


def test_an_infinite_divergence_is_not_proven_away():
    p, q = Mixture([Uniform(0, 1), Gaussian(0.0, 1.0)]), Mixture([Uniform(0, 1), Uniform(2, 3)])
    assert kl(p, q).value == np.inf
    assert jsd(p, q).method == PROVEN
    gap = Mixture([Uniform(0, 1), Uniform(2, 4)])
    assert kl(gap, q).value == np.inf
    assert kl(q, gap).agrees(np.log(2) / 2)


TWISTED = (
    Mixture([Gaussian([0, 0], [[2.0, 0.9], [0.9, 0.6]]), Gaussian([3, -2], [[0.5, -0.3], [-0.3, 1.0]])], [0.3, 0.7]),
    Mixture([Gaussian([1, 1], [[1.0, 0.2], [0.2, 0.5]]), Gaussian([-2, 0], np.eye(2)), Gaussian([2, -3], np.eye(2))]),
)


def _on_a_fine_grid(p, q):
    """The trapezoidal rule, which converges geometrically for what is smooth on its grid: KL both ways, JSD, H²."""
    x, y = (np.linspace(-16, 17, 801) for _ in range(2))
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    log_p, log_q = p.log_prob(points), q.log_prob(points)
    log_m = np.logaddexp(log_p, log_q) - np.log(2)
    p_x, q_x, cell = np.exp(log_p), np.exp(log_q), (x[1] - x[0]) ** 2
    return [
        float((p_x * (log_p - log_q)).sum()) * cell,
        float((q_x * (log_q - log_p)).sum()) * cell,
        float((p_x * (log_p - log_m) + q_x * (log_q - log_m)).sum()) * cell / 2,
        1 - float(np.sqrt(p_x * q_x).sum()) * cell,
    ]


def test_plane_agrees_with_a_fine_grid():
    p, q = TWISTED
    estimates = [kl(p, q), kl(q, p), jsd(p, q), hellinger(p, q)]
    for estimate, truth in zip(estimates, _on_a_fine_grid(p, q), strict=True):
        assert estimate.method == PROVEN
        assert estimate.error <= 1e-8 * max(1.0, truth)
        assert abs(estimate.value - truth) <= estimate.error + 1e-13


def _plane():
    narrow = NARROW_RING._replace(reverse=None)
    for pair in [*PLANE, narrow, Pair("grid | twice as wide", grid(0.05), grid(0.1), 0.6362943611199, None, None)]:
        for name, truth in (("kl", pair.kl), ("reverse", pair.reverse), ("jsd", pair.jsd)):
            if truth is not None and np.isfinite(truth):
                yield pytest.param(name, pair.p, pair.q, truth, id=f"{pair.name}, {name}")


@pytest.mark.parametrize(("name", "p", "q", "truth"), list(_plane()))
def test_known_values_in_the_plane_lie_within_the_proven_error(name, p, q, truth):
    estimate = {"kl": kl, "reverse": lambda a, b, expect: kl(b, a, expect=expect), "jsd": jsd}[name](
        p, q, expect=NUMERIC
    )
    assert estimate.method == PROVEN
    # The bank holds thirteen digits.
    assert abs(estimate.value - truth) <= estimate.error + 3e-13 * max(1.0, truth)
    assert estimate.error <= 1e-8 * max(1.0, truth)


def test_narrow_ring_in_reverse_is_proven():
    estimate = kl(NARROW_RING.q, NARROW_RING.p)
    assert estimate.method == PROVEN
    assert abs(estimate.value - NARROW_RING.reverse) <= estimate.error
    assert estimate.error <= 1e-8 * NARROW_RING.reverse


@pytest.mark.parametrize("name", ["kl", "jensen_shannon", "squared_hellinger"])
def test_bound_of_each_cell_holds_also_where_it_is_far_from_met(name):
    form = form_of(GENERATORS[name].weighted)
    p = Mixture([*TWISTED[0].components, Uniform([-1, -1], [1.0, 2.0])], [0.3, 0.4, 0.3])
    first, second = read_pair(p, TWISTED[1])
    share, visible, sharp = -27.0, 0, 0
    walls_x, walls_y = (np.unique(np.concatenate([first.low[2:, k], first.high[2:, k], [-5, 5]])) for k in (0, 1))
    for pieces in (1, 2):
        axes = [
            np.unique(np.concatenate([np.linspace(a, b, pieces + 1) for a, b in pairwise(walls)]))
            for walls in (walls_x, walls_y)
        ]
        center, half = (
            np.stack(np.meshgrid(*parts, indexing="ij"), axis=-1).reshape(-1, 2)
            for parts in ([(a[1:] + a[:-1]) / 2 for a in axes], [np.diff(a) / 2 for a in axes])
        )
        errors, _ = _cell_errors(form, first, second, center, half, share)
        for k in range(len(center)):
            offsets = (np.arange(16) * 2 + 1 - 16) / 16
            fine = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 2)
            # The truth leaves no component out.
            truth, allowance = sum_over_cells(
                form, first, second, center[k] + half[k] * fine, np.tile(half[k] / 16, (256, 1)), 12, -1e4
            )
            assert abs(truth) <= errors[k, 0] + 2 * allowance
            for order, bound in zip(_ORDERS, errors[k, 1:], strict=True):
                value, slip = sum_over_cells(form, first, second, center[k : k + 1], half[k : k + 1], order, share)
                assert abs(value - truth) <= bound + 2 * allowance + slip
                visible += abs(value - truth) > 1e-11
                sharp += bound < 1e-8
    assert visible >= 20
    assert sharp >= 5


def test_a_cell_whose_largest_component_at_the_centre_is_nothing_at_its_corner_is_not_left_out():
    # Far from everything the narrow one may lead at the centre by accident of its long axis, the wide one elsewhere.
    p = Mixture([Gaussian([0, 0], [[2.72, 2.9], [2.9, 3.14]]), Gaussian([7, 2], [[0.08, 0.01], [0.01, 0.04]])])
    q = Mixture([Gaussian([11, 1], [[7.4, -0.47], [-0.47, 0.063]]), Gaussian([3, 3], [[0.33, 0], [0, 1.4]])])
    middle = Mixture([p, q])
    coarse = [kl(p, middle), kl(q, middle), jsd(p, q)]
    assert abs((coarse[0].value + coarse[1].value) / 2 - coarse[2].value) <= sum(e.error for e in coarse)
    # Two orders of tolerance, one number.
    for law, estimate in ((p, coarse[0]), (q, coarse[1])):
        assert kl(law, middle, expect=Quadrature(tol=1e-7)).agrees(estimate)


def test_a_share_too_large_to_write_down_counts_as_infinite():
    size = np.array([[[1.0, 1.0], [OVERFLOW, OVERFLOW]]])
    upper, log_sum = log_of_sum(size, np.zeros((1, 2, 1)), np.zeros((1, 2, 2)), np.zeros((1, 2)))
    assert np.isinf(upper).all()
    assert np.isinf(log_sum).all()
