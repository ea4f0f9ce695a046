r"""How steep a function is: the largest slope that a search can find.

$$ L = \sup_{x \ne y} \frac{|f(x) - f(y)|}{|x - y|} $$

Every pair of points gives a *lower* bound of L; no number of pairs gives an upper one. Three facts guide the search.
Far pairs cannot mislead: a slope over a long way is shared by at least one of its halves, so that bisecting a pair and
keeping the steeper half never loses. Where f is smooth the steepest direction is that of the gradient, which finite
differences reveal. And f may be steepest off the data, between the two samples or beyond them: gradient penalties act
on the lines between real and generated points only.

Reference: *Improved Training of Wasserstein GANs* (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_points, one_of
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.kantorovich import known_slope

__all__ = ["METRICS", "CheckedCritic", "lipschitz"]

METRICS = ("euclidean", "cityblock", "chebyshev")
_NORM = {"euclidean": 2, "cityblock": 1, "chebyshev": np.inf}
_BLOCK = 1 << 17
# Shortest distance over which a slope is taken, relative to the spread of the points.
_SHORTEST = 1e-4
_CHAINS = 24
_ROUNDS = 24


def lipschitz(
    critic: Any, points: ArrayLike, *, rng: np.random.Generator | None = None, metric: str = "euclidean",
    budget: int = 200_000,
) -> Estimate:  # fmt: skip
    """Lipschitz constant of a critic: exact for exact critics, else the largest slope found, a lower bound.

    The search looks at far pairs and near pairs on the points, between them and around them, along finite-difference
    gradients, and then climbs: from the steepest places it moves along the gradient and at random, and bisects,
    keeping what is steeper. Slopes are taken over no less than 1e-4 of the spread of the points, and over more where
    the function is noisy (float32). For a discontinuous f the answer is a jump over that distance; the truth is ∞.

    Args:
        critic: maps x (n, d) to (n,).
        points: where it matters, such as samples of both laws, shape (n, d), at least 2 different ones.
        rng: draws the pairs; not needed for exact critics.
        metric: ``"euclidean"``, ``"cityblock"`` or ``"chebyshev"``.
        budget: how many evaluations to spend, about; at least 2000.

    Returns:
        The steepest slope. Its interval is [slope − rounding, ∞) for a search, and the point itself for a proof.

    Raises:
        InputError: a critic that gives NaN or the wrong shape, all points equal, no ``rng`` where one is needed.

    >>> rng = np.random.default_rng(0)
    >>> found = lipschitz(lambda x: 3 * np.sin(x[:, 0]), rng.normal(size=(100, 2)), rng=rng)
    >>> round(found.value, 3), found.interval[1]
    (3.0, inf)
    """
    function = CheckedCritic(critic)
    known = known_slope(critic, one_of(metric, "metric", METRICS))
    place = as_points(points, "points", minimum=2)
    count = as_count(budget, "budget", minimum=2000)
    if known is not None:
        return Estimate(known, 0.0, method="by construction (bound)")
    if rng is None:
        raise InputError("rng is needed to search for the slope of this critic: rng=numpy.random.default_rng(0).")
    spread = float(np.sqrt(((place - place.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if spread == 0:
        raise InputError("points are all equal: there is no slope between them. Give samples of both laws.")
    return _Search(function, place, spread, as_generator(rng), metric).run(count)


class CheckedCritic:
    """A critic, called in blocks, its answers checked."""

    def __init__(self, critic: Any) -> None:
        if not callable(critic):
            raise InputError(f"critic must be a function from x (n, d) to (n,); it is {type(critic).__name__}.")
        self.critic = critic

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """f(x), one finite number per point."""
        parts = [self._block(x[start : start + _BLOCK]) for start in range(0, len(x), _BLOCK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _block(self, x: np.ndarray) -> np.ndarray:
        values = as_array(self.critic(x), "the value of critic")
        if values.shape != (len(x),):
            hint = " Drop the last axis." if values.shape == (len(x), 1) else ""
            raise InputError(
                f"critic must map x of shape {x.shape} to ({len(x)},), one score per point; it gave shape "
                f"{values.shape}.{hint}"
            )
        if not np.isfinite(values).all():
            where = x[~np.isfinite(values)][0].tolist()
            raise InputError(
                f"critic gave NaN or infinite scores, first at x = {where}. A Lipschitz function has none."
            )
        return values


class _Search:
    """Looks for the steepest secant of f."""

    def __init__(
        self, function: CheckedCritic, points: np.ndarray, spread: float, rng: np.random.Generator, metric: str
    ) -> None:
        self.function, self.points, self.spread, self.rng, self.metric = function, points, spread, rng, metric
        self.slope, self.blur, self.calls = 0.0, 0.0, 0
        # So far from 0, differences of coordinates lose digits.
        self.ulp = 2.3e-16 * float(np.abs(points).max())
        self.noise = self._noise()
        self.step = _SHORTEST * spread

    def run(self, budget: int) -> Estimate:
        """Pairs, gradients, ascent."""
        self._pairs(budget // 8)
        # Noise may feign a slope: over the shortest step it must stay a thousandth of the slope there is.
        if self.slope > 0:
            self.step = min(max(self.step, 2e3 * self.noise / self.slope), 0.1 * self.spread)
        starts = self._gradients(budget // 4)
        self._climb(starts, budget - self.calls)
        return Estimate(
            self.slope,
            np.inf,
            method="largest slope found (lower bound of the Lipschitz constant)",
            n=self.calls,
            bounds=(max(self.slope - self.blur, 0.0), np.inf),
            note="a search cannot exclude steeper places",
        )

    def _values(self, x: np.ndarray) -> np.ndarray:
        self.calls += len(x)
        return self.function(x)

    def _length(self, difference: np.ndarray) -> np.ndarray:
        return np.linalg.norm(difference, ord=_NORM[self.metric], axis=-1)

    def _seen(self, slopes: np.ndarray, distances: np.ndarray) -> None:
        if len(slopes) and slopes.max() > self.slope:
            best = int(slopes.argmax())
            self.slope = float(slopes[best])
            self.blur = 2 * (self.noise + self.ulp * self.slope) / float(distances[best])

    def _noise(self) -> float:
        """How rough f is where it should be straight: the residual of short straight runs."""
        t = np.linspace(-0.5, 0.5, 33)
        worst = 0.0
        for start in self._anywhere(8):
            values = self._values(start + 1e-6 * self.spread * t[:, None] * self._directions(1))
            fitted = values.mean() + t * (t @ (values - values.mean())) / (t @ t)
            worst = max(worst, float(np.abs(values - fitted).max()))
        return worst

    def _directions(self, n: int) -> np.ndarray:
        raw = self.rng.standard_normal((n, self.points.shape[1]))
        return raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def _anywhere(self, n: int) -> np.ndarray:
        """On the points, between two of them, and around them."""
        first, second = (self.points[self.rng.integers(len(self.points), size=n)] for _ in range(2))
        kind = np.arange(n) % 3
        share = np.where(kind == 1, self.rng.uniform(size=n), 0.0)[:, None]
        away = np.where(kind == 2, 0.3 * self.spread * self.rng.exponential(size=n), 0.0)[:, None]
        return first + share * (second - first) + away * self._directions(n)

    def _pairs(self, budget: int) -> None:
        n = max(budget // 2, 2)
        start = self._anywhere(n)
        far = self.points[self.rng.integers(len(self.points), size=n)]
        reach = self.spread * np.geomspace(1e-3, 3.0, n)[:, None]
        stop = np.where((np.arange(n) % 2 == 0)[:, None], far, start + reach * self._directions(n))
        distance = self._length(stop - start)
        apart = distance > self.step
        start, stop, distance = start[apart], stop[apart], distance[apart]
        if len(start) == 0:
            return
        rise = np.abs(self._values(start) - self._values(stop))
        self._seen(rise / distance, distance)
        # A steep way has a steeper half: follow the best ones down.
        best = np.argsort(rise / distance)[-_CHAINS:]
        low, high = start[best], stop[best]
        while len(low):
            long = self._length(high - low) > 4 * self.step
            low, high = low[long], high[long]
            if len(low) == 0:
                return
            middle = (low + high) / 2
            ends, center = (self._values(low), self._values(high)), self._values(middle)
            left = np.abs(center - ends[0]) >= np.abs(ends[1] - center)
            low, high = np.where(left[:, None], low, middle), np.where(left[:, None], middle, high)
            distance = self._length(high - low)
            self._seen(np.where(left, np.abs(center - ends[0]), np.abs(ends[1] - center)) / distance, distance)

    def _along(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slope of a secant through x along the steepest direction, and that direction, by central differences."""
        n, d = x.shape
        shift = self.step * np.eye(d)
        around = np.concatenate([(x[:, None] + shift).reshape(-1, d), (x[:, None] - shift).reshape(-1, d)])
        values = self._values(around).reshape(2, n, d)
        gradient = (values[0] - values[1]) / (2 * self.step)
        if self.metric == "cityblock":
            top = np.abs(gradient).argmax(axis=1)
            direction = np.zeros_like(gradient)
            direction[np.arange(n), top] = np.sign(gradient[np.arange(n), top])
        elif self.metric == "chebyshev":
            direction = np.sign(gradient)
        else:
            length = np.linalg.norm(gradient, axis=1, keepdims=True)
            direction = np.divide(gradient, length, out=np.zeros_like(gradient), where=length > 0)
        ahead, behind = x + self.step * direction, x - self.step * direction
        distance = self._length(ahead - behind)
        moving = distance > 0
        slopes = np.zeros(n)
        rise = np.abs(self._values(ahead) - self._values(behind))
        slopes[moving] = rise[moving] / distance[moving]
        self._seen(slopes[moving], distance[moving])
        return slopes, direction

    def _gradients(self, budget: int) -> np.ndarray:
        """The places of steepest gradient among as many as the budget allows."""
        n = int(np.clip(budget // (2 * self.points.shape[1] + 2), _CHAINS, 5000))
        places = self._anywhere(n)
        slopes, _ = self._along(places)
        return places[np.argsort(slopes)[-_CHAINS:]]

    def _climb(self, x: np.ndarray, budget: int) -> None:
        """From each start: look along the gradient, then jump at random, ever shorter; keep what is steeper."""
        cost = len(x) * (2 * self.points.shape[1] + 2)
        rounds = int(np.clip(budget // (2 * cost), 2, 4 * _ROUNDS))
        slopes, direction = self._along(x)
        ahead = self.spread * np.concatenate([-np.geomspace(0.3, 1e-3, 5), np.geomspace(1e-3, 0.3, 5)])
        for scale in self.spread * np.geomspace(0.3, 2e-4, rounds):
            line = x[:, None] + ahead[:, None] * direction[:, None]
            values = self._values(line.reshape(-1, x.shape[1])).reshape(len(x), len(ahead))
            rise = np.abs(np.diff(values, axis=1)) / np.diff(ahead)
            best = rise.argmax(axis=1)
            middle = (ahead[best] + ahead[best + 1]) / 2
            jump = scale * self.rng.standard_normal(x.shape) / np.sqrt(x.shape[1])
            for proposal in (x + middle[:, None] * direction, x + jump):
                new_slopes, new_direction = self._along(proposal)
                better = new_slopes > slopes
                x, slopes = np.where(better[:, None], proposal, x), np.where(better, new_slopes, slopes)
                direction = np.where(better[:, None], new_direction, direction)
