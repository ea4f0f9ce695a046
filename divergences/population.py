r"""W₁ of two laws, bracketed from samples.

The distance between two *samples* is not the distance between their laws: it is too large on average, since W₁ is
convex in both arguments,

$$ E_P f - E_Q f \;\le\; W_1(P, Q) \;\le\; E\,W_1(P_n, Q_m) \qquad \text{for every 1-Lipschitz } f. $$

Two samples of 1000 points of the *same* law N(0, I₂) are 0.143 apart. The right side is the *plug-in*; the left one
holds for any f, in particular for the exact critic of *other* samples: part of the data fits f, the rest, held out,
averages it. As f is exactly 1-Lipschitz everywhere, no search for slopes and no asymptotics enters the inequality, only
the error of two means.

How far the plug-in strays from its mean is bounded by what one point can do (Efron and Stein): replacing x_i changes W₁
by about (u(x_i′) − u(x_i))/n, with u the potential, so that Var ≤ Var u/n + Var v/m. Under P = Q this overestimates.

There is no such bracket for W₂ here. Its dual needs a *pair* with φ(x) + ψ(y) ≤ |x − y|² for all x and y; the largest
ψ that goes with a φ fitted to atoms is −∞ outside their convex hull, where new points fall, so that the held-out value
of the exact pair is −∞ for every law that is not bounded. What holds is W₂ ≥ W₁: the lower end bounds W₂ too.

Most of the plug-in's excess for a law of several modes is noise in the *numbers* of points per mode. Where the law is
known to be a mixture these can be held fixed: ``stratified_sample`` still has the right mean measure, so both
inequalities stand, and the excess falls several times.

References: *The jackknife estimate of variance* (Efron, Stein, 1981), https://doi.org/10.1214/aos/1176345462;
*On the rate of convergence in Wasserstein distance of the empirical measure* (Fournier, Guillin, 2015),
https://arxiv.org/abs/1312.2128.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from divergences.adapters import as_distribution
from divergences.checks import as_count, as_generator, as_number, as_points, one_of
from divergences.critics import sample_moments, welch
from divergences.distributions import Discrete, Distribution, parts_of
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.kantorovich import EXTENSIONS, Critic, extend
from divergences.slopes import METRICS
from divergences.wasserstein import wasserstein

__all__ = ["WassersteinBracket", "stratified_sample", "wasserstein_bracket"]

_MINIMUM = 8
# Fresh points of a law or sampler are cheap: the critic is averaged over at least this many.
_FRESH = 20_000
_CHOICES = ("validated", *EXTENSIONS)


@dataclass(frozen=True)
class WassersteinBracket:
    """W₁ of two laws between a lower and an upper end, each with its statistical error.

    Attributes:
        lower: held-out mean of the exact critic of the training part; its mean is at most W₁.
        upper: the plug-in W₁ of the samples; its mean is at least W₁.
        null: the plug-in of two samples of *one* law, of these sizes: what a perfect generator would score. Both are
            of p where p is a law or sampler; of an array, one random exchange of points with q. An ``upper`` near it
            says nothing against equal laws.
        extension: how the critic was extended from its atoms.
        critic: the critic itself.
    """

    lower: Estimate
    upper: Estimate
    null: Estimate
    extension: str
    critic: Critic

    @property
    def interval(self) -> tuple[float, float]:
        """From the lower end of ``lower`` (at least 0) to the upper end of ``upper``: holds W₁ with 95 % or more."""
        return max(self.lower.interval[0], 0.0), self.upper.interval[1]

    def __str__(self) -> str:
        return f"W₁ in [{self.lower}, {self.upper}], plug-in of one law {self.null.value:.3g}"


class _Points(NamedTuple):
    """A sample, and which part of a mixture each point came from (None: independent draws)."""

    points: Float64[np.ndarray, "n d"]
    strata: np.ndarray | None


class _Side(NamedTuple):
    """All points for the plug-in, those that fit the critic, and those that judge it."""

    whole: _Points
    train: Float64[np.ndarray, "n d"]
    held: _Points
    another: Callable[[int], _Points] | None


def wasserstein_bracket(
    p: Any,
    q: Any,
    *,
    rng: np.random.Generator,
    held_out: float = 0.5,
    n: int = 1000,
    metric: str = "euclidean",
    extension: str = "validated",
) -> WassersteinBracket:
    """W₁ (order 1 only) of the laws behind two samples: [held-out exact critic, plug-in], with errors.

    An array is split at random: one part fits the critic, the part held out averages it, and the whole is the plug-in.
    Of a law, or of a sampler ``(n, rng) -> array``, n points are drawn for the plug-in and the critic, and fresh ones
    (20 000, or n if that is more) to average it; laws are sampled stratified by mixture part.

    Regime: the lower end is a valid bound in expectation for any n and dimension; its interval is normal theory for two
    means. The interval of the upper end covers the mean of the plug-in in 95 % or more. Neither end corrects for the
    distance between them, which falls as n^(−1/d): in ten dimensions the bracket is wide, and says so.

    Args:
        p: samples (n, d) or (n,), at least 8 independent ones; a law; or a sampler.
        q: likewise, in the same space.
        rng: splits and draws.
        held_out: share of an array that is kept from the critic, in (0, 1).
        n: points drawn of a law or sampler.
        metric: ``"euclidean"``, ``"cityblock"`` or ``"chebyshev"``.
        extension: ``"upper"``, ``"lower"`` or ``"average"``; ``"validated"`` takes the one that does best when one half
            of the *training* points fits and the other judges: the held-out part stays untouched.

    Raises:
        InputError: unusable samples, too few of them, different dimensions.
        NotCertified: an optimal transport failed its certificate.

    >>> rng = np.random.default_rng(0)
    >>> bracket = wasserstein_bracket(rng.normal(size=2000), rng.normal(size=2000) + 1, rng=rng)
    >>> bracket.interval[0] < 1 < bracket.interval[1]
    True
    """
    draw = as_generator(rng)
    share = as_number(held_out, "held_out", above=0.0, below=1.0)
    count = as_count(n, "n", minimum=_MINIMUM)
    one_of(metric, "metric", METRICS)
    one_of(extension, "extension", _CHOICES)
    left, right = (_side(value, name, share, count, draw) for value, name in ((p, "p"), (q, "q")))
    dims = left.train.shape[1], right.train.shape[1]
    if dims[0] != dims[1]:
        raise InputError(f"p and q must live in the same space; p has dimension {dims[0]}, q has {dims[1]}.")
    if extension == "validated":
        extension = _best_extension(left.train, right.train, metric, draw)
    critic = _fit(left.train, right.train, metric, (extension,))[0]
    lower = welch(
        *(sample_moments(critic(side.held.points), side.held.strata) for side in (left, right)),
        method=f"exact critic ({extension}) on held-out samples: a lower bound in expectation",
    )
    upper = _plug_in(left.whole, right.whole, metric)
    size = len(left.whole.points)
    if left.another is not None:
        null = _plug_in(left.whole, left.another(len(right.whole.points)), metric)
    else:
        pool = draw.permutation(np.concatenate([left.whole.points, right.whole.points]))
        null = _plug_in(_Points(pool[:size], None), _Points(pool[size:], None), metric)
    note = "biased upwards: its mean, not W₁ itself, is what the interval covers"
    source = "two samples of p" if left.another is not None else "relabelled points"
    return WassersteinBracket(lower, replace(upper, note=note), replace(null, note=source), extension, critic)


def stratified_sample(law: Any, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
    """Draw n points of a mixture with its components in proportion, up to one point each; in random order.

    The counts are n·weight where these are whole numbers; else they are rounded at random such that each has exactly
    that mean: the points have the right law on average, only the noise of the counts is gone. They are *not*
    independent: standard errors that assume so are too large.

    Args:
        law: a ``Mixture``, or anything ``as_distribution`` takes (a law that is no mixture is simply sampled).
        n: how many points.
        rng: draws them.

    >>> from divergences import Gaussian, Mixture
    >>> pair = Mixture([Gaussian(-9.0, 1.0), Gaussian(9.0, 1.0)])
    >>> int((stratified_sample(pair, 100, np.random.default_rng(0)) > 0).sum())
    50
    """
    return _stratified(as_distribution(law, "law"), as_count(n, "n"), as_generator(rng)).points


def _stratified(law: Distribution, n: int, rng: np.random.Generator) -> _Points:
    weights, leaves = parts_of(law)
    # Systematic rounding: one uniform offset, so that each count is ⌊n w⌋ or ⌈n w⌉ with mean n w, and they add to n.
    edges = np.concatenate([[0.0], np.cumsum(weights)])
    edges[-1] = 1.0
    counts = np.diff(np.ceil(n * edges - rng.uniform())).astype(np.intp)
    points = np.concatenate([leaf.sample(int(k), rng) for leaf, k in zip(leaves, counts, strict=True)])
    order = rng.permutation(n)
    strata = np.repeat(np.arange(len(leaves)), counts)[order] if len(leaves) > 1 else None
    return _Points(points[order], strata)


def _side(value: Any, name: str, share: float, n: int, rng: np.random.Generator) -> _Side:
    if isinstance(value, np.ndarray | list | tuple) or (hasattr(value, "__array__") and not callable(value)):
        points = as_points(value, name, minimum=_MINIMUM)
        held = round(share * len(points))
        if min(held, len(points) - held) < _MINIMUM // 2:
            raise InputError(
                f"held_out={share:g} leaves {len(points) - held} of {len(points)} points of {name} to fit the critic "
                f"and {held} to judge it; both need at least {_MINIMUM // 2}."
            )
        shuffled = rng.permutation(points)
        return _Side(_Points(points, None), shuffled[held:], _Points(shuffled[:held], None), None)
    fresh = max(_FRESH, n)
    if callable(value) and not hasattr(value, "sample") and not hasattr(value, "dist"):

        def another(size: int) -> _Points:
            points = as_points(value(size, rng), f"what {name} sampled")
            if len(points) != size:
                raise InputError(f"{name}, a sampler, was asked for {size} points and gave {len(points)}.")
            return _Points(points, None)

        whole = another(n)
        return _Side(whole, whole.points, another(fresh), another)
    law = as_distribution(value, name)
    whole = _stratified(law, n, rng)
    return _Side(whole, whole.points, _stratified(law, fresh, rng), lambda size: _stratified(law, size, rng))


def _fit(x: np.ndarray, y: np.ndarray, metric: str, extensions: tuple[str, ...]) -> list[Critic]:
    """Exact critics of two samples, one per extension, from one transport."""
    transport = wasserstein(x, y, metric=metric)
    if transport.potentials is None:
        raise InputError("this transport has no potentials, so no critic.")
    return [extend(Discrete(x), Discrete(y), transport.potentials, metric, one) for one in extensions]


def _best_extension(x: np.ndarray, y: np.ndarray, metric: str, rng: np.random.Generator) -> str:
    """Fit on one half of the training points, judge on the other."""
    x, y = rng.permutation(x), rng.permutation(y)
    a, b = len(x) // 2, len(y) // 2
    critics = _fit(x[:a], y[:b], metric, EXTENSIONS)
    gains = [float(critic(x[a:]).mean() - critic(y[b:]).mean()) for critic in critics]
    return EXTENSIONS[int(np.argmax(gains))]


def _plug_in(x: _Points, y: _Points, metric: str) -> Estimate:
    """W₁ of the samples; its spread around its own mean by the influence of single points."""
    transport = wasserstein(x.points, y.points, metric=metric)
    if transport.potentials is None:
        raise InputError("this transport has no potentials, so no error can be stated.")
    u, v = transport.potentials
    spread = welch(sample_moments(u, x.strata), sample_moments(v, y.strata), method="")
    return Estimate(
        transport.cost.value,
        spread.error + transport.cost.error,
        level=spread.level,
        method="plug-in W₁ of the samples, influence bound on its spread",
        n=len(u) + len(v),
    )
