r"""What other libraries call a distribution, adapted: scipy.stats, torch.distributions, scikit-learn.

Laws that have an exact twin here (normal, uniform, mixtures of normals, Gaussian kernel density) become that twin, so
that integrators know their structure. All others are scored by the library they come from; a law of ``scipy.stats``
tells its structure by its quantiles. Torch and scikit-learn are recognised without being imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import gammaln

from divergences.checks import ArrayLike, as_count, as_generator, one_of
from divergences.distributions import (
    Box,
    Discrete,
    Distribution,
    Gaussian,
    Knots,
    Mixture,
    Uniform,
    as_line,
    as_probabilities,
    as_query,
    need_line,
)
from divergences.errors import InputError, NoDensity

__all__ = ["as_distribution"]


class _ScipyLaw:
    """A frozen, continuous law of ``scipy.stats`` on the line."""

    dim = 1

    def __init__(self, frozen: Any) -> None:
        self._frozen = frozen
        low, high = frozen.support()
        self._box = Box(np.array([low], dtype=np.float64), np.array([high], dtype=np.float64))
        # scipy's own logpdf of these two under- or overflows far out in the tail, where a KL still counts.
        names = [*(frozen.dist.shapes.split(", ") if frozen.dist.shapes else []), "loc", "scale"]
        given = {"loc": 0.0, "scale": 1.0} | dict(zip(names, frozen.args, strict=False)) | frozen.kwds
        self._loc, self._scale = float(given["loc"]), float(given["scale"])
        self._log_density: Callable[[np.ndarray], np.ndarray] | None = None
        if frozen.dist.name == "laplace":
            self._log_density = lambda z: -np.abs(z) - np.log(2.0)
        elif frozen.dist.name == "t":
            df = float(given["df"])
            constant = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi)
            self._log_density = lambda z: constant - (df + 1) * np.log(np.hypot(1.0, z / np.sqrt(df)))

    def __repr__(self) -> str:
        return f"as_distribution(scipy.stats.{self._frozen.dist.name}{self._frozen.args})"

    @property
    def support(self) -> Box:
        return self._box

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        points = as_query(x, 1)[:, 0]
        with np.errstate(all="ignore"):
            if self._log_density is not None:
                return self._log_density((points - self._loc) / self._scale) - np.log(self._scale)
            value = np.asarray(self._frozen.logpdf(points), dtype=np.float64)
        # A density may be infinite at a point, as Beta(½, ½) is at its edges: no mass, but no number either.
        return np.where(np.isposinf(value), -np.inf, value)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        draws = self._frozen.rvs(size=as_count(n, "n", minimum=0), random_state=as_generator(rng))
        return np.asarray(draws, dtype=np.float64).reshape(n, 1)

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._frozen.cdf(as_line(x)), dtype=np.float64)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._frozen.sf(as_line(x)), dtype=np.float64)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._frozen.ppf(as_probabilities(u)), dtype=np.float64)

    def knots(self) -> Knots:
        # Deciles in the middle, then powers of ten out to probability 1e-300: heavy tails get geometric panels.
        middle = np.linspace(0.05, 0.95, 19)
        tail = 10.0 ** -np.concatenate([np.arange(1.5, 20, 0.5), np.arange(20.0, 60, 4), np.arange(60.0, 301, 10)])
        with np.errstate(all="ignore"):
            position = np.concatenate([self._frozen.ppf(middle), self._frozen.ppf(tail), self._frozen.isf(tail)])
        edges = np.concatenate([self._box.low, self._box.high])
        position = np.unique(position[np.isfinite(position)])
        gaps = np.diff(position)
        scale = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
        ends = edges[np.isfinite(edges)]
        return Knots(np.concatenate([position, ends]), np.concatenate([scale, np.zeros(ends.size)]))

    def tails(self, levels: tuple[float, ...]) -> list[tuple[float, ...]]:
        """Points beyond which ever less mass lies, for each infinite side: where a heavy tail shows."""
        with np.errstate(all="ignore"):
            sides = [
                self._frozen.ppf(levels) if np.isneginf(self._box.low[0]) else np.zeros(1),
                self._frozen.isf(levels) if np.isposinf(self._box.high[0]) else np.zeros(1),
            ]
        # Gaussian-like tails end within a few units of each other; only tails that span decades can diverge.
        return [
            tuple(map(float, side))
            for side in sides
            if np.isfinite(side).all() and np.abs(side).min() > 0 and (np.abs(side[1:]) > 10 * np.abs(side[:-1])).all()
        ]

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        return np.ones(1), [self]


class _TorchLaw:
    """A continuous law of ``torch.distributions`` without a twin here; scored in float64."""

    def __init__(self, law: Any) -> None:
        self._law = law
        shape = tuple(law.batch_shape) + tuple(law.event_shape)
        if tuple(law.batch_shape) not in ((), (1,)) or len(law.event_shape) > 1:
            raise InputError(
                f"a torch distribution must be one law on R^d (batch_shape () and event_shape () or (d,)); "
                f"this one has batch_shape {tuple(law.batch_shape)}. Wrap it in torch.distributions.Independent, or "
                "pick one member of the batch."
            )
        self.dim = int(np.prod(shape)) if shape else 1
        self._scalar = len(law.event_shape) == 0

    def __repr__(self) -> str:
        return f"as_distribution({self._law!r})"

    @property
    def support(self) -> Box:
        low, high = -np.inf, np.inf
        constraint = self._law.support
        for name in ("lower_bound", "upper_bound"):
            bound = getattr(constraint, name, None)
            if bound is not None:
                low, high = (float(bound), high) if name == "lower_bound" else (low, float(bound))
        return Box(np.full(self.dim, low), np.full(self.dim, high))

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        import torch

        points = as_query(x, self.dim)
        inside = self.support.contains(points)
        value = np.full(len(points), -np.inf)
        argument = torch.as_tensor(points[inside, 0] if self._scalar else points[inside], dtype=torch.float64)
        if inside.any():
            with torch.no_grad():
                value[inside] = self._law.log_prob(argument).double().numpy().reshape(-1)
        return value

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        import torch

        # torch.distributions draws from the global stream only: it is borrowed with a seed of ours, and put back.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(int(as_generator(rng).integers(2**63)))
            return self._law.sample((as_count(n, "n", minimum=0),)).double().cpu().numpy().reshape(n, self.dim)


class _KernelDensityLaw:
    """A fitted scikit-learn ``KernelDensity`` with a kernel other than the Gaussian."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._data = np.asarray(model.tree_.data, dtype=np.float64)
        self.dim = self._data.shape[1]

    @property
    def support(self) -> Box:
        compact = self._model.kernel in ("tophat", "epanechnikov", "linear", "cosine")
        reach = self._model.bandwidth_ if compact else np.inf
        return Box(self._data.min(axis=0) - reach, self._data.max(axis=0) + reach)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._model.score_samples(as_query(x, self.dim)), dtype=np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        seed = int(as_generator(rng).integers(2**32 - 1))
        return np.asarray(self._model.sample(as_count(n, "n"), random_state=seed), dtype=np.float64)

    def knots(self) -> Knots:
        need_line(self)
        if self._model.kernel == "exponential":
            reach = np.array([0.0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 740])
        else:
            reach = np.array([0.0, 1.0])
        offsets = self._model.bandwidth_ * np.unique(np.concatenate([-reach, reach]))
        position = np.unique((self._data + offsets).ravel())
        return Knots(position, np.full(position.size, 0.1 * self._model.bandwidth_))


_ADAPTED = (
    "a divergences distribution, a frozen scipy.stats law, a torch.distributions law, or a fitted scikit-learn "
    "GaussianMixture or KernelDensity"
)


def as_distribution(obj: Any, name: str = "distribution") -> Distribution:
    """Adapt what other libraries call a distribution.

    Accepted: anything that already is a ``Distribution``; frozen ``scipy.stats`` laws (univariate, and
    ``multivariate_normal``); ``torch.distributions`` (``Normal``, ``MultivariateNormal``, ``Uniform``,
    ``MixtureSameFamily`` of these become exact twins, others are scored through torch in float64); fitted scikit-learn
    ``GaussianMixture`` and ``KernelDensity``. Torch and scikit-learn are recognised without being imported.

    Args:
        obj: the object to adapt.
        name: what the caller calls it, for the message.

    Raises:
        NoDensity: a sampler or an array of samples was given.
        InputError: a batch of laws, a law that is not fitted, or something else altogether.

    >>> from scipy import stats
    >>> as_distribution(stats.norm(1.0, 2.0))
    Gaussian(1, 4)
    """
    module = type(obj).__module__.split(".")[0]
    if isinstance(obj, type):
        raise InputError(f"{name} is the class {obj.__name__}; make an instance of it first.")
    if module == "scipy":
        return _from_scipy(obj, name)
    if module == "torch":
        return _from_torch(obj, name)
    if module == "sklearn":
        return _from_sklearn(obj, name)
    if isinstance(obj, Distribution):
        return obj
    if isinstance(obj, np.ndarray | list | tuple):
        raise NoDensity(
            f"{name} is an array of samples; a density is needed here. Fit one (evaluation.KDE), use Discrete for the "
            "empirical law, or compare samples directly with wasserstein."
        )
    if callable(obj):
        raise NoDensity(
            f"{name} is a sampler, without a density. Draw from it and fit a density (evaluation.KDE), or compare "
            "samples directly with wasserstein."
        )
    raise InputError(f"{name} must be {_ADAPTED}; it is {type(obj).__name__}.")


def _from_scipy(obj: Any, name: str) -> Distribution:
    dist = getattr(obj, "dist", None)
    if type(obj).__name__ == "multivariate_normal_frozen":
        return Gaussian(obj.mean, obj.cov)
    if dist is None or not hasattr(obj, "support"):
        raise InputError(
            f"{name} is {type(obj).__name__} of scipy; only frozen univariate laws such as scipy.stats.norm(0, 1), and "
            "frozen multivariate_normal, are understood."
        )
    if np.ndim(obj.mean()) > 0:
        raise InputError(f"{name} is a batch of {np.size(obj.mean())} scipy laws; freeze one law at a time.")
    if hasattr(obj, "pmf"):
        low, high = obj.ppf(1e-16), obj.isf(1e-16)
        if high - low > 1e6:
            raise InputError(f"{name} spreads over {high - low:.0f} integers; build a Discrete of the part you need.")
        points = np.arange(low, high + 1)
        mass = obj.pmf(points)
        return Discrete(points, mass / mass.sum())
    if dist.name == "norm":
        return Gaussian(obj.mean(), obj.var())
    if dist.name == "uniform":
        return Uniform(*obj.support())
    return _ScipyLaw(obj)


def _from_torch(obj: Any, name: str) -> Distribution:
    distributions = sys.modules.get("torch.distributions")
    if distributions is None or not isinstance(obj, distributions.Distribution):
        raise NoDensity(f"{name} is a {type(obj).__name__} of torch, not a torch.distributions law; it has no density.")

    def array(tensor: Any) -> np.ndarray:
        return tensor.detach().cpu().double().numpy()

    if isinstance(obj, distributions.Independent) and obj.reinterpreted_batch_ndims == 1:
        base = obj.base_dist
        if isinstance(base, distributions.Normal):
            return Gaussian(array(base.loc), np.diag(array(base.scale) ** 2))
        if isinstance(base, distributions.Uniform):
            return Uniform(array(base.low), array(base.high))
    if isinstance(obj, distributions.MixtureSameFamily) and tuple(obj.batch_shape) == ():
        family = obj.component_distribution
        weights = array(obj.mixture_distribution.probs)
        weights = weights / weights.sum()  # float32 weights sum to 1 only within 1e-7
        if isinstance(family, distributions.Normal):
            pairs = zip(array(family.loc), array(family.scale), strict=True)
            return Mixture([Gaussian(m, s**2) for m, s in pairs], weights)
        if isinstance(family, distributions.MultivariateNormal):
            pairs = zip(array(family.loc), array(family.covariance_matrix), strict=True)
            return Mixture([Gaussian(m, _symmetric(c)) for m, c in pairs], weights)
        if isinstance(family, distributions.Independent) and isinstance(family.base_dist, distributions.Normal):
            pairs = zip(array(family.base_dist.loc), array(family.base_dist.scale), strict=True)
            return Mixture([Gaussian(m, np.diag(s**2)) for m, s in pairs], weights)
    if tuple(obj.batch_shape) in ((), (1,)):
        if isinstance(obj, distributions.Normal):
            return Gaussian(array(obj.loc).reshape(()), array(obj.scale).reshape(()) ** 2)
        if isinstance(obj, distributions.Uniform):
            return Uniform(array(obj.low).reshape(()), array(obj.high).reshape(()))
        if isinstance(obj, distributions.MultivariateNormal):
            covariance = array(obj.covariance_matrix).reshape(tuple(obj.event_shape) * 2)
            return Gaussian(array(obj.loc).reshape(-1), _symmetric(covariance))
        if isinstance(obj, distributions.Categorical):
            mass = array(obj.probs).reshape(-1)
            return Discrete(np.arange(mass.size), mass / mass.sum())
    if obj.support.is_discrete:
        raise InputError(f"{name} is a discrete torch law ({type(obj).__name__}); list its points in a Discrete.")
    return _TorchLaw(obj)


def _from_sklearn(obj: Any, name: str) -> Distribution:
    kind = type(obj).__name__
    if kind in ("GaussianMixture", "BayesianGaussianMixture"):
        if not hasattr(obj, "means_"):
            raise InputError(f"{name} is a {kind} that is not fitted; call its fit(x) first.")
        k, d = obj.means_.shape
        expand = {
            "full": lambda c: c,
            "tied": lambda c: np.broadcast_to(c, (k, d, d)),
            "diag": lambda c: np.stack([np.diag(row) for row in c]),
            "spherical": lambda c: c[:, None, None] * np.eye(d),
        }
        covariances = expand[one_of(obj.covariance_type, "covariance_type", list(expand))](obj.covariances_)
        pairs = zip(obj.means_, covariances, strict=True)
        return Mixture([Gaussian(m, _symmetric(c)) for m, c in pairs], obj.weights_ / obj.weights_.sum())
    if kind == "KernelDensity":
        if not hasattr(obj, "tree_"):
            raise InputError(f"{name} is a KernelDensity that is not fitted; call its fit(x) first.")
        if obj.metric != "euclidean":
            raise InputError(f"{name} is a KernelDensity with metric {obj.metric!r}; only 'euclidean' is understood.")
        if obj.kernel != "gaussian":
            return _KernelDensityLaw(obj)
        data = np.asarray(obj.tree_.data, dtype=np.float64)
        raw = obj.tree_.sample_weight
        weights = None if raw is None else np.asarray(raw) / np.sum(raw)
        variance = obj.bandwidth_**2 * np.eye(data.shape[1])
        return Mixture([Gaussian(point, variance) for point in data], weights)
    raise InputError(f"{name} must be {_ADAPTED}; it is a {kind} of scikit-learn.")


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    """Rounding of float32 covariances is not the user's mistake."""
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2
