r"""Claims about estimates from samples, each with two sides that share no code.

With h = (4/((d+2)n))^{1/(d+4)}, the best bandwidth to first order for N(0, I_d), a Gaussian KDE has the mean integrated
squared error (Fryer, 1976; exact for every n)

    MISE(n, h) = (4π)^{-d/2} [ h^{-d}/n + (1 − 1/n)(1 + h²)^{-d/2} − 2(1 + h²/2)^{-d/2} + 1 ],

which falls like n^{-4/(4+d)}: slowly, and the more slowly the more dimensions. The other side draws samples, builds the
estimate and integrates the squared error on a grid. A slope over finite n has not arrived at its limit; how far it is
from it at these n is known from the closed form and stands as the error of the limit.

Claims about scores stand in ``evaluation.claims_scores``.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float64

from divergences import Estimate
from divergences.claim import Claim, exact
from evaluation.claims_scores import SCORE_CLAIMS
from evaluation.kde import KDE

__all__ = ["CLAIMS"]

_SEED = 20_160_425
_FRYER = "Some errors associated with the non-parametric estimation of density functions (Fryer, 1976)"
_SILVERMAN = (
    "Density estimation for statistics and data analysis (Silverman, 1986), https://doi.org/10.1201/9781315140919"
)
# For each dimension: sizes, repeats of each, steps of the grid on [−5.5, 5.5] (as wide as the narrowest kernel).
_PLAN = {1: ((500, 2800, 16_000), (240, 70, 20), 121), 2: ((100, 600, 3600), (160, 50, 14), 35)}
_REACH = 5.5
# Two-sided 99.9 %: a table of claims should not fail by chance.
_LEVEL, _Z = 0.999, 3.2905


def _best(n: int, dim: int) -> float:
    return float((4 / ((dim + 2) * n)) ** (1 / (dim + 4)))


def _mise(n: int, dim: int) -> float:
    h2 = _best(n, dim) ** 2
    inner = h2 ** (-dim / 2) / n + (1 - 1 / n) * (1 + h2) ** (-dim / 2) - 2 * (1 + h2 / 2) ** (-dim / 2) + 1
    return float((4 * math.pi) ** (-dim / 2) * inner)


def _grid(dim: int, steps: int, reach: float) -> tuple[Float64[np.ndarray, "n d"], float]:
    axis = np.linspace(-reach, reach, steps)
    points = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    return points, float(axis[1] - axis[0]) ** dim


@functools.cache
def _errors(dim: int) -> tuple[Float64[np.ndarray, " repeats"], ...]:
    """Integrated squared errors of estimates from drawn samples: one array per size."""
    sizes, repeats, steps = _PLAN[dim]
    rng = np.random.default_rng(_SEED + dim)
    points, cell = _grid(dim, steps, _REACH)
    truth = np.exp(-0.5 * (points**2).sum(axis=1)) / (2 * math.pi) ** (dim / 2)

    def one(n: int) -> float:
        return float(((np.exp(_estimate(n, dim, rng).log_prob(points)) - truth) ** 2).sum() * cell)

    return tuple(np.array([one(n) for _ in range(count)]) for n, count in zip(sizes, repeats, strict=True))


def _estimate(n: int, dim: int, rng: np.random.Generator) -> KDE:
    return KDE(rng.standard_normal((n, dim)), bandwidth=_best(n, dim))


def _mean_error(dim: int) -> Estimate:
    errors = _errors(dim)[0]
    arm = _Z * float(errors.std(ddof=1)) / math.sqrt(len(errors))
    return Estimate(
        float(errors.mean()), arm, level=_LEVEL, method="drawn samples, squared error on a grid", n=len(errors)
    )


def _slope(dim: int) -> Estimate:
    errors = _errors(dim)
    x = np.log(_PLAN[dim][0])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    means = np.array([own.mean() for own in errors])
    # Delta method: the relative error of each mean is the error of its logarithm.
    relative = np.array([own.std(ddof=1) / math.sqrt(len(own)) for own in errors]) / means
    arm = _Z * float(np.sqrt((weights**2 * relative**2).sum()))
    n = sum(len(own) for own in errors)
    return Estimate(
        float(weights @ np.log(means)), arm, level=_LEVEL, method="least squares on log mean error, drawn samples", n=n
    )


def finite_slope(dim: int) -> float:
    """The slope of the closed form over the sizes that are simulated."""
    x = np.log(_PLAN[dim][0])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return float(weights @ np.log([_mise(n, dim) for n in _PLAN[dim][0]]))


def _limit(dim: int) -> Estimate:
    value = -4 / (4 + dim)
    method = "limit; error: what the closed form still lacks at these n (bound)"
    return Estimate(value, abs(finite_slope(dim) - value), method=method)


def _mass(kernel: str, dim: int) -> Estimate:
    """Sum over a grid; its error from the same with half as many points, which decides nothing finer than a factor."""
    points = np.random.default_rng(_SEED).standard_normal((40, dim)) * 0.7
    law = KDE(points, bandwidth=0.6, kernel=kernel)
    fine, coarse = (
        float(np.exp(law.log_prob(grid)).sum() * cell)
        for grid, cell in (_grid(dim, steps, 9.0) for steps in ((4001, 2001) if dim == 1 else (401, 201)))
    )
    return Estimate(
        fine,
        4 * abs(fine - coarse) + 1e-12,
        method="trapezoidal rule; error four times the change on halving (estimate)",
    )


CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(
            name=f"kde_mass_{kernel}_{dim}d",
            statement=rf"\int \hat p_h(x)\,dx = 1 \quad (\text{{{kernel}}},\ d={dim})",
            relation="=",
            reference=_SILVERMAN,
            left=functools.partial(_mass, kernel, dim),
            right=functools.partial(exact, 1.0),
        )
        for kernel in ("gaussian", "epanechnikov")
        for dim in (1, 2)
    ),
    *(
        Claim(
            name=f"kde_mise_{dim}d",
            statement=r"E\int(\hat p_h-p)^2 = (4\pi)^{-d/2}\left[\tfrac{1}{n h^d}+(1-\tfrac1n)(1+h^2)^{-d/2}"
            rf"-2(1+\tfrac{{h^2}}2)^{{-d/2}}+1\right],\ p=N(0,I_{dim})",
            relation="=",
            reference=_FRYER,
            left=functools.partial(_mean_error, dim),
            right=functools.partial(lambda d: exact(_mise(_PLAN[d][0][0], d)), dim),
        )
        for dim in (1, 2)
    ),
    *(
        Claim(
            name=f"kde_rate_{dim}d",
            statement=rf"E\int(\hat p_h-p)^2 \sim n^{{-4/(4+d)}},\ d={dim}",
            relation="=",
            reference=_SILVERMAN,
            left=functools.partial(_slope, dim),
            right=functools.partial(_limit, dim),
        )
        for dim in (1, 2)
    ),
    *SCORE_CLAIMS,
)
