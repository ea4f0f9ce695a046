r"""Claims about f-divergences: the inequalities between them, their variational bounds, and closed forms.

The variational values are integrals of this package at the optimal T; the divergence on the other side is
``scipy.integrate.quad`` on f itself, as a textbook writes it. An inequality is tried on the pair that comes closest to
equality.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import stats

from divergences.adversarial import optimal_logit
from divergences.claim import Claim, exact
from divergences.claims_game import random_pairs, textbook_kl
from divergences.claims_textbook import P, Q, density, textbook_f, times
from divergences.distributions import Discrete, Gaussian, Uniform
from divergences.estimate import Estimate
from divergences.expectation import Quadrature
from divergences.f_divergences import LOG2, chi2, hellinger, jsd, kl, renyi, total_variation
from divergences.generators import GENERATORS

__all__ = ["BOUNDS"]

NOWOZIN = "f-GAN (Nowozin, Cseke, Tomioka, 2016), https://arxiv.org/abs/1606.00709"
BELGHAZI = "Mutual Information Neural Estimation (Belghazi et al., 2018), https://arxiv.org/abs/1801.04062"
NGUYEN = "Estimating Divergence Functionals by Convex Risk Minimization (Nguyen, Wainwright, Jordan, 2010), https://arxiv.org/abs/0809.0853"  # noqa: E501
TOPSOE = "Some Inequalities for Information Divergence (Topsøe, 2000), https://doi.org/10.1109/18.850703"
TSYBAKOV = "Introduction to Nonparametric Estimation (Tsybakov, 2009), https://doi.org/10.1007/b13794"
RENYI = "Rényi Divergence and Kullback-Leibler Divergence (van Erven, Harremoës, 2014), https://arxiv.org/abs/1206.2459"

_INTEGRATE = Quadrature()
_STANDARD = Gaussian(0.0, 1.0)

# The f of each row as a textbook writes it (not the table's own code), and whether p and q change places so that it is
# finite.
_TEXTBOOK: dict[str, tuple[Callable[[float], float], bool]] = {
    "kl": (lambda u: u * np.log(u) if u > 0 else 0.0, False),
    "reverse_kl": (lambda u: -np.log(u), False),
    "pearson_chi2": (lambda u: (u - 1) ** 2, True),
    "neyman_chi2": (lambda u: (1 - u) ** 2 / u, False),
    "squared_hellinger": (lambda u: (np.sqrt(u) - 1) ** 2, False),
    "jensen_shannon": (lambda u: (u * np.log(u) if u > 0 else 0.0) - (u + 1) * np.log((u + 1) / 2), False),
    "gan": (lambda u: (u * np.log(u) if u > 0 else 0.0) - (u + 1) * np.log(u + 1), False),
    "total_variation": (lambda u: abs(u - 1) / 2, False),
}


def _variational(name: str) -> Estimate:
    """E_p[T*] − E_q[f*(T*)] at T* = f′(p/q), by the table's T* and f*.

    Where log p/q is beyond 34, T* cannot be told from the end of its range: it is cut there, and what the cut costs is
    seen by cutting a little earlier.
    """
    row = GENERATORS[name]
    p, q = (Q, P) if _TEXTBOOK[name][1] else (P, Q)
    ratio = optimal_logit(p, q)

    def value(cut: float) -> Estimate:
        def t_star(x: np.ndarray) -> np.ndarray:
            return row.optimal(np.clip(ratio(x), -cut, cut) if row.top < np.inf else ratio(x))

        return _INTEGRATE((1.0, t_star, p), (-1.0, lambda x: row.conjugate(t_star(x)), q))

    whole, less = value(34.0), value(32.0)
    return Estimate(whole.value, whole.error + abs(whole.value - less.value), method=whole.method)


def _by_f(name: str) -> Estimate:
    f, swap = _TEXTBOOK[name]
    p, q = (density(Q), density(P)) if swap else (density(P), density(Q))
    # Where p = q the integrand of the total variation has a kink.
    from scipy import optimize

    places = np.linspace(-8.0, 11.0, 400)
    sign = np.sign([p(x) - q(x) for x in places])
    turns = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    crossings = [optimize.brentq(lambda x: p(x) - q(x), places[k], places[k + 1]) for k in turns]
    return textbook_f(f, p, q, (-1.0, -0.5, 0.5, 1.5, 2.0, *crossings))


def _donsker_varadhan(size: float) -> Estimate:
    """E_p[T] − log E_q[e^T] at T = log p/q + 0.7 + size·sin 2x: whatever the constant."""
    ratio = optimal_logit(P, Q)

    def critic(x: np.ndarray) -> np.ndarray:
        return ratio(x) + 0.7 + size * np.sin(2 * x[:, 0])

    first = _INTEGRATE((1.0, critic, P))
    second = _INTEGRATE((1.0, lambda x: np.exp(critic(x)), Q))
    error = first.error + second.error / second.value + 4e-16
    return Estimate(first.value - float(np.log(second.value)), error, method=first.method)


def _nwj(size: float) -> Estimate:
    """E_p[T] − E_q[e^(T−1)] at T = 1 + log p/q + size·sin 2x."""
    ratio = optimal_logit(P, Q)

    def critic(x: np.ndarray) -> np.ndarray:
        return 1 + ratio(x) + size * np.sin(2 * x[:, 0])

    return _INTEGRATE((1.0, critic, P), (-1.0, lambda x: np.exp(critic(x) - 1), Q))


Pair = tuple[Estimate, Estimate]


def _tightest(lower: Callable[..., Estimate], upper: Callable[..., Estimate]) -> Pair:
    """Both sides of an inequality for the pair, of ten, that comes closest to equality."""
    pairs = [(_STANDARD, Gaussian(mu, s)) for mu in (0.1, 3.0) for s in (0.3, 1.0, 2.0)]
    sides: list[Pair] = [(lower(p, q), upper(p, q)) for p, q in [*pairs, *random_pairs()[:4]]]
    return min(sides, key=lambda side: side[1].value - side[0].value)


def _square(estimate: Estimate) -> Estimate:
    error = 2 * estimate.value * estimate.error + estimate.error**2
    return Estimate(estimate.value**2, error, method=estimate.method)


def _hellinger_cap(p: object, q: object) -> Estimate:
    """√(H²(2 − H²)); its error by the values at both ends."""
    h = hellinger(p, q)

    def cap(value: float) -> float:
        return float(np.sqrt(np.clip(value, 0, 1) * (2 - np.clip(value, 0, 1))))

    error = max(abs(cap(end) - cap(h.value)) for end in h.interval)
    return Estimate(cap(h.value), error + 4e-16, method=h.method)


def _inequality(
    name: str, statement: str, reference: str, lower: Callable[..., Estimate], upper: Callable[..., Estimate]
) -> Claim:
    # Once for both sides: they are functions of the same pair.
    sides = cache(lambda: _tightest(lower, upper))
    return Claim(name, statement, "≤", reference, lambda: sides()[0], lambda: sides()[1])


def _scipy_jsd(p: Discrete, q: Discrete) -> Estimate:
    """√JSD of scipy on the union of the atoms, squared."""
    from scipy.spatial.distance import jensenshannon

    places = np.unique(np.concatenate([p.atoms, q.atoms]), axis=0)
    with np.errstate(divide="ignore"):
        root = jensenshannon(np.exp(p.log_prob(places)), np.exp(q.log_prob(places)))
    return Estimate(float(root) ** 2, 1e-12, method="scipy jensenshannon, squared")


BOUNDS: tuple[Claim, ...] = (
    _inequality(
        "pinsker",
        r"\mathrm{TV}(p,q)^2 \le \tfrac12 \mathrm{KL}(p\|q)",
        TSYBAKOV,
        lambda p, q: _square(total_variation(p, q)),
        lambda p, q: times(kl(p, q), 0.5),
    ),
    _inequality(
        "jsd-below-tv",
        r"\mathrm{JSD} \le \log 2 \cdot \mathrm{TV}",
        TOPSOE,
        jsd,
        lambda p, q: times(total_variation(p, q), LOG2),
    ),
    _inequality(
        "tv-squared-below-jsd",
        r"\mathrm{TV}^2 \le 2\,\mathrm{JSD}",
        TOPSOE,
        lambda p, q: _square(total_variation(p, q)),
        lambda p, q: times(jsd(p, q), 2.0),
    ),
    _inequality("jsd-below-hellinger", r"\mathrm{JSD} \le H^2", TOPSOE, jsd, hellinger),
    _inequality(
        "hellinger-below-jsd",
        r"\log 2 \cdot H^2 \le \mathrm{JSD}",
        TOPSOE,
        lambda p, q: times(hellinger(p, q), LOG2),
        jsd,
    ),
    _inequality("hellinger-below-tv", r"H^2 \le \mathrm{TV}", TSYBAKOV, hellinger, total_variation),
    _inequality("tv-below-hellinger", r"\mathrm{TV} \le H\sqrt{2 - H^2}", TSYBAKOV, total_variation, _hellinger_cap),
    Claim(
        "kl-below-chi2",
        r"\mathrm{KL}(p\|q) \le \log(1 + \chi^2(p\|q))",
        "≤",
        RENYI,
        lambda: kl(_STANDARD, Gaussian(1.0, 2.0), expect=Quadrature()),
        lambda: Estimate(float(np.log1p(chi2(_STANDARD, Gaussian(1.0, 2.0)).value)), 1e-13, method="closed form"),
    ),
    Claim(
        "discrete-jsd",
        r"\mathrm{JSD} = \tfrac12 \sum p \log\tfrac{p}{m} + \tfrac12 \sum q \log\tfrac{q}{m}",
        "=",
        TOPSOE,
        lambda: jsd(Discrete([0, 1, 2], [0.36, 0.48, 0.16]), Discrete([0, 1, 2])),
        lambda: _scipy_jsd(Discrete([0, 1, 2], [0.36, 0.48, 0.16]), Discrete([0, 1, 2])),
    ),
    Claim(
        "gaussian-kl",
        r"\mathrm{KL}\big(\mathcal N(0,1)\|\mathcal N(1,4)\big) = \log 2 + \tfrac{1+1}{2 \cdot 4} - \tfrac12",
        "=",
        TSYBAKOV,
        lambda: kl(Gaussian(0.0, 1.0), Gaussian(1.0, 4.0), expect=Quadrature()),
        lambda: exact(LOG2 + 0.25 - 0.5),
    ),
    Claim(
        "uniform-kl-infinite",
        r"\mathrm{supp}\,p \not\subset \mathrm{supp}\,q \;\Rightarrow\; \mathrm{KL}(p\|q) = \infty",
        "=",
        TSYBAKOV,
        lambda: kl(Uniform(0.0, 1.0), Uniform(0.5, 1.5)),
        lambda: exact(np.inf),
    ),
    Claim(
        "cauchy-kl-is-infinite",
        r"\mathrm{KL}(\text{Cauchy} \| \mathcal N(0,1)) = \infty",
        "=",
        RENYI,
        lambda: kl(stats.cauchy(), _STANDARD),
        lambda: exact(np.inf),
    ),
    Claim(
        "hellinger-gaussian",
        r"H^2\big(\mathcal N(0,1), \mathcal N(2,1)\big) = 1 - e^{-1/2}",
        "=",
        TSYBAKOV,
        lambda: hellinger(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), expect=Quadrature()),
        lambda: exact(float(-np.expm1(-0.5))),
    ),
    Claim(
        "renyi-gaussian",
        r"D_\alpha(\mathcal N(0,1) \| \mathcal N(2,1)) = \tfrac{\alpha \mu^2}{2}",
        "=",
        RENYI,
        lambda: renyi(_STANDARD, Gaussian(2.0, 1.0), order=0.3, expect=Quadrature()),
        lambda: exact(0.3 * 2.0),
    ),
    *(
        Claim(
            f"f-gan-{name.replace('_', '-')}",
            rf"f(u) = {GENERATORS[name].formula}:\; D_f = \mathbb{{E}}_p T^* - \mathbb{{E}}_q f^*(T^*)",
            "=",
            NOWOZIN,
            lambda name=name: _variational(name),  # type: ignore[misc]
            lambda name=name: _by_f(name),  # type: ignore[misc]
        )
        for name in GENERATORS
    ),
    Claim(
        "donsker-varadhan-tight",
        r"\mathrm{KL} = \mathbb{E}_p T - \log \mathbb{E}_q e^{T}, \quad T = \log\tfrac{p}{q} + c",
        "=",
        BELGHAZI,
        lambda: _donsker_varadhan(0.0),
        lambda: textbook_kl(P, Q),
    ),
    Claim(
        "donsker-varadhan-is-a-bound",
        r"\mathbb{E}_p T - \log \mathbb{E}_q e^{T} \le \mathrm{KL}(p\|q)",
        "≤",
        BELGHAZI,
        lambda: _donsker_varadhan(0.1),
        lambda: textbook_kl(P, Q),
    ),
    Claim(
        "nwj-tight",
        r"\mathrm{KL} = \mathbb{E}_p T - \mathbb{E}_q e^{T-1}, \quad T = 1 + \log\tfrac{p}{q}",
        "=",
        NGUYEN,
        lambda: _nwj(0.0),
        lambda: textbook_kl(P, Q),
    ),
    Claim(
        "nwj-below-donsker-varadhan",
        r"\mathbb{E}_p T - \mathbb{E}_q e^{T-1} \le \mathbb{E}_p T - \log \mathbb{E}_q e^{T}",
        "≤",
        BELGHAZI,
        lambda: _nwj(0.1),
        lambda: _donsker_varadhan(0.1),
    ),
)
