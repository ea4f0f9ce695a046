"""One bank of closed-form truths, used by every test: laws, and what is known of them to many digits.

Values are in nats. Those of mixtures were computed once with 40 digits (piecewise at mean ± kσ), or, in the plane, by
two integrators that agree to twelve digits; all others are closed forms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from divergences import Discrete, Gaussian, Mixture, Uniform

INF = float("inf")
LOG2 = float(np.log(2.0))


class Pair(NamedTuple):
    """Two laws with KL(p‖q), KL(q‖p), JSD and W₁; None where unknown."""

    name: str
    p: object
    q: object
    kl: float | None = None
    reverse: float | None = None
    jsd: float | None = None
    w1: float | None = None


def line(means, sigmas, weights):
    return Mixture([Gaussian(m, s**2) for m, s in zip(means, sigmas, strict=True)], weights)


def ring(sigma, modes=range(8), radius=2.0):
    angles = [2 * np.pi * k / 8 for k in modes]
    centers = [[radius * np.cos(a), radius * np.sin(a)] for a in angles]
    return Mixture([Gaussian(center, sigma**2 * np.eye(2)) for center in centers])


def grid(sigma):
    places = [[2.0 * i, 2.0 * j] for i in range(-2, 3) for j in range(-2, 3)]
    return Mixture([Gaussian(place, sigma**2 * np.eye(2)) for place in places])


STANDARD = Gaussian(0.0, 1.0)
COV_1 = [[2.0, 0.5], [0.5, 1.0]]
COV_2 = [[1.0, -0.3], [-0.3, 1.5]]
_A, _B = line([-2, 2], [0.5, 0.5], [0.5, 0.5]), Gaussian(0.0, 4.0)
_C, _D = line([-1, 1.5], [0.4, 0.8], [0.3, 0.7]), line([-0.5, 2], [0.6, 0.5], [0.6, 0.4])
_E, _F = line([-6, -2, 2, 6], [0.1] * 4, [0.25] * 4), line([-2, 2], [0.1] * 2, [0.5] * 2)
_E2 = line([-6, -2, 2, 6], [0.2] * 4, [0.25] * 4)
_SPIKE = line([0, 30], [1, 0.01], [0.99, 0.01])

SHIFTS = {
    0.5: 0.030311300520838980579,
    1.0: 0.11142148218473617972,
    2.0: 0.336830820346831612,
    4.0: 0.63272019373686698166,
    8.0: 0.69305364548291992884,
    16.0: 0.69314718055994339003,
}

LINE = [
    Pair(
        "two modes | one wide",
        _A,
        _B,
        0.72449071563697068999,
        2.020215531796396906,
        0.20107795828825401248,
        0.73369167573535969458,
    ),
    Pair(
        "two mixtures",
        _C,
        _D,
        0.26226115230082313857,
        0.26117610361230907247,
        0.061251254615473739306,
        0.29651153615898558122,
    ),
    Pair("four narrow | its inner two", _E, _F, 399.30685281944005469, LOG2, 0.21576155433883569558, 2.0),
    Pair(
        "four narrow | twice as wide",
        _E,
        _E2,
        0.31814718055994530942,
        0.80685281944005469058,
        0.092733381666412534221,
        0.079788456080286535588,
    ),
    Pair(
        "a spike of 1 % | without",
        _SPIKE,
        STANDARD,
        4.4850506675050335732,
        0.010050335853501441184,
        0.0034782987697430737941,
        0.3,
    ),
    Pair("nearly equal", STANDARD, Gaussian(1e-4, 1.0), 5e-9, 5e-9, None, 1e-4),
    Pair(
        "unequal widths",
        STANDARD,
        Gaussian(1.0, 4.0),
        0.44314718055994530942,
        1.3068528194400546906,
        None,
        1.1666309411753725968,
    ),
    Pair("far and narrow", Gaussian(3.0, 1.0), Gaussian(0.0, 0.25), None, None, None, 3.0000000001563569796),
    Pair("normal | Cauchy", STANDARD, stats.cauchy(), 0.25924453248886226362, INF, 0.083170089827960407497, INF),
    Pair(
        "Laplace shifted",
        stats.laplace(0, 1),
        stats.laplace(1, 1),
        0.3678794411714423216,
        0.3678794411714423216,
        None,
        1.0,
    ),
    Pair("Laplace | normal", stats.laplace(0, 1), Gaussian(0.0, 2.0), 0.072364942924700087072),
    Pair("Cauchy | Cauchy", stats.cauchy(), stats.cauchy(1, 2), float(np.log(10 / 8)), float(np.log(10 / 8))),
    Pair("exponentials", stats.expon(), stats.expon(scale=0.5), 1 - LOG2, LOG2 - 0.5, None, 0.5),
    Pair("uniform | wider", Uniform(0, 1), Uniform(0, 2), LOG2, INF, 0.21576155433883569558, 0.5),
    Pair("uniform | half off", Uniform(0, 1), Uniform(0.5, 1.5), INF, INF, LOG2 / 2, 0.5),
    Pair("uniform | a quarter off", Uniform(0, 1), Uniform(0.25, 1.25), INF, INF, LOG2 / 4, 0.25),
    Pair("uniform | far", Uniform(0, 1), Uniform(5, 6), INF, INF, LOG2, 5.0),
    Pair("uniform | its middle", Uniform(0, 1), Discrete([0.5]), INF, INF, LOG2, 0.25),
    *[
        Pair(f"shift by {mu}", STANDARD, Gaussian(mu, 1.0), mu**2 / 2, mu**2 / 2, value, mu)
        for mu, value in SHIFTS.items()
    ],
]

PLANE = [
    Pair(
        "ring | moment-matched",
        ring(0.2),
        Gaussian([0, 0], 2.04 * np.eye(2)),
        1.8527656711436,
        10.878651985847,
        0.4181837028518,
    ),
    Pair(
        "ring | its even modes", ring(0.2), ring(0.2, [0, 2, 4, 6]), 11.1078775981135, 0.6927656004655, 0.2156245579201
    ),
    Pair("ring | one mode", ring(0.2), ring(0.2, [0]), 97.9209400384193, 2.0790599615807, 0.4968383022575),
    Pair(
        "correlated mixture | Gaussian",
        Mixture([Gaussian([0, 0], COV_1), Gaussian([1, -2], COV_2)], [0.3, 0.7]),
        Gaussian([0.7, -1.4], [[1.6, -0.2], [-0.2, 2.0]]),
        0.0587121441404,
        0.0685459278231,
        0.0151664937603,
    ),
    Pair(
        "correlated Gaussians",
        Gaussian([0, 0], COV_1),
        Gaussian([1, -2], COV_2),
        1.9416323482982490978,
        3.4794416132012443166,
    ),
    Pair("squares half off", Uniform([0, 0], [1, 1]), Uniform([0.5, 0], [1.5, 1]), INF, INF, LOG2 / 2),
    Pair(
        "square | Gaussian", Uniform([0, 0], [1, 1]), Gaussian([0, 0], np.eye(2)), float(np.log(2 * np.pi)) + 1 / 3, INF
    ),
]
# σ = 0.02: the modes are a hundredth of their distance. Forward KL is the closed form of separated modes.
NARROW_RING = Pair(
    "narrow ring | moment-matched",
    ring(0.02),
    Gaussian([0, 0], 2.0004 * np.eye(2)),
    6.4379516297391,
    1356.457729159185,
    0.6820411637792,
)

DISCRETE = [
    Pair(
        "three atoms",
        Discrete([0, 1, 2], [0.5, 0.25, 0.25]),
        Discrete([0, 1, 2], [0.25, 0.25, 0.5]),
        LOG2 / 4,
        LOG2 / 4,
        0.042474759198849368225,
        0.5,
    ),
    Pair(
        "against uniform",
        Discrete([0, 1, 2], [0.36, 0.48, 0.16]),
        Discrete([0, 1, 2]),
        0.085299601318370567922,
        0.097455006785387620521,
        0.022459860429714588782,
    ),
    Pair("sure | coin", Discrete([0.0]), Discrete([0.0, 1.0]), LOG2, INF, 0.21576155433883569558, 0.5),
]
