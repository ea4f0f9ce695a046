r"""Claims about ensembles: what helps against collapse, what tracks quality, what averaging buys; and about scoring.

A statistical effect stands as an exact test over members that differ in their seed alone: the left side is its p-value,
the right side the error rate that is accepted. If there were no effect, such a claim would hold with at most that
probability. Rank correlations are compared by their 95 % intervals over members, which both sides say.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64

from divergences import Estimate, Gaussian, Mixture, wasserstein
from divergences.claim import Claim, exact
from evaluation import ModeCoverage, mode_coverage
from toygen.baselines import memorizer
from toygen.claims_studies import at_least, at_most, ensemble_mean, fresh, told
from toygen.layers import Affine
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.players import gan
from toygen.probes import clouds, scores, transport
from toygen.recipes import Recipe
from toygen.runs import fit_gan
from toygen.targets import ring, two_peaks
from toygen.train import Average, train

__all__ = ["ENSEMBLES"]

WGAN = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
LIN = "PacGAN: the power of two samples in generative adversarial networks (Lin et al., 2018), https://arxiv.org/abs/1712.04086"
VEEGAN = "VEEGAN: reducing mode collapse in GANs (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761"
YAZICI = (
    "The unusual effectiveness of averaging in GAN training (Yazıcı et al., 2019), https://arxiv.org/abs/1806.04498"
)
MESCHEDER = (
    "Which training methods for GANs do actually converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406"
)
THEIS = "A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844"

_RATE = 0.01
_PACKED, _TRACKED = 64, 16
_RUNS = 150


def four_modes() -> Mixture:
    """Four round Gaussians on a circle of radius 3, σ = 0.1."""
    angles = np.arange(4) * math.pi / 2
    return Mixture([Gaussian([3 * math.cos(a), 3 * math.sin(a)], 0.01 * np.eye(2)) for a in angles], np.full(4, 0.25))


@told
def complete(penalty: str, pack: int) -> tuple[int, int]:
    """Of 64 small GANs with a high rate, how many give every one of four modes a fifth of its fair share at least."""
    law = four_modes()
    data = law.sample(4000, np.random.default_rng(41))
    recipe = Recipe(
        penalty=penalty, pack=pack, width=16, depths=(2, 2), learning_rate=2e-2, betas=(0.5, 0.999), decay=0.0,
        input_gain=1.0, schedule="constant", chunk=32,
    )  # fmt: skip
    ensemble = fit_gan(data, recipe=recipe, members=_PACKED, steps=600, seed=97)
    means = np.array([part.mean for part in law.components if isinstance(part, Gaussian)])
    good = 0
    for cloud in ensemble.sample(1000, np.random.default_rng(47)):
        home = ((cloud[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        good += bool((np.bincount(home, minlength=4) >= 0.2 * 250).all())
    return good, _PACKED


def _fisher(better: tuple[str, int], worse: tuple[str, int]) -> Estimate:
    """Exact one-sided test that the first covers all modes more often."""
    from scipy.stats import fisher_exact

    table = [[good, total - good] for good, total in (complete(*better), complete(*worse))]
    p_value = float(fisher_exact(table, alternative="greater")[1])
    method = f"Fisher's exact test, {table[0][0]} against {table[1][0]} of {_PACKED} members complete"
    return exact(p_value, method)


@told
def followed(objective: str) -> tuple[Float64[np.ndarray, "t k"], Float64[np.ndarray, "t k"]]:
    """W₁ to two spikes, and what the discriminator reports, every 20 of 300 steps of 16 GANs that start far away.

    A critic reports E_p f − E_q f, a discriminator V(D, G), both on 1000 fresh points. Both take three steps per step
    of the generator. With the minimax loss that is enough to saturate the discriminator: V(D, G) stays near its ceiling
    of 0, and the generator, which gets hardly any gradient, comes less than half of the way on average. With the
    non-saturating loss it arrives.
    """
    law = Mixture([Gaussian(-1.0, 1e-4), Gaussian(1.0, 1e-4)], [0.5, 0.5])
    rngs = np.random.default_rng(101).spawn(2 * _TRACKED)
    generator = MLP([1, 32, 32, 1], rngs[:_TRACKED], after=Affine([6.0], [1.0]))
    discriminator = MLP([1, 32, 32, 32, 1], rngs[_TRACKED:])
    critic = OBJECTIVES[objective].lipschitz
    turns = gan(
        generator,
        discriminator,
        objective=OBJECTIVES[objective],
        latent=Gaussian([0.0], [[1.0]]),
        penalty=PENALTIES["one_sided" if critic else "none"],
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.9)),
        rng=np.random.default_rng(59),
    )
    turns[0] = replace(turns[0], repeats=3)
    rng = np.random.default_rng(61)
    distances, reports = [], []
    for step in train(turns, fresh(law, _TRACKED, 64), 300):
        if step.index % 20 == 19:
            y = clouds(generator, rng.standard_normal((_TRACKED, 1000, 1)))
            x = law.sample(_TRACKED * 1000, rng).reshape(_TRACKED, 1000, 1)
            real, fake = scores(discriminator, x), scores(discriminator, y)
            distances.append(transport(y, x).value)
            value = -np.logaddexp(0, -real).mean(axis=1) - np.logaddexp(0, fake).mean(axis=1)
            reports.append(real.mean(axis=1) - fake.mean(axis=1) if critic else value)
    return np.array(distances), np.array(reports)


def _ranks(objective: str) -> Float64[np.ndarray, " k"]:
    """Spearman's rank correlation of report and W₁ over each member's training."""
    from scipy.stats import spearmanr

    pairs = zip(*(table.T for table in followed(objective)), strict=True)
    return np.array([float(spearmanr(*pair).statistic) for pair in pairs])


def _tracking(objective: str) -> Estimate:
    """Mean rank correlation, with Student's 95 % interval over members; the method says both."""
    from scipy.special import stdtrit

    ranks = _ranks(objective)
    n, mean = len(ranks), float(ranks.mean())
    arm = float(stdtrit(n - 1, 0.975)) * float(ranks.std(ddof=1)) / math.sqrt(n)
    method = f"{objective}: rank correlation {mean:.2f} [{mean - arm:.2f}, {mean + arm:.2f}] (95 %), {n} members"
    return Estimate(mean, arm, level=0.95, method=method, n=n)


def _sign_test(better: np.ndarray, worse: np.ndarray, what: str) -> Estimate:
    """Exact one-sided sign test that ``better`` is larger."""
    from scipy.stats import binomtest

    wins, n = int((better > worse).sum()), len(better)
    return exact(float(binomtest(wins, n, 0.5, alternative="greater").pvalue), f"sign test: {what}, {wins} of {n}")


@told
def averaged() -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """W₁ to fresh data of 16 averaged generators, and of the same 16 as they were after the last step."""
    law, size = two_peaks(), 16
    rngs = np.random.default_rng(67).spawn(2 * size)
    generator = MLP([1, 16, 16, 1], rngs[:size])
    discriminator = MLP([1, 16, 16, 1], rngs[size:])
    turns = gan(
        generator,
        discriminator,
        objective=OBJECTIVES["non_saturating"],
        latent=Gaussian([0.0], [[1.0]]),
        penalty=PENALTIES["r1"].weighted(0.1),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3, betas=(0.0, 0.99)),
        rng=np.random.default_rng(71),
    )
    average = Average(generator, 0.99)
    for _ in train(turns, fresh(law, size, 64), 800):
        average.update()
    rng = np.random.default_rng(73)
    z = rng.standard_normal((size, 4000, 1))
    x = law.sample(size * 4000, rng).reshape(size, 4000, 1)
    return transport(clouds(average.network, z), x).value, transport(clouds(generator, z), x).value


@functools.cache
def _memorized() -> tuple[np.ndarray, Mixture]:
    law = two_peaks()
    return law.sample(200, np.random.default_rng(79)), law


def _memorizer_to_train() -> Estimate:
    """The largest distance of 10 000 drawn points to the training set."""
    from scipy.spatial import cKDTree

    points, _ = _memorized()
    drawn = memorizer(points)(10_000, np.random.default_rng(83))
    return exact(float(cKDTree(points).query(drawn)[0].max()), "10 000 points, nearest neighbours")


def _memorizer_to_law() -> Estimate:
    """W₁ of the memorizer's law and the target, by the library."""
    from divergences import Discrete

    points, law = _memorized()
    return wasserstein(Discrete(points), law).cost


def _memorizer_by_cdf() -> Estimate:
    """∫|F_n − F| by the trapezoidal rule between the jumps of F_n."""
    from scipy.special import ndtr

    points, law = _memorized()
    knots = np.sort(points[:, 0])
    edges = np.concatenate([[knots[0] - 30.0], knots, [knots[-1] + 30.0]])
    sums = []
    for pieces in (2000, 1000):
        total = 0.0
        for rank, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            x = np.linspace(a, b, pieces + 1)
            cdf = sum(
                weight * ndtr((x - part.mean[0]) / math.sqrt(part.cov[0, 0]))
                for weight, part in zip(law.weights, law.components, strict=True)
                if isinstance(part, Gaussian)
            )
            total += float(np.trapezoid(np.abs(cdf - rank / len(knots)), x))
        sums.append(total)
    return Estimate(sums[0], 4 * abs(sums[0] - sums[1]), method="trapezoidal rule; four times the change on halving")


def lossy(n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """The ring without its modes 2 and 5, one point in ten thrown somewhere far outside."""
    law = ring()
    keep = np.array([0, 1, 3, 4, 6, 7])
    means = np.array([part.mean for part in law.components if isinstance(part, Gaussian)])[keep]
    points = means[rng.integers(0, len(keep), n)] + 0.01 * rng.standard_normal((n, 2))
    away = rng.random(n) < 0.1
    points[away] = 5 + rng.random((int(away.sum()), 2))
    return points


@functools.cache
def _runs() -> list[ModeCoverage]:
    """VEEGAN's and PacGAN's protocol on the lossy sampler: 2500 samples, 150 runs."""
    rng = np.random.default_rng(89)
    return [mode_coverage(generated=lossy(2500, rng), modes=ring()) for _ in range(_RUNS)]


def _scored(score: Callable[[ModeCoverage], float]) -> Estimate:
    return ensemble_mean(np.array([score(run) for run in _runs()]), "2500 samples")


def _kl_of_hits(run: ModeCoverage) -> float:
    """KL of the histogram of the high-quality samples to the fair shares, as PacGAN prints it."""
    hits = np.array([record.hits for record in run.per_mode], dtype=np.float64)
    share = hits[hits > 0] / hits.sum()
    return float((share * np.log(share * len(hits))).sum())


def _floor() -> Estimate:
    """log(8/6), and what counting adds at about 2225 hits: (6 − 1)/(2·hits), to first order (Miller, Madow)."""
    hits = 2500 * 0.9 * (1 - math.exp(-4.5))
    # The next order of the expansion: (Σ 1/p − 1)/(12 n²).
    return Estimate(math.log(8 / 6) + 5 / (2 * hits), 35 / (12 * hits**2), method="log(8/6) + 5/2n, Miller-Madow")


ENSEMBLES: tuple[Claim, ...] = (
    Claim(
        "critic-tracks-quality",
        r"\tfrac12 \le E\,\rho(\text{critic's value}, W_1) \text{ over training (Spearman); two spikes}",
        "≤",
        WGAN,
        lambda: exact(0.5, "stated"),
        lambda: at_least(ensemble_mean(_ranks("wasserstein"), "rank correlations over training")),
    ),
    # What the paper says of the loss of GANs is true of the game it calls by that name, where the loss saturates. The
    # usual, non-saturating game's loss does track here, if less than the critic's value.
    Claim(
        "loss-tracks-less",
        r"E\,\rho(V(D, G), W_1) < E\,\rho(\text{critic's value}, W_1) \text{ (95 \%); two spikes, non-saturating loss}",
        "≤",
        WGAN,
        lambda: at_most(_tracking("non_saturating")),
        lambda: at_least(_tracking("wasserstein")),
    ),
    Claim(
        "saturated-loss-tracks-less",
        r"E\,\rho(V(D, G), W_1) < E\,\rho(\text{critic's value}, W_1) \text{ (95 \%); two spikes, minimax loss}",
        "≤",
        WGAN,
        lambda: at_most(_tracking("minimax")),
        lambda: at_least(_tracking("wasserstein")),
    ),
    Claim(
        "saturated-loss-does-not-track",
        r"E\,\rho(V(D, G), W_1) = 0 \text{ within its 95 \% interval; two spikes, minimax}",
        "=",
        WGAN,
        lambda: _tracking("minimax"),
        lambda: exact(0.0, "no correlation"),
    ),
    Claim(
        "packing-reduces-collapse",
        r"p \le 0.01: P(\text{all modes} \mid \text{packs of 4}) > P(\text{all modes} \mid \text{no packs})",
        "≤",
        LIN,
        lambda: _fisher(("none", 4), ("none", 1)),
        lambda: exact(_RATE, "accepted error rate"),
    ),
    Claim(
        "penalty-reduces-collapse",
        r"p \le 0.01: P(\text{all modes} \mid R_1 + R_2) > P(\text{all modes} \mid \text{no penalty})",
        "≤",
        MESCHEDER,
        lambda: _fisher(("r1_r2", 1), ("none", 1)),
        lambda: exact(_RATE, "accepted error rate"),
    ),
    Claim(
        "averaging-helps",
        r"p \le 0.01: W_1(\text{averaged } G) < W_1(\text{last } G), \text{ by seed}",
        "≤",
        YAZICI,
        lambda: _sign_test(-averaged()[0], -averaged()[1], "the averaged generator is nearer"),
        lambda: exact(_RATE, "accepted error rate"),
    ),
    Claim(
        "memorizer-sits-on-train",
        r"\max_i d(G(z_i), \text{train}) = 0 \text{ for the memorizer}",
        "=",
        THEIS,
        _memorizer_to_train,
        lambda: exact(0.0),
    ),
    Claim(
        "memorizer-misses-the-law",
        r"W_1(\text{memorizer}, p) = \int |F_n - F|\,dx > 0",
        "=",
        THEIS,
        _memorizer_to_law,
        _memorizer_by_cdf,
    ),
    Claim(
        "protocol-counts-modes",
        r"\text{modes} = 6 \text{ of a ring of 8 without two; 2500 samples}",
        "=",
        VEEGAN,
        lambda: _scored(lambda run: float(run.captured)),
        lambda: exact(6.0),
    ),
    Claim(
        "protocol-high-quality",
        r"\text{HQ} = 0.9\,(1 - e^{-9/2}) \text{ with one point in ten far away}",
        "=",
        VEEGAN,
        lambda: _scored(lambda run: run.high_quality.value),
        lambda: exact(0.9 * (1 - math.exp(-4.5))),
    ),
    Claim(
        "protocol-reverse-kl",
        r"E\,\mathrm{KL}(\hat h \| u) = \log\tfrac86 + \tfrac{5}{2n} \text{ of a ring of 8 without two}",
        "=",
        LIN,
        lambda: _scored(_kl_of_hits),
        _floor,
    ),
)
