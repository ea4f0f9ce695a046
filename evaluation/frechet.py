r"""The Fréchet distance between features (FID), without its bias and with its error.

FID = |m₁−m₂|² + tr S₁ + tr S₂ − 2 tr (S₁S₂)^½ is the squared 2-Wasserstein distance between two Gaussians with the
means and covariances of the two feature sets: zero does not mean equal laws, only equal first two moments. How the
trace is computed, and the coordinates z in which S₁ is the identity and S₂ = diag(s²), stand in ``evaluation.bures``.

**Bias.** The plain number is too large by (tr S₁)/n + (tr S₂)/m from the means, and by about
½ Σ_ij c_ij (E[z_i²z_j²] − δ_ij)/n from each covariance, c_ij = s_i s_j/(s_i + s_j). ``value`` is the plain number, kept
as ``raw``, minus these terms, with the samples' own fourth moments if they are known. What is left is of the next order
in d/n; it is measured on halves of the samples, where it is four times as large, and removed as well (Richardson).
The value may come out slightly negative: it is compatible with 0 then.

**Error.** By the delta method each reference sample contributes ψ(x) = 2(m₁−m₂)·(x−m₁) + |x−m₁|² − Σ s_i z_i², each
generated one likewise, and the variance is var ψ/n + var ψ'/m. Where the two laws agree this vanishes, and the second
order is all there is: v²(2 tr S² + Σ c_ij² + Σ c_ii²), v = 1/n + 1/m. Both enter the interval of a square
(``evaluation.squares``). In simulations with 15 or more samples per dimension, 1 to 32 dimensions, Gaussian and
Student-t₅ features, and laws that agree, nearly agree or differ in mean, scale or axes, it covers 93 to 98 %, with 15
to 30 samples in all up to 99.5 %. Where the laws agree it is up to three times as long as one of known variance: how
fast the error would grow with θ cannot be seen there. The bias left is below a tenth of a standard error as reported;
of the true one it is up to a quarter with features that are heavy-tailed *all at once* (multivariate t₅: one common
scale per sample).

From three to six samples per dimension halves are too small to measure what is left of the bias: they only ever lower
the value, and the interval goes down by as much again. In simulations with 3 and 5 per dimension it then covers 92 to
100 % in 8 to 48 dimensions, and 90 to 100 % in 128 (of 60 trials each); least where Student-t₅ features agree.

**Too few samples.** Below three samples per dimension the expansion fails. The interval then runs from the bound
|m₁−m₂|² + (√tr S₁ − √tr S₂)² ≤ FID, whose bias is small, to the plain number plus its error, whose bias is upward; the
note says so.

References:
    GANs trained by a two time-scale update rule converge to a local Nash equilibrium (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500. Effectively unbiased FID and Inception Score and where to find them (Chong,
    Forsyth, 2020), https://arxiv.org/abs/1911.07023. On the Bures-Wasserstein distance between positive definite
    matrices (Bhatia, Jain, Lim, 2019), https://arxiv.org/abs/1712.01504.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_points
from divergences.two_sample import Z95
from evaluation.bures import Pair
from evaluation.moments import Moments, as_moments, disagreements
from evaluation.squares import LEAST_Z, Spread, square_interval

__all__ = ["ClassFid", "Moments", "class_fid", "excess", "fid", "fid_influence", "pair_of", "score"]

# Below this many samples per dimension the expansion in 1/n is not trusted.
PER_DIMENSION = 3
# Halves need a covariance each.
_FEWEST = 8
# Simulations (1 to 128 dimensions, 3 to 15 samples per dimension) leave less of the second correction than this
# and d/n together.
_RESIDUE = 0.1
# A bias left that falls as n^(−p) is 2^p times as large in halves, and w = 1/(2^p − 1) takes it away: 1/3 for p = 2,
# the next order if enough moments exist; 0.55 for p = 3/2, where five are all there are.
_WEIGHT = 0.5


@dataclass(frozen=True)
class ClassFid:
    """Fréchet distances class by class.

    Attributes:
        classes: class → distance between the generated and the reference features of that class.
        mean: of the classes, each counting the same ("intra-class FID").
    """

    classes: dict[Any, Estimate]
    mean: Estimate


def fid(*, generated: ArrayLike | Moments, reference: ArrayLike | Moments) -> Estimate:
    """Fréchet distance |m₁−m₂|² + tr(S₁ + S₂ − 2(S₁S₂)^½) between two feature sets, debiased, with a 95 % interval.

    Args:
        generated: features (n, d), or their ``Moments``.
        reference: features (m, d), or their ``Moments``.

    Returns:
        ``value`` debiased, ``raw`` the plain number, ``bounds`` the 95 % interval, which is not symmetric, and
        ``error`` its longer side. A perfect generator has the value 0 within its interval. With fewer than 3 samples
        per dimension the interval is wide, and the note says so.

    Raises:
        InputError: NaN, fewer than two rows, mismatched dimensions, or ``Moments`` whose fingerprints differ.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2, 2000, 4))
    >>> fid(generated=x, reference=y).agrees(0.0), fid(generated=x + 1, reference=y).agrees(4.0)
    (True, True)
    """
    return score(pair_of(generated=generated, reference=reference))


def pair_of(*, generated: ArrayLike | Moments, reference: ArrayLike | Moments) -> Pair:
    """Two sets in their common coordinates; arguments and errors are those of ``fid``."""
    return Pair(*_checked(generated, reference))


def score(pair: Pair) -> Estimate:
    """``fid`` of two sets in their common coordinates."""
    p, q = pair.reference.moments, pair.generated.moments
    dim, n = p.mean.size, min(p.n, q.n)
    if n < PER_DIMENSION * dim:
        return _wide(pair)
    value, second, tuned = pair.value, pair.second_order, pair.sampled and n >= _FEWEST
    if tuned:
        halves = [Pair(_half(p, start), _half(q, start)).value for start in (0, 1)]
        correction = (value - sum(halves) / 2) * _WEIGHT
        slack = (_RESIDUE + dim / n) * abs(correction)
        if n < 2 * PER_DIMENSION * dim:
            # In halves the expansion fails, and they come out too low. What is left of the bias is upward: only a
            # correction downward can be right, and at this size it is no more than a sign of how much is left.
            correction = min(correction, 0.0)
            slack = -correction
        # Of the pairs of samples, those within a half count 1 − w in the value and the others 1 + w.
        value, second = value + correction, second * (1 + _WEIGHT**2)
        how = "debiased in closed form and by halves; delta method, interval of a square"
    else:
        # A trace bias smaller by d/n, up to a factor that simulations put below 1.
        slack = pair.trace_bias * dim / n
        how = "debiased to order 1/n; delta method" + ("" if pair.sampled else " for Gaussian features")
    # Both variances are estimated in coordinates fitted to the same samples, and come out short by about d/n.
    bias, second = pair.raw - pair.value, second * (1 + dim / n)
    if pair.sampled:
        spread = Spread.of_influences([pair.reference.psi, pair.generated.psi], second, bias)
    else:
        spread = Spread(pair.first_order, second, bias)
    low, high = square_interval(value, spread._replace(first=spread.first * (1 + dim / (2 * n)), spectrum="even"))
    low, high = low - slack, high + slack
    error = max(value - low, high - value)
    return Estimate(value, error, level=0.95, method=how, n=n, raw=pair.raw, bounds=(low, high))


def fid_influence(*, generated: ArrayLike | Moments, reference: ArrayLike | Moments) -> Float64[np.ndarray, " n"]:
    """How much each generated sample pushes the distance up: the largest are the ones to look at first.

    ψ(y) is the derivative of the plain distance as weight moves to y: without y it would be smaller by about
    ψ(y)/(n − 1). Swap the arguments for the influence of the reference samples.

    Args:
        generated: features (n, d), n > d, or their ``Moments`` with samples.
        reference: features (m, d), m > d, or their ``Moments``.

    Returns:
        Shape (n,), in the order of ``generated``, mean 0; ``np.argsort(-psi)`` ranks them.

    Raises:
        InputError: as for ``fid``; no more samples than dimensions; or ``Moments`` of generated= without samples.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2, 500, 3))
    >>> y[17] = 9.0
    >>> int(np.argmax(fid_influence(generated=y, reference=x)))
    17
    """
    p, q = _checked(generated, reference)
    if q.samples is None:
        raise InputError("generated= are moments without samples; the influence of samples needs the samples.")
    for side, name in ((q, "generated="), (p, "reference=")):
        if side.n <= side.mean.size:
            raise InputError(
                f"{name} holds {side.n} samples in {side.mean.size} dimensions; influences need more samples than "
                "dimensions. Use fewer features (pca:N)."
            )
    return Pair(p, q).generated.psi


def class_fid(
    *, generated: ArrayLike, generated_labels: ArrayLike, reference: ArrayLike, reference_labels: ArrayLike
) -> ClassFid:
    """Fréchet distance of each class, and their mean: a generator that mixes classes up has a good FID and bad ones.

    Args:
        generated: features (n, d).
        generated_labels: class of each, shape (n,): the class asked for, of a conditional generator.
        reference: features (m, d).
        reference_labels: class of each, shape (m,).

    Returns:
        An ``Estimate`` for each class, and that of their mean; classes count the same whatever their size. The mean's
        error assumes independent classes, except for those of too few samples, whose intervals add up.

    Raises:
        InputError: as for ``fid``, labels of another length, or a class that one side has fewer than two samples of.

    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.normal(size=(600, 2)), np.repeat([0, 1], 300)
    >>> found = class_fid(generated=x + labels[:, None], generated_labels=labels[::-1],
    ...                   reference=x + labels[:, None], reference_labels=labels)
    >>> found.mean.agrees(2.0)
    True
    """
    x, y = as_points(generated, "generated="), as_points(reference, "reference=")
    own, other = (
        _labels(generated_labels, "generated_labels=", len(x)),
        _labels(reference_labels, "reference_labels=", len(y)),
    )
    names = np.unique(np.concatenate([own, other]))
    classes = {}
    for name in names.tolist():
        mine, theirs = x[own == name], y[other == name]
        for side, what in ((mine, "generated="), (theirs, "reference=")):
            if len(side) < 2:
                raise InputError(
                    f"class {name!r} has {len(side)} sample{'s' * (len(side) != 1)} in {what}; two are the least."
                )
        classes[name] = fid(generated=mine, reference=theirs)
    return ClassFid(classes, _mean(list(classes.values())))


def _mean(parts: list[Estimate]) -> Estimate:
    """Independent errors add in squares; the bounds of classes with too few samples hold no probability, and add."""
    count = len(parts)
    value = sum(part.value for part in parts) / count
    arms = []
    for end in (0, 1):
        lengths = [(abs(part.interval[end] - part.value), bool(part.note)) for part in parts]
        random = math.sqrt(sum(length**2 for length, poor in lengths if not poor))
        arms.append((random + sum(length for length, poor in lengths if poor)) / count)
    poor = sum(bool(part.note) for part in parts)
    return Estimate(
        value,
        max(arms),
        level=0.95,
        method=f"mean of {count} classes, each counting the same",
        n=sum(part.n or 0 for part in parts),
        raw=sum(part.raw or 0.0 for part in parts) / count,
        bounds=(value - arms[0], value + arms[1]),
        note=f"{poor} of {count} classes have fewer than {PER_DIMENSION} samples per dimension" if poor else "",
    )


def _labels(labels: Any, name: str, n: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InputError(f"{name} must have shape ({n},), one label per sample; it has shape {array.shape}.")
    if array.dtype.kind not in "biuUS":
        raise InputError(f"{name} must hold whole numbers or text; it holds dtype {array.dtype}.")
    return array


def _checked(generated: Any, reference: Any) -> tuple[Moments, Moments]:
    """Reference and generated moments, of the same features."""
    p, q = as_moments(reference, "reference="), as_moments(generated, "generated=")
    if p.mean.size != q.mean.size:
        raise InputError(f"generated= has {q.mean.size} features and reference= has {p.mean.size}; they must agree.")
    different = disagreements(q, p)
    if different:
        raise InputError(
            f"generated= and reference= are not the same features: {'; '.join(different)}. Compute both with one "
            "network, one weight file and one resize rule."
        )
    return p, q


def _half(side: Moments, start: int) -> Moments:
    """Half of the samples, always the same: neither sorted nor alternating classes are all in one."""
    order = np.random.default_rng(side.n).permutation(side.n)
    return Moments.of(side.samples[np.sort(order[start::2])])


def excess(pair: Pair, measured: Estimate, margin: float) -> float | None:
    """P-value of "the distance is at most ``margin``": a normal tail; None where no error is known.

    Args:
        pair: the two sets.
        measured: ``score(pair)``.
        margin: ≥ 0.
    """
    if measured.note:
        # The lower bound is all that is known of the distance.
        centre, error = _lower_bound(pair)
    else:
        # One standard error, at most: the lower arm of the interval is so many of them long, or more.
        centre, error = measured.value, (measured.value - measured.interval[0]) / LEAST_Z
    return float(ndtr((margin - centre) / error)) if 0 < error < math.inf else None


def _lower_bound(pair: Pair) -> tuple[float, float]:
    """An estimate of |m₁−m₂|² + (√tr S₁ − √tr S₂)² with little bias, and a standard error."""
    p, q = pair.reference.moments, pair.generated.moments
    spread = math.sqrt(np.trace(p.covariance)) - math.sqrt(np.trace(q.covariance))
    error = math.sqrt(max(pair.gaussian_first_order, pair.gaussian_second_order))
    return pair.means - pair.means_bias + spread**2, error


def _wide(pair: Pair) -> Estimate:
    p, q = pair.reference.moments, pair.generated.moments
    bound, error = _lower_bound(pair)
    low, high = max(bound - Z95 * error, 0.0), pair.raw + Z95 * error
    value = min(max(pair.value, low), high)
    dim, n = p.mean.size, min(p.n, q.n)
    note = (
        f"{n} samples in {dim} dimensions are fewer than {PER_DIMENSION} per dimension: the bias cannot be removed "
        f"reliably, and the interval is wide; use at least {PER_DIMENSION * dim} samples or fewer features"
    )
    return Estimate(
        value,
        max(value - low, high - value),
        level=0.95,
        method="debiased to order 1/n; interval from a lower bound to the plain number",
        n=n,
        raw=pair.raw,
        bounds=(low, high),
        note=note,
    )
