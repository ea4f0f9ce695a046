r"""What is true of the members right now: the truth beside the losses, while they train.

A GAN's losses do not say how good its generator is. Here the target is a known law and the generator may be sampled at
will, so that one can look: which modes are reached, how far apart the two laws are, how much the discriminator could
still gain. ``monitor`` is a plain function of one step; how often it is called is the caller's business. Three lines
in a loop:

    history, truth = History(), Yardstick(ring())
    for progress in GanRun(data, members=8, steps=20_000):
        if progress.done % 100 == 0:
            history.add(monitor(progress, truth))

and ``history.arrays()["transport"]`` has shape (looks, members); ``history.to_csv("truth.csv")`` writes all of it.

It looks at the networks and changes nothing, and draws from its own ``rng``: a watched training is, bit by bit, the
training that nobody watches. A ``Progress`` shows the *averaged* generators, those one gets in the end, beside the
discriminators that play against the last ones; to see the two that play, hand them over by name.

What is measured, each one number per member with its error (``Readings``):

    modes, high_quality     against the modes of a Gaussian mixture       null: what a perfect generator would score
    transport               W₁ of n generated to n fresh target samples   null: that of fresh to fresh samples
    jsd                     JSD(p, p_g) from the exact density of p_g     k = d ≤ 2; null: 0
    value, best, regret     V(D, G), V(D*, G) = 2·JSD − log 4, and the difference as an integral of its own
    critic                  E_p f − E_q f of a critic                     null: 0, at most slope · W₁
    slope                   |∇D| between data and generated points        largest, and mean
    gradients               norms of ∇_φ L_D and ∇_θ L_G                  with their own noise

V(D, G) is measured on samples, V(D*, G) and the regret through the density, so that value + regret = best can be
checked, and is in the tests. The density of p_g is exact: on the line piece by piece between the kinks of G
(``pieces``), in the plane by all preimages (``plane_pieces``); both are tested against ``divergences.pushforward``,
which takes any map and many times as long.

**What a look costs**, in seconds of one core, all 8 members, beside the training that it interrupts (n = 500):

                            100 steps   a look   densities of all   share of the training time
    line, quick recipe         0.56      0.03         0.11          every 100 steps: 24 %
    line, standard recipe      2.1       0.11         0.46          every 100 steps: 27 %
    plane, quick recipe        0.85      0.23         2.3           look every 100: 27 %; densities every 1000: + 27 %
    plane, standard recipe     2.4       0.33         13            look every 100: 13 %; densities every 1000: + 56 %

In the plane the linear programs of W₁ are most of a look (it goes with n²). A member's density can be had alone:
``densities=1``.
"""

from __future__ import annotations

import time
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import log_expit, ndtri

from divergences import Estimate, InputError
from divergences.adversarial import CONVENTIONS
from divergences.checks import as_count, as_generator
from evaluation.mode_geometry import Parts, assign, expected_hits, gaussian_parts
from toygen.networks import MLP
from toygen.objectives import Objective, objective_by_name
from toygen.probes import Readings, clouds, game_gradients, known_law, scores, slopes_between, transport
from toygen.runs import Progress
from toygen.train import Step
from toygen.truth import History, Truth

__all__ = ["History", "Readings", "Truth", "Yardstick", "monitor"]

# The range of 39 independent pairs holds one more with probability 38/40, whatever the law.
_PAIRS = 39
_Z = float(ndtri(0.975))
# Points in the plane at which both densities are computed.
_POINTS = 1000


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A target made ready to be compared with again and again.

    Args:
        target: a law with ``sample`` and ``dim``; densities, modes are used where it has them.
        n: points per cloud. The linear program in the plane takes about n² of time: 500 points 30 ms.
        rng: for the null of the distance; None is ``default_rng(0)``.

    Attributes:
        parts: the modes of a mixture of Gaussians; None for any other law.
        quality_null: high-quality share of a perfect generator, or NaN.
        modes_null: how many modes n samples of a perfect generator reach on average, or NaN.
        transport_null: W₁ between two clouds of n fresh samples: the mean over 39 pairs, as bounds their range, which
            holds *one* more pair with probability 0.95.

    >>> from toygen import ring
    >>> yardstick = Yardstick(ring(), n=100, rng=np.random.default_rng(0))
    >>> round(yardstick.quality_null, 5)
    0.98889
    """

    target: Any
    n: Any = 500
    rng: InitVar[Any] = None
    parts: Parts | None = field(init=False)
    quality_null: float = field(init=False)
    modes_null: float = field(init=False)
    transport_null: Estimate = field(init=False)

    def __post_init__(self, rng: Any) -> None:
        n = as_count(self.n, "n", minimum=8)
        rng = np.random.default_rng(0) if rng is None else as_generator(rng)
        for name in ("sample", "dim"):
            if not hasattr(self.target, name):
                raise InputError(
                    f"target must be a law with sample(n, rng) and dim, such as toygen.ring(); it is {self.target!r}."
                )
        parts = _parts_of(self.target)
        rates = None if parts is None else expected_hits(parts, n).rates
        draw = [self.target.sample(_PAIRS * n, rng).reshape(_PAIRS, n, -1) for _ in range(2)]
        apart = transport(*draw).value
        bounds = float(apart.min()), float(apart.max())
        mean = float(apart.mean())
        arm = max(bounds[1] - mean, mean - bounds[0])
        null = Estimate(mean, arm, level=0.95, method="fresh to fresh samples", n=n, bounds=bounds)
        values = {
            "n": n,
            "parts": parts,
            "quality_null": np.nan if rates is None else float(rates.sum()),
            "modes_null": np.nan if rates is None else float((1 - (1 - rates) ** n).sum()),
            "transport_null": null,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


def monitor(
    step: Any,
    target: Any,
    *,
    objective: Any = None,
    generator: MLP | None = None,
    discriminator: MLP | None = None,
    densities: Any = None,
    rng: Any = None,
) -> Truth:
    """Look at all members that were asked for at once, and compare them with the truth.

    Args:
        step: a ``Progress``, which carries the networks; or a ``Step``, with the networks handed over by name.
        target: a ``Yardstick``, made once; or a law, from which one is made on the spot (at the price of its null).
        objective: what the discriminator's output means: an ``Objective``, or its name. None is that of the recipe in
            the step; where there is none, value, regret, critic and gradients are absent.
        generator: in place of the one that the step carries.
        discriminator: likewise.
        densities: for how many members, from the first on, the exact density of p_g is computed; None is for all on the
            line, where it is cheap, and for none in the plane, where it is not (see the module): ask for it there every
            1000 steps or so.
        rng: what is drawn here is drawn from it; None is a stream that the step and the members determine.

    Raises:
        InputError: no networks, networks of different members or dimensions, an unknown objective.
    """
    start = time.perf_counter()
    yardstick = target if isinstance(target, Yardstick) else Yardstick(target)
    generator, discriminator = _players(step, generator, discriminator, yardstick.target)
    known = _objective(step, objective)
    size, n = generator.members, yardstick.n // (2 * discriminator.pack) * 2 * discriminator.pack
    inner, members, places = _whose(step, size)
    if rng is None:
        streams = [np.random.default_rng([inner.index, member]) for member in members]
    else:
        streams = as_generator(rng).spawn(size)
    latents = np.stack([stream.standard_normal((n, generator.sizes[0])) for stream in streams])
    x = np.stack([yardstick.target.sample(n, stream) for stream in streams])
    mix = np.stack([stream.random((n // discriminator.pack, 1)) for stream in streams])
    y = clouds(generator, latents)
    absent: dict[str, str] = {}
    found: dict[str, Any] = _coverage(y, yardstick, absent)
    found["steepest"], found["slope"] = slopes_between(discriminator, x, y, mix)
    found |= _game(generator, discriminator, known, latents, x, y, absent)
    found |= _densities(generator, discriminator, known, yardstick.target, densities, places, streams, absent)
    # Networks are evaluated whole, so that no number hangs on who else was asked for; the rest is done for the wanted.
    found = {name: _of(value, places) for name, value in found.items()}
    found["transport"] = transport(y[places], x[places])
    return Truth(
        step=int(inner.index),
        members=tuple(members[place] for place in places),
        transport_null=yardstick.transport_null,
        modes_null=yardstick.modes_null,
        high_quality_null=yardstick.quality_null,
        absent=absent,
        seconds=time.perf_counter() - start,
        **found,
    )


def _whose(step: Progress | Step, size: int) -> tuple[Step, tuple[int, ...], list[int]]:
    """The round, the indices of the members, and the places of those that were asked for."""
    if isinstance(step, Step):
        return step, tuple(range(size)), list(range(size))
    return step.step, step.members, list(range(size) if step.places is None else step.places)


def _of(value: Any, places: list[int]) -> Any:
    """The numbers of some members."""
    if isinstance(value, Readings):
        return Readings(value.value[places], value.error[places])
    return value[places] if isinstance(value, np.ndarray) else value


def _parts_of(target: Any) -> Parts | None:
    if not hasattr(target, "log_prob"):
        return None
    try:
        return gaussian_parts(target)
    except InputError:
        return None  # a law with a density, but not of Gaussian modes


def _players(step: Any, generator: Any, discriminator: Any, target: Any) -> tuple[MLP, MLP]:
    if not isinstance(step, Progress | Step):
        raise InputError(f"step must be a Progress (from GanRun) or a Step (from train); it is {type(step).__name__}.")
    found = []
    for name, given in (("generator", generator), ("discriminator", discriminator)):
        network = getattr(step, name, None) if given is None else given
        if not isinstance(network, MLP):
            what = "a Step carries no networks" if network is None else f"it is {type(network).__name__}"
            raise InputError(f"{name} must be a toygen.MLP: {what}. Hand it over: monitor(step, target, {name}=...).")
        found.append(network)
    if found[0].members != found[1].members:
        raise InputError(
            f"generator and discriminator must have the same members; they have {found[0].members} and "
            f"{found[1].members}."
        )
    if found[0].sizes[-1] != target.dim:
        raise InputError(f"generator makes points of {found[0].sizes[-1]} coordinates; the target has {target.dim}.")
    return found[0], found[1]


def _objective(step: Any, objective: Any) -> Objective | None:
    if objective is None:
        objective = getattr(getattr(step, "recipe", None), "objective", None)
    if objective is None or isinstance(objective, Objective):
        return objective
    return objective_by_name(objective)


def _coverage(y: Float64[np.ndarray, "k n d"], yardstick: Yardstick, absent: dict[str, str]) -> dict[str, Any]:
    parts = yardstick.parts
    if parts is None:
        absent["modes"] = absent["high_quality"] = "the target is no mixture of Gaussians: it has no modes to count"
        return {}
    size, n, total = len(y), y.shape[1], len(parts.weights)
    # A member that diverged is counted as if it sat on one mode, and taken out again below.
    lost = ~np.isfinite(y).all(axis=(1, 2))
    home, inside = assign(np.where(lost[:, None, None], parts.means[0], y).reshape(size * n, -1), parts)
    cell = np.repeat(np.arange(size), n) * total + home
    hits = np.bincount(cell[inside], minlength=size * total).reshape(size, total)
    share = hits.sum(axis=1) / n
    # Wilson's half-width does not vanish at a share of 0 or 1.
    wide = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    share[lost], wide[lost] = np.nan, np.nan
    captured = np.where(lost, 0, (hits > 0).sum(axis=1))
    return {"modes": captured, "modes_total": total, "high_quality": Readings(share, wide)}


def _game(
    generator: MLP,
    discriminator: MLP,
    objective: Objective | None,
    latents: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    absent: dict[str, str],
) -> dict[str, Any]:
    """V(D, G) or the critic's value, and both gradients."""
    names = ("value", "critic", "discriminator_gradient", "generator_gradient")
    if objective is None:
        absent.update(dict.fromkeys(names, "the objective was not named, so nothing says what D's output means"))
        return {}
    if discriminator.company is not None:
        absent.update(dict.fromkeys(names, "this discriminator scores a minibatch as a whole"))
        return {}
    ours, theirs = game_gradients(generator, discriminator, objective, latents, x)
    found: dict[str, Any] = {"discriminator_gradient": ours, "generator_gradient": theirs}
    if objective.outputs > 1:
        absent["value"] = absent["critic"] = f"the discriminator of {objective.name} gives features, not a score"
        return found
    real, fake = scores(discriminator, x), scores(discriminator, y)
    if objective.convention is None:
        absent["value"] = f"the output of D under {objective.name} is no logit"
        found["critic"] = Readings.of_means(real, -fake)
        return found
    rules = CONVENTIONS[objective.convention]
    found["value"] = Readings.of_means(
        rules.scale * log_expit(rules.sign * real), rules.scale * log_expit(-rules.sign * fake)
    )
    absent["critic"] = f"{objective.name} has a logit, not a critic"
    return found


def _densities(
    generator: MLP,
    discriminator: MLP,
    objective: Objective | None,
    target: Any,
    densities: Any,
    wanted: list[int],
    streams: list[np.random.Generator],
    absent: dict[str, str],
) -> dict[str, Any]:
    """JSD, V(D*, G) and regret, where p_g has a density that can be had."""
    names = ("jsd", "best", "regret")
    latent, dim = generator.sizes[0], generator.sizes[-1]
    if densities is None:
        densities = generator.members if dim == 1 else 0
    count, reason = as_count(densities, "densities", minimum=0), ""
    if count == 0:
        reason = "not asked for: densities=0"
    elif latent > 2:
        reason = f"latents of {latent} dimensions: a density by change of variables needs at most 2"
    elif latent != dim:
        remedy = f"; it has one with Recipe(latent_dim={dim})" if dim <= 2 else ""
        reason = (
            f"latents of {latent} and points of {dim} dimensions: p_g has no density by change of variables{remedy}"
        )
    elif not hasattr(target, "log_prob"):
        reason = "the target has no density"
    if reason:
        absent.update(dict.fromkeys(names, reason))
        return {}
    convention = None if objective is None else objective.convention
    if discriminator.pack > 1 or discriminator.company is not None:
        convention, absent["regret"] = None, "this discriminator does not score points one by one"
    elif convention is None:
        absent["regret"] = "D's output is no logit" if objective else "the objective was not named"
    healthy = generator.healthy() & discriminator.healthy()
    places = [k for k in wanted[:count] if healthy[k]]
    known, refused = known_law(
        generator, discriminator, target, convention=convention, places=places, rngs=streams, n=_POINTS
    )
    if refused:
        absent["jsd of some"] = "; ".join(f"place {wanted.index(k)}: {why}" for k, why in refused.items())
    found: dict[str, Any] = {"jsd": known.jsd, "singular_mass": known.singular_mass}
    if convention is None:
        absent["best"] = absent["regret"]
        return found
    scale = CONVENTIONS[convention].scale
    best = Readings(scale * (2 * known.jsd.value - np.log(4)), scale * 2 * known.jsd.error)
    return found | {"best": best, "regret": known.regret}
