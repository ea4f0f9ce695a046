r"""Claims about scores: the mean over repeated draws beside what theory says it is.

Some nulls hold for every law. Under equal laws a generated sample y may change places with any of the real samples, so
it lies nearer to x_i than the k-th of its N − 1 neighbours with probability k/N: the expected density is
(1/k) Σ_i k/N = 1. That none of M generated samples does so is an event of ranks alone; the expected coverage is
1 − Π_{j=1}^{k} (N − j)/(N + M − j). Both are checked on a law without a mean, too.

The kernel distances have closed forms between Gaussians. For KID's kernel, with q = |μ|², between N(0, I_d) and
N(μ, I_d), from E(x·y)² and E(x·y)³,

    MMD² = (1 + q/d)³ + 3(1 + q/d)(2q + d)/d² + 6q/d³ + 1 + 3/d − 2(1 + 3(q + d)/d²),

and for the kernel exp(−|x−y|²/2h²), 2 (h²/(h²+2))^{d/2} (1 − e^{−q/(2h²+4)}).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float64

from divergences import Estimate, Gaussian, Mixture
from divergences.claim import Claim, exact

__all__ = ["SCORE_CLAIMS"]

_SEED = 20_200_612
# Two-sided 99.9 %: a table of claims should not fail by chance.
_LEVEL, _Z = 0.999, 3.2905
_MANIFOLD = (
    "Reliable fidelity and diversity metrics for generative models (Naeem et al., 2020), "
    "https://arxiv.org/abs/2002.09797"
)
_KID = "Demystifying MMD GANs (Bińkowski et al., 2018), https://arxiv.org/abs/1801.01401"
_MMD = "A kernel two-sample test (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html"
_FID = "Effectively unbiased FID and Inception Score (Chong, Forsyth, 2020), https://arxiv.org/abs/1911.07023"
_MODES = "VEEGAN: reducing mode collapse in GANs (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761"
_ENTROPY = (
    "Note on the bias of information estimates (Miller, 1955); The statistical estimation of entropy in the "
    "non-parametric case (Harris, 1975)"
)
_VENDI = "The Vendi Score (Friedman, Dieng, 2023), https://arxiv.org/abs/2210.02410"
_D, _SHIFT, _SCALE = 8, 1.0, 1.2


def _mean(values: Iterable[float]) -> Estimate:
    """The mean of repeats, with an interval of 99.9 %."""
    found = np.array(list(values))
    arm = _Z * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Estimate(float(found.mean()), arm, level=_LEVEL, method="mean over repeated draws", n=len(found))


def _normal(n: int, d: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
    return rng.standard_normal((n, d))


def _cauchy(n: int, d: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
    return rng.standard_normal((n, d)) / rng.standard_normal((n, 1))


@functools.cache
def _under_equality(law: Callable[..., np.ndarray], d: int) -> tuple[tuple[float, float], ...]:
    """Coverage and density of 60 generated samples beside 90 real ones of the same law, k = 3, in repeated draws."""
    from evaluation.manifold import prdc

    rng = np.random.default_rng(_SEED)
    drawn = (prdc(generated=law(60, d, rng), reference=law(90, d, rng), k=3) for _ in range(80))
    return tuple((scores.coverage.value, scores.density.value) for scores in drawn)


def _mean_coverage(law: Callable[..., np.ndarray], d: int) -> Estimate:
    return _mean(coverage for coverage, _ in _under_equality(law, d))


def _mean_density(law: Callable[..., np.ndarray], d: int) -> Estimate:
    return _mean(density for _, density in _under_equality(law, d))


def _coverage_null() -> Estimate:
    return exact(1 - math.prod((90 - j) / (150 - j) for j in (1, 2, 3)), "ranks of exchangeable samples")


def _pairs(n: int, count: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Pairs of samples of N(0, I) and N(e₁, I)."""
    rng = np.random.default_rng(_SEED)
    for _ in range(count):
        y = rng.standard_normal((n, _D))
        y[:, 0] += _SHIFT
        yield rng.standard_normal((n, _D)), y


def _kid_mean() -> Estimate:
    from evaluation.kernel import kid

    return _mean(kid(generated=y, reference=x).value for x, y in _pairs(300, 60))


def _kid_closed() -> Estimate:
    d, q = _D, _SHIFT**2
    own = (1 + q / d) ** 3 + 3 * (1 + q / d) * (2 * q + d) / d**2 + 6 * q / d**3
    return exact(own + 1 + 3 / d - 2 * (1 + 3 * (q + d) / d**2), "moments of Gaussians")


def _mmd_mean() -> Estimate:
    from evaluation.kernel import rbf_mmd

    return _mean(rbf_mmd(generated=y, reference=x, bandwidths=2.0).value for x, y in _pairs(300, 60))


def _mmd_closed() -> Estimate:
    h2 = 4.0
    return exact(2 * (h2 / (h2 + 2)) ** (_D / 2) * -math.expm1(-(_SHIFT**2) / (2 * h2 + 4)), "Gaussian integral")


def _fids(n: int, count: int, shift: float, scale: float) -> Iterable[Estimate]:
    from evaluation.frechet import fid

    rng = np.random.default_rng(_SEED)
    for _ in range(count):
        x, y = rng.standard_normal((2, n, _D))
        yield fid(generated=scale * y + shift, reference=x)


def _fid_debiased() -> Estimate:
    return _mean(found.value for found in _fids(150, 150, 0.5, _SCALE))


def _fid_excess() -> Estimate:
    return _mean(found.raw or 0.0 for found in _fids(400, 100, 0.0, 1.0))


def _fid_excess_known() -> Estimate:
    """2d/n from the means, d(d+1)/2n from the covariances; the next terms are smaller by about d/n."""
    first = (2 * _D + _D * (_D + 1) / 2) / 400
    return Estimate(first, first * _D / 400, method="first order; error: the size of the next (estimate)")


def _modes(d: int) -> Mixture:
    """Four equal modes far apart."""
    centers = np.zeros((4, d))
    centers[:, 0] = 100.0 * np.arange(4)
    return Mixture([Gaussian(center, np.eye(d)) for center in centers])


def _high_quality(d: int) -> Estimate:
    from evaluation.modes import mode_coverage

    rng, law = np.random.default_rng(_SEED), _modes(d)
    return _mean(mode_coverage(generated=law.sample(1000, rng), modes=law).high_quality.value for _ in range(40))


def _within_three(d: int) -> Estimate:
    """P(|z| < 3) by parts; above three dimensions the rule is the quantile that is 3σ in the plane."""
    if d == 2 or d > 3:
        return exact(-math.expm1(-4.5), "integral in polar coordinates")
    tail = 0.0 if d == 1 else 6 / math.sqrt(2 * math.pi) * math.exp(-4.5)
    return exact(math.erf(3 / math.sqrt(2)) - tail, "integration by parts")


def _histogram_floor() -> Estimate:
    from evaluation.modes import mode_coverage

    rng, law = np.random.default_rng(_SEED), _modes(2)
    found = (mode_coverage(generated=law.sample(400, rng), modes=law).reverse_kl.raw for _ in range(150))
    return _mean(value or 0.0 for value in found)


def _histogram_floor_known() -> Estimate:
    """(K − 1)/2n + (K² − 1)/12n² for K equal shares, n the hits; the next term is below K³/n³."""
    k, n = 4, 400 * -math.expm1(-4.5)
    value = (k - 1) / (2 * n) + (k**2 - 1) / (12 * n**2)
    return Estimate(value, (k / n) ** 3, method="expansion in 1/n; error: the size of the next term (estimate)")


def _vendi_of_classes() -> Estimate:
    from evaluation.vendi import vendi

    rows = np.repeat(np.eye(3), (60, 30, 10), axis=0)
    return Estimate(vendi(generated=rows).score.value, 1e-9, method="eigenvalues of the cosine matrix")


def _perplexity() -> Estimate:
    shares = (0.6, 0.3, 0.1)
    return exact(math.exp(-sum(p * math.log(p) for p in shares)), "entropy of the shares")


def _manifold_claims() -> Iterable[Claim]:
    for label, law, d in (("normal_2d", _normal, 2), ("cauchy_10d", _cauchy, 10)):
        yield Claim(
            name=f"coverage_null_{label}",
            statement=r"P = Q \Rightarrow E\,\mathrm{coverage} = 1 - \prod_{j=1}^{k}\frac{N-j}{N+M-j}",
            relation="=",
            reference=_MANIFOLD,
            left=functools.partial(_mean_coverage, law, d),
            right=_coverage_null,
        )
        yield Claim(
            name=f"density_null_{label}",
            statement=r"P = Q \Rightarrow E\,\mathrm{density} = 1",
            relation="=",
            reference=_MANIFOLD,
            left=functools.partial(_mean_density, law, d),
            right=functools.partial(exact, 1.0, "ranks of exchangeable samples"),
        )


SCORE_CLAIMS: tuple[Claim, ...] = (
    *_manifold_claims(),
    Claim(
        name="kid_shift",
        statement=r"E\,\mathrm{KID} = \mathrm{MMD}^2_{(x\cdot y/d+1)^3}(N(0,I), N(e_1,I)),\ d=8",
        relation="=",
        reference=_KID,
        left=_kid_mean,
        right=_kid_closed,
    ),
    Claim(
        name="rbf_mmd_shift",
        statement=r"E\,\widehat{\mathrm{MMD}}^2 = 2\left(\tfrac{h^2}{h^2+2}\right)^{d/2}"
        r"\left(1-e^{-|\mu|^2/(2h^2+4)}\right)",
        relation="=",
        reference=_MMD,
        left=_mmd_mean,
        right=_mmd_closed,
    ),
    Claim(
        name="fid_debiased",
        statement=r"E\,\mathrm{FID} = |\mu|^2 + d(1-s)^2,\ N(0,I)\text{ and }N(\mu,s^2I),\ n = 150",
        relation="=",
        reference=_FID,
        left=_fid_debiased,
        right=functools.partial(exact, _D * (0.25 + (_SCALE - 1) ** 2)),
    ),
    Claim(
        name="fid_plain_bias",
        statement=r"E\,\mathrm{FID}_{\mathrm{plain}} \approx \frac{2d}{n} + \frac{d(d+1)}{2n},\ P = Q = N(0,I_d)",
        relation="=",
        reference=_FID,
        left=_fid_excess,
        right=_fid_excess_known,
    ),
    *(
        Claim(
            name=f"high_quality_{d}d",
            statement=rf"P(\text{{high quality}}) = P(\chi^2_d \le {'9' if d <= 3 else 'q_{0.98889}'}),\ d={d}",
            relation="=",
            reference=_MODES,
            left=functools.partial(_high_quality, d),
            right=functools.partial(_within_three, d),
        )
        for d in (1, 2, 3, 10)
    ),
    Claim(
        name="mode_histogram_floor",
        statement=r"E\,\mathrm{KL}(\hat h \,\|\, h) = \frac{K-1}{2n} + \frac{K^2-1}{12n^2} + O(n^{-3})",
        relation="=",
        reference=_ENTROPY,
        left=_histogram_floor,
        right=_histogram_floor_known,
    ),
    Claim(
        name="vendi_of_classes",
        statement=r"\mathrm{Vendi} = e^{H(\pi)}\ \text{for orthogonal classes of shares } \pi",
        relation="=",
        reference=_VENDI,
        left=_vendi_of_classes,
        right=_perplexity,
    ),
)
