"""What the atlas is compared with: tables of two papers, and the standard recipe as it is usually written."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PUBLISHED", "TIMED", "Published", "Timed"]


class Published(NamedTuple):
    """A row of a paper's table.

    Attributes:
        source: the paper.
        method: as it calls it.
        ring: modes of 8, their standard error, high-quality share in percent; None is not given.
        grid: the same of 25.
    """

    source: str
    method: str
    ring: tuple[float, float | None, float]
    grid: tuple[float, float | None, float]


_VEEGAN, _PACGAN = "VEEGAN (2017)", "PacGAN (2018)"
PUBLISHED = (
    Published(_VEEGAN, "GAN", (1.0, None, 99.3), (3.3, None, 0.5)),
    Published(_VEEGAN, "ALI", (2.8, None, 0.13), (15.8, None, 1.6)),
    Published(_VEEGAN, "Unrolled GAN", (7.6, None, 35.6), (23.6, None, 16.0)),
    Published(_VEEGAN, "VEEGAN", (8.0, None, 52.9), (24.6, None, 40.0)),
    Published(_PACGAN, "GAN", (6.3, 0.5, 98.2), (17.3, 0.8, 94.8)),
    Published(_PACGAN, "ALI", (6.6, 0.3, 97.6), (24.1, 0.4, 95.7)),
    Published(_PACGAN, "PacGAN2", (7.9, 0.1, 95.6), (23.8, 0.7, 91.3)),
    Published(_PACGAN, "PacGAN3", (7.8, 0.1, 97.7), (24.6, 0.4, 94.2)),
    Published(_PACGAN, "PacGAN4", (7.8, 0.1, 95.9), (24.8, 0.2, 93.6)),
)


class Timed(NamedTuple):
    """The standard recipe written out for one ensemble in another framework, and what it took.

    Attributes:
        framework: with the size of its minibatches.
        target: "ring" or "grid".
        steps: moves of the generator.
        covered: members that cover every mode.
        members: of the ensemble.
        high_quality: share of high-quality samples on average.
        spread: of that, as it was noted.
        seconds: on one core, for all members.
    """

    framework: str
    target: str
    steps: int
    covered: int
    members: int
    high_quality: float
    spread: float
    seconds: float


# G 4 × 128, D 3 × 128, non-saturating, R1 and R2 from 0.1 to 0.001, members as a batch dimension: eight members, each
# run once, on one core of another machine. It is what this library was to come up to.
TIMED = (
    Timed("torch, batch 64", "ring", 10_000, 8, 8, 0.901, 0.010, 116.0),
    Timed("JAX, batch 256", "ring", 20_000, 8, 8, 0.96, 0.01, 393.0),
    Timed("torch, batch 64", "grid", 20_000, 8, 8, 0.902, 0.013, 251.0),
    Timed("JAX, batch 256", "grid", 20_000, 8, 8, 0.94, 0.01, 390.0),
)
