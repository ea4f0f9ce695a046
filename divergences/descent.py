r"""The generator's game played in function space: descent on p_g itself (Proposition 2 of the GAN paper).

With the discriminator at its optimum, what the generator minimises is a *convex* function of p_g,

$$ C(q) = \max_D V(D, q) = 2\,\mathrm{JSD}(p, q) - \log 4 \;\ge\; -\log 4, \qquad
   \frac{\delta C}{\delta q} = \log\frac{q}{p + q} = \log(1 - D^*), $$

with its only minimum at q = p. The plain gradient will not do: it is −∞ where q → 0 < p, and its steps leave the
simplex. Mirror descent with the entropy (exponentiated gradient) stays inside,

$$ q_{k+1} \;\propto\; q_k\, e^{-\eta \log(1 - D_k^*)} = q_k^{1-\eta} (p + q_k)^{\eta}, $$

and needs no luck: C is ∫q log q plus a concave function of q, so it is 1-smooth relative to the entropy, and for every
rate η ≤ 1 the values fall monotonically with C(q_k) + log 4 ≤ KL(p‖q_0)/(ηk). At η = 1 the step is q ← (p + q)/2. What
descent on the *parameters* of a network does is another matter: there C is not convex.

Here q lives on cells of the line, which hold the exact masses of both laws (or on the atoms of discrete ones): a JSD of
cell masses is at most that of the laws, and how much is lost is stated.

References: *Generative Adversarial Networks* (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661;
*Relatively smooth convex optimization by first-order methods, and applications* (Lu, Freund, Nesterov, 2018),
https://arxiv.org/abs/1610.05708.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import rel_entr

from divergences.adapters import as_distribution
from divergences.checks import as_count, as_number
from divergences.distributions import Discrete, Distribution, Mixture
from divergences.errors import InputError, NoDensity
from divergences.estimate import Estimate
from divergences.f_divergences import LOG4, jsd
from divergences.integrands import jsd_integrand

__all__ = ["Descent", "descend"]

# Beyond these quantiles lies nothing that a cell of its own would show.
_TAIL = 1e-12
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Descent:
    """A trajectory of mirror descent on p_g.

    Attributes:
        values: C(q_k) = 2·JSD(p, q_k) − log 4 on the cells, shape (steps + 1,); −log 4 is the minimum.
        error: bound on the rounding of each value.
        path: masses of q_k, shape (steps + 1, cells).
        target: masses of p, shape (cells,).
        edges: edges of the cells, shape (cells + 1,), the outermost taking in the tails; None for discrete laws.
        guarantee: what is proven, −log 4 + KL(p‖q_0)/(rate·k), shape (steps + 1,); ∞ at k = 0.
        start: 2·JSD(p, q_0) − log 4 of the laws themselves; its ``raw`` is ``values[0]``, which the cells make smaller.
    """

    values: Float64[np.ndarray, " steps"]
    error: float
    path: Float64[np.ndarray, "steps cells"]
    target: Float64[np.ndarray, " cells"]
    edges: Float64[np.ndarray, " edges"] | None
    guarantee: Float64[np.ndarray, " steps"]
    start: Estimate

    @property
    def gaps(self) -> Float64[np.ndarray, " steps"]:
        """Total variation ½Σ|p − q_k| of each step, shape (steps + 1,)."""
        return np.abs(self.path - self.target).sum(axis=1) / 2

    @property
    def end(self) -> Estimate:
        """The last value."""
        return Estimate(float(self.values[-1]), self.error, method="mirror descent on cells (bound on rounding)")


def descend(p: Any, q0: Any, *, steps: int = 50, rate: float = 0.5, cells: int = 400) -> Descent:
    """Mirror descent on p_g in function space from q0: converges to p, where the value is −log 4.

    Args:
        p: law of the data, on the line with a CDF and quantiles, or ``Discrete``.
        q0: where to start, of the same kind, with mass wherever p has some.
        steps: how many.
        rate: η in (0, 1]: in this range descent is proven, at 1 a step is q ← (p + q)/2.
        cells: how many cells for laws on the line, of equal mass under (p + q0)/2.

    Raises:
        InputError: a rate outside (0, 1], laws of different kinds or beyond the line, or q0 without mass where p has
            some: what is 0 stays 0 under a multiplicative step (and the plain gradient there is −∞).

    >>> from divergences import Gaussian
    >>> descent = descend(Gaussian(0.0, 1.0), Gaussian(3.0, 4.0), steps=40, rate=1.0)
    >>> bool((np.diff(descent.values) <= 0).all()), round(float(descent.values[-1] + np.log(4)), 9)
    (True, 0.0)
    """
    count = as_count(steps, "steps")
    eta = as_number(rate, "rate", above=0.0)
    if eta > 1:
        raise InputError(f"rate must be in (0, 1], where descent is proven; it is {eta:g}.")
    size = as_count(cells, "cells", minimum=2)
    real, fake = as_distribution(p, "p"), as_distribution(q0, "q0")
    edges, target, mass = _masses(real, fake, size)
    if (mass[target > 0] <= 0).any():
        share = float(target[mass <= 0].sum())
        raise InputError(
            f"q0 has no mass (in float64) where p has {share:.3g} of it: a multiplicative step never gets there, and "
            "KL(p‖q0) is infinite. Start from a law that covers p, such as Mixture([q0, wide], [0.99, 0.01])."
        )
    path = np.empty((count + 1, len(target)))
    path[0] = mass
    for k in range(count):
        q = path[k]
        alive = q > 0
        moved = np.zeros_like(q)
        moved[alive] = np.exp((1 - eta) * np.log(q[alive]) + eta * np.log(target[alive] + q[alive]))
        path[k + 1] = moved / moved.sum()
    values = np.array([_value(target, q) for q in path])
    guarantee = np.full(count + 1, np.inf)
    guarantee[1:] = -LOG4 + float(rel_entr(target, mass).sum()) / (eta * np.arange(1.0, count + 1.0))
    truth = jsd(real, fake)
    start = Estimate(
        2 * truth.value - LOG4, 2 * truth.error + 4 * _EPS, method=truth.method, n=truth.n, raw=float(values[0])
    )
    return Descent(values, 16 * _EPS, path, target, edges, guarantee, start)


def _masses(p: Distribution, q: Distribution, cells: int) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Edges of the cells (None for atoms), and the masses of both laws on them."""
    if p.dim != q.dim:
        raise InputError(f"p and q0 must live in the same space; p has dimension {p.dim}, q0 has {q.dim}.")
    if isinstance(p, Discrete) and isinstance(q, Discrete):
        atoms = np.unique(np.concatenate([p.atoms, q.atoms]), axis=0)
        return None, np.exp(p.log_prob(atoms)), np.exp(q.log_prob(atoms))
    if isinstance(p, Discrete) or isinstance(q, Discrete):
        raise InputError("p and q0 must both be Discrete or both have densities: else they never overlap.")
    if p.dim != 1:
        raise InputError(f"descend works on the line or with Discrete laws; these have dimension {p.dim}.")
    for law, name in ((p, "p"), (q, "q0")):
        if not (hasattr(law, "cdf") and hasattr(law, "quantile")):
            raise NoDensity(f"{name}={law!r} has no CDF and quantiles; use Discrete masses on cells of your own.")
    levels = np.linspace(0.0, 1.0, cells + 1)
    levels[[0, -1]] = _TAIL, 1 - _TAIL
    edges = np.unique(Mixture([p, q]).quantile(levels))
    return edges, _cell_masses(p, edges), _cell_masses(q, edges)


def _cell_masses(law: Any, edges: np.ndarray) -> np.ndarray:
    """P(cell), from whichever tail keeps the digits; the outermost cells take in what lies beyond them."""
    below, above = law.cdf(edges), law.survival(edges)
    below[[0, -1]], above[[0, -1]] = (0.0, 1.0), (1.0, 0.0)
    mass = np.where(below[:-1] < 0.5, np.diff(below), -np.diff(above))
    return np.maximum(mass, 0.0) / np.maximum(mass, 0.0).sum()


def _value(p: np.ndarray, q: np.ndarray) -> float:
    """2·JSD − log 4 of two mass vectors, without cancellation near p = q."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((p > 0) | (q > 0), np.log(p) - np.log(q), 0.0)
    return float(((p + q) * jsd_integrand(ratio)).sum()) - LOG4
