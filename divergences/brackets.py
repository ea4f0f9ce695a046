r"""Bounds on KL and JSD of Gaussian mixtures that hold always, in any dimension, without sampling or integrating.

Upper, for any splitting of the weights $\sum_j \phi_{ij} = w_i$, $\sum_i \psi_{ij} = v_j$ (joint convexity):

$$ \mathrm{KL}(p\|q) \le \sum_{ij} \phi_{ij} \Big[\log\frac{\phi_{ij}}{\psi_{ij}} + \mathrm{KL}(p_i\|q_j)\Big], $$

made small by alternating minimisation: every iterate is a valid bound. Lower: KL = −H(p) − E_p[log q], with

$$ H(p) \le \sum_i w_i H(p_i) - \sum_i w_i \log \sum_j w_j e^{-\mathrm{KL}(p_i\|p_j)}, \qquad
   E_p[\log q] \le \sum_i w_i \log \sum_j v_j \int p_i q_j . $$

The bracket is tight where components are far apart or coincide, and wide between; it is what remains when a quadrature
is out of reach.

References: *Approximating the Kullback Leibler Divergence between Gaussian Mixture Models* (Hershey, Olsen, 2007),
https://doi.org/10.1109/ICASSP.2007.366913; *Estimating Mixture Entropy with Pairwise Distances* (Kolchinsky, Tracey,
2017), https://doi.org/10.3390/e19070361.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.closed_forms import gaussian_kl, gaussian_log_affinity
from divergences.distributions import Distribution, Gaussian, parts_of
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.f_divergences import pair_of

__all__ = ["jsd_bracket", "kl_bracket"]

_ROUNDS = 200
_LOG_2PI = float(np.log(2 * np.pi))


def kl_bracket(p: Any, q: Any) -> Estimate:
    """Proven lower and upper bound on KL(p‖q) of Gaussian mixtures of any dimension, in nats.

    Args:
        p: a Gaussian, or a mixture of Gaussians.
        q: likewise, in the same space.

    Returns:
        ``bounds`` are the proven ends, ``value`` their middle; ``level`` is None: there is no probability in it.

    Raises:
        InputError: a component that is not Gaussian, or different dimensions.

    >>> from divergences import Gaussian, Mixture
    >>> p = Mixture([Gaussian(-20.0, 1.0), Gaussian(20.0, 1.0)])
    >>> low, high = kl_bracket(p, Gaussian(20.0, 1.0)).interval
    >>> bool(low < 400 - np.log(2) < high), round(high, 6)
    (True, 400.0)
    """
    p, q = pair_of(p, q)
    return _bracket(_kl_lower(p, q), _kl_upper(p, q), np.inf)


def jsd_bracket(p: Any, q: Any) -> Estimate:
    """Proven lower and upper bound on JSD(p, q) of Gaussian mixtures of any dimension, in nats.

    Args:
        p: a Gaussian, or a mixture of Gaussians.
        q: likewise, in the same space.

    Raises:
        InputError: a component that is not Gaussian, or different dimensions.
    """
    p, q = pair_of(p, q)
    middle = _joined(p, q)
    upper = (_kl_upper(p, middle) + _kl_upper(q, middle)) / 2
    # JSD = H(m) − ½H(p) − ½H(q), each entropy bounded by its components' pairwise distances.
    lower = _entropy(middle, overlap=0.5) - (_entropy(p, overlap=1.0) + _entropy(q, overlap=1.0)) / 2
    lower = max(lower, (_kl_lower(p, middle) + _kl_lower(q, middle)) / 2)
    return _bracket(lower, upper, float(np.log(2)))


class _Parts:
    """Weights and Gaussians of a mixture."""

    def __init__(self, weights: np.ndarray, gaussians: list[Gaussian]) -> None:
        self.weights = weights
        self.gaussians = gaussians


def _gaussians(law: Distribution | _Parts) -> _Parts:
    if isinstance(law, _Parts):
        return law
    weights, leaves = parts_of(law)
    gaussians = [leaf for leaf in leaves if isinstance(leaf, Gaussian)]
    if len(gaussians) < len(leaves):
        raise InputError(f"brackets need Gaussians or mixtures of Gaussians; {law!r} holds something else.")
    return _Parts(weights, gaussians)


def _joined(p: Distribution, q: Distribution) -> _Parts:
    a, b = _gaussians(p), _gaussians(q)
    return _Parts(np.concatenate([a.weights, b.weights]) / 2, a.gaussians + b.gaussians)


def _pairwise_kl(p: _Parts, q: _Parts) -> Float64[np.ndarray, "k l"]:
    return np.array([[float(gaussian_kl(a, b)) for b in q.gaussians] for a in p.gaussians])


def _kl_upper(p: Distribution | _Parts, q: Distribution | _Parts) -> float:
    """Joint convexity, by alternating over the two splittings."""
    left, right = _gaussians(p), _gaussians(q)
    w, v, distance = left.weights[:, None], right.weights[None, :], _pairwise_kl(left, right)
    # A component of p that lies inside q's own copy of it costs nothing; the rest is shared out by closeness.
    psi = np.broadcast_to(v / len(w), distance.shape)
    best = np.inf
    for _ in range(_ROUNDS):
        with np.errstate(divide="ignore"):
            score = np.log(psi) - distance
        phi = w * np.exp(score - _log_sum(score))
        psi = v * phi / np.maximum(phi.sum(axis=0, keepdims=True), 1e-300)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(phi > 0, phi * (np.log(phi) - np.log(psi) + distance), 0.0)
        previous, best = best, min(best, float(terms.sum()))
        if previous - best < 1e-13 * max(1.0, best):
            break
    return best


def _kl_lower(p: Distribution | _Parts, q: Distribution | _Parts) -> float:
    left, right = _gaussians(p), _gaussians(q)
    overlaps = np.array([[_log_overlap(a, b) for b in right.gaussians] for a in left.gaussians])
    cross = float(left.weights @ _log_sum(np.log(right.weights) + overlaps)[:, 0])
    lower = -_entropy(left, overlap=1.0) - cross
    if len(left.gaussians) == len(right.gaussians) == 1:
        lower = max(lower, float(gaussian_kl(left.gaussians[0], right.gaussians[0])))
    return lower


def _entropy(law: Distribution | _Parts, *, overlap: float) -> float:
    """Upper bound on the entropy with KL between parts (overlap 1), lower with Bhattacharyya distances (½)."""
    parts = _gaussians(law)
    own = np.array([0.5 * g.dim * (1 + _LOG_2PI) + np.log(np.diag(g.cholesky)).sum() for g in parts.gaussians])
    if overlap == 1.0:
        distance = _pairwise_kl(parts, parts)
    else:
        distance = -np.array([[gaussian_log_affinity(a, b, overlap) for b in parts.gaussians] for a in parts.gaussians])
    spread = parts.weights @ _log_sum(np.log(parts.weights) - distance)[:, 0]
    return float(parts.weights @ own - spread)


def _log_overlap(a: Gaussian, b: Gaussian) -> float:
    """Log ∫ a·b = log N(m_a − m_b; 0, Σ_a + Σ_b)."""
    return float(Gaussian(b.mean, a.cov + b.cov).log_prob(a.mean[None, :])[0])


def _log_sum(terms: np.ndarray) -> np.ndarray:
    top = terms.max(axis=1, keepdims=True)
    return np.log(np.exp(terms - top).sum(axis=1, keepdims=True)) + top


def _bracket(low: float, high: float, top: float) -> Estimate:
    rounding = 1e-13 * max(1.0, abs(high))
    low, high = min(max(low - rounding, 0.0), top), min(high + rounding, top)
    return Estimate((low + high) / 2, (high - low) / 2, method="pairwise bracket (bound)", bounds=(low, high))
