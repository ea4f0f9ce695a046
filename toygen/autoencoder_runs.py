r"""Whole trainings of autoencoders: an ensemble on one set of points, member by member reproducible.

As for GANs, member k depends on (data, recipe, steps, seed, k, its β) and on nothing else: its random numbers come from
``SeedSequence(seed, spawn_key=(k,))``, and members are trained in fixed chunks (32), always whole, so that no matrix
product changes its shape with the number of members asked for.

An encoder begins with the standardisation of the data and a Gaussian decoder ends with its inverse, so that the ELBO is
in nats in the units of the data: it can be compared with the target's entropy, and log p(x) computed exactly
(``AutoencoderEnsemble.model``, ``.law``).

>>> data = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 1))
>>> recipe = AutoencoderRecipe(kind="vae", latent_dim=1, width=8, chunk=2)
>>> ensemble = fit_autoencoder(data, recipe=recipe, members=2, steps=5, seed=0)
>>> ensemble.history["elbo"].shape, ensemble.model(0).posterior(data[:3]).log_prob.shape
((5, 2), (3,))
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64

from divergences import Discrete, Gaussian, InputError
from divergences.checks import ArrayLike, as_array, as_count, as_points
from divergences.distributions import Distribution
from toygen.autoencoder_recipe import BAYESIAN, AutoencoderRecipe
from toygen.autoencoders import VQVAE, Autoencoder, Likelihood, Vae, Wae
from toygen.codebook import Codebook
from toygen.latent_law import LatentLaw
from toygen.latent_model import LatentModel
from toygen.layers import Affine
from toygen.networks import MLP, stack
from toygen.players import minibatches
from toygen.recipes import Units
from toygen.sampler import Sampler
from toygen.train import Step, single_thread, train
from toygen.vae_gan import VaeGan

__all__ = ["AutoencoderEnsemble", "AutoencoderProgress", "AutoencoderRun", "fit_autoencoder"]


class AutoencoderProgress(NamedTuple):
    """Where a run stands.

    Attributes:
        done: steps finished, over all chunks.
        total: steps of the whole run.
        step: the last step; its losses are those of ``members``.
        parts: what the losses were made of, each of shape (members,).
        members: indices of the members of the chunk in training.
    """

    done: int
    total: int
    step: Step
    parts: dict[str, torch.Tensor]
    members: tuple[int, ...]


@dataclass(frozen=True)
class AutoencoderEnsemble:
    """Trained autoencoders.

    Attributes:
        members: their indices under the seed, in the order of everything below.
        encoders: as they were at the end, an ensemble of K.
        decoders: likewise.
        noise: s of p(x|z) in the units of the data, shape (K,); None where there is no Gaussian likelihood.
        latents: what z is drawn from, one law per member: N(0, I); of "ae" a Gaussian fitted to the codes of the data;
            of "vq_vae" the codebook with the frequencies of the data's codes. None where the codes are not finite.
        history: ``step`` (steps,); the losses of the players, and what they were made of, each (steps, K).
        diverged: which members hold, or last reported, a number that is not finite, shape (K,).
        recipe: how they were trained.
        seed: of the whole ensemble.
    """

    members: tuple[int, ...]
    encoders: MLP
    decoders: MLP
    noise: Float64[np.ndarray, " k"] | None
    latents: tuple[Distribution | None, ...]
    history: dict[str, np.ndarray]
    diverged: Bool[np.ndarray, " k"]
    recipe: AutoencoderRecipe
    seed: int

    @property
    def healthy(self) -> tuple[int, ...]:
        """Places (0 … K − 1) of the members that did not diverge."""
        return tuple(int(place) for place in np.flatnonzero(~self.diverged))

    def sampler(self, place: Any = 0) -> Sampler:
        """The decoder's *mean* at draws of the member's latent law: z ~ latents, x = m(z), without noise.

        The law p(x) of a VAE has the noise in it: draw from ``model(place).sample``.
        """
        place = self._place(place)
        latent = self.latents[place]
        assert latent is not None  # a member without one has diverged
        about = {
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.seed,
            "member": self.members[place],
            "draws": "decoder means",
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        }
        return Sampler(self.decoders, latent, member=place, about=about)

    def model(self, place: Any = 0) -> LatentModel:
        """p(z), p(x|z) of a "vae" or "iwae", in float64: its log p(x), posterior and samples."""
        self._need_bayes()
        place = self._place(place)
        network = self.decoders.pick([place]).double().requires_grad_(requires_grad=False)
        noise = None if self.noise is None else self.noise[place]
        return LatentModel(lambda z: _run(network, z), self.recipe.latent_dim, noise=noise)

    def law(self, place: Any = 0) -> LatentLaw:
        """The exact p(x) of a Gaussian "vae" or "iwae" in one or two dimensions, for everything in ``divergences``."""
        return LatentLaw(self.model(place))

    def encode(self, x: ArrayLike, place: Any = 0) -> tuple[Float64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
        """Mean and variance of q(z|x) of a "vae", "iwae" or "vae_gan"; of the others the code, and zeros."""
        place = self._place(place)
        network = self.encoders.pick([place]).double().requires_grad_(requires_grad=False)
        out = _run(network, as_points(x, "x", dim=network.sizes[0]))
        if out.shape[1] == self.recipe.latent_dim:
            return out, np.zeros_like(out)
        return out[:, : self.recipe.latent_dim], np.exp(out[:, self.recipe.latent_dim :])

    def _place(self, place: Any) -> int:
        place = as_count(place, "place", minimum=0)
        if place >= len(self.members):
            raise InputError(f"place must be below {len(self.members)}, the number of members; it is {place}.")
        if self.diverged[place]:
            raise InputError(
                f"member {self.members[place]} diverged: its losses or weights are not finite. Lower the learning rate."
            )
        return place

    def _need_bayes(self) -> None:
        if self.recipe.kind not in BAYESIAN:
            raise InputError(
                f'only kinds "vae" and "iwae" have a likelihood p(x|z), and so a p(x); this one is '
                f"{self.recipe.kind!r}. Compare samples of its sampler instead."
            )


class AutoencoderRun:
    """A training that can be watched: iterate over it to train, then take ``result()``.

    Args:
        train: points (n, d), shared by all members; in [0, 1] for the Bernoulli likelihood.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted.
        steps: rounds of training.
        seed: of the whole ensemble.
        beta: weight of the rate, one number per member in place of the recipe's; only for kind "vae".

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed, or
            weights that are not one per member.
    """

    def __init__(
        self,
        train: Any,
        *,
        recipe: AutoencoderRecipe | None = None,
        members: Any = 8,
        steps: Any = 5000,
        seed: Any = 0,
        beta: Any = None,
    ) -> None:
        self._recipe = AutoencoderRecipe() if recipe is None else recipe
        self._train = as_points(train, "train", minimum=2)
        self._units = Units.of(self._train)
        binary = self._recipe.kind in BAYESIAN and self._recipe.likelihood == "bernoulli"
        if binary and not ((self._train >= 0) & (self._train <= 1)).all():
            raise InputError('train must lie in [0, 1] for likelihood="bernoulli"; use "gaussian", or rescale.')
        self._steps = as_count(steps, "steps", minimum=0)
        self._seed = as_count(seed, "seed", minimum=0)
        self._members = _as_members(members)
        self._beta = dict.fromkeys(self._members, self._recipe.beta)
        if beta is not None:
            given = as_array(beta, "beta")
            if given.shape != (len(self._members),) or not ((given >= 0) & np.isfinite(given)).all():
                raise InputError(
                    f"beta must be {len(self._members)} finite numbers ≥ 0, one per member; it is {given.tolist()}."
                )
            if self._recipe.kind != "vae":
                raise InputError(f'beta weighs the rate of kind="vae"; kind is {self._recipe.kind!r}.')
            self._beta = dict(zip(self._members, given.tolist(), strict=True))
        self._chunks: list[_Chunk] = []

    def __iter__(self) -> Iterator[AutoencoderProgress]:
        """Train, chunk after chunk. Starting over starts from the beginning."""
        self._chunks = []
        numbers = sorted({member // self._recipe.chunk for member in self._members})
        for i, number in enumerate(numbers):
            chunk = _Chunk(number, self._units, self._recipe, self._seed, self._beta)
            for step in chunk.train(self._train, self._steps):
                done, total = i * self._steps + step.index + 1, len(numbers) * self._steps
                yield AutoencoderProgress(done, total, step, chunk.player.parts, chunk.members)
            self._chunks.append(chunk)

    def result(self) -> AutoencoderEnsemble:
        """The trained ensemble.

        Raises:
            InputError: the run has not been iterated to its end.
        """
        size = self._recipe.chunk
        by_number = {chunk.number: i for i, chunk in enumerate(self._chunks)}
        if any(member // size not in by_number for member in self._members):
            raise InputError("the run is not finished: iterate it to the end, or use fit_autoencoder.")
        places = [by_number[member // size] * size + member % size for member in self._members]
        encoders = stack([chunk.player.encoder for chunk in self._chunks]).pick(places)
        decoders = stack([chunk.player.decoder for chunk in self._chunks]).pick(places)
        names = self._chunks[0].history.keys()
        history = {
            name: np.concatenate([chunk.history[name] for chunk in self._chunks], axis=1)[:, places] for name in names
        }
        finite = encoders.healthy() & decoders.healthy()
        for losses in history.values():
            finite &= np.isfinite(losses[-1:]).all(axis=0)
        noises = [chunk.noises for chunk in self._chunks]
        latents = [
            self._latents(chunk, member - chunk.members[0])
            for member, place in zip(self._members, places, strict=True)
            for chunk in [self._chunks[place // size]]
        ]
        finite &= np.array([latent is not None for latent in latents])
        return AutoencoderEnsemble(
            members=self._members,
            encoders=encoders,
            decoders=decoders,
            noise=None if noises[0] is None else np.concatenate(noises)[places],  # type: ignore[arg-type]
            latents=tuple(latents),
            history={"step": np.arange(self._steps), **history},
            diverged=~finite,
            recipe=self._recipe,
            seed=self._seed,
        )

    def _latents(self, chunk: _Chunk, slot: int) -> Distribution | None:
        """What the member's z is drawn from."""
        k = self._recipe.latent_dim
        if self._recipe.kind not in ("ae", "vq_vae"):
            return Gaussian(np.zeros(k), np.eye(k))
        network = chunk.player.encoder.pick([slot]).double().requires_grad_(requires_grad=False)
        codes = _run(network, self._train)
        if not np.isfinite(codes).all():
            return None
        if isinstance(chunk.player, VQVAE):
            vectors = chunk.player.codebook.vectors[slot].detach().double().numpy()
            nearest = ((codes[:, None] - vectors) ** 2).sum(axis=2).argmin(axis=1)
            return Discrete(vectors, np.bincount(nearest, minlength=len(vectors)) / len(codes))
        # A code that never moves gets a Gaussian all the same, too narrow to see.
        spread = np.atleast_2d(np.cov(codes.T)) + 1e-12 * np.eye(k)
        return Gaussian(codes.mean(axis=0), spread)


def fit_autoencoder(
    train: Any,
    *,
    recipe: AutoencoderRecipe | None = None,
    members: Any = 8,
    steps: Any = 5000,
    seed: Any = 0,
    beta: Any = None,
) -> AutoencoderEnsemble:
    """Train an ensemble of autoencoders to the end; the arguments are those of ``AutoencoderRun``."""
    run = AutoencoderRun(train, recipe=recipe, members=members, steps=steps, seed=seed, beta=beta)
    for _ in run:
        pass
    return run.result()


class _Chunk:
    """``recipe.chunk`` consecutive members in training."""

    def __init__(self, number: int, units: Units, recipe: AutoencoderRecipe, seed: int, beta: dict[int, float]) -> None:
        self.number, self._recipe = number, recipe
        self.members = tuple(range(number * recipe.chunk, (number + 1) * recipe.chunk))
        sequences = [np.random.SeedSequence(seed, spawn_key=(member,)).spawn(5) for member in self.members]
        streams = [[np.random.default_rng(sequence) for sequence in own] for own in zip(*sequences, strict=True)]
        self._data_rngs = streams[2]
        weights = [beta.get(member, recipe.beta) for member in self.members]
        self._likelihood: Likelihood | None = None
        self.player = self._player(units, streams, weights)
        self.history: dict[str, np.ndarray] = {}

    @property
    def noises(self) -> np.ndarray | None:
        """S of each member, in the units of the data."""
        return None if self._likelihood is None else self._likelihood.noises()

    def train(self, data: np.ndarray, steps: int) -> Iterator[Step]:
        """Play, and keep the history."""
        turns = self.player.turns(self._recipe.optimizer)
        batches = minibatches(data, size=self._recipe.batch, rng=self._data_rngs, members=len(self.members))
        for step in train(turns, batches, steps):
            for turn in turns:
                for group in turn.optimizer.param_groups:
                    group["lr"] = self._recipe.rate_at((step.index + 1) / steps)
            for name, values in {**step.losses, **self.player.parts}.items():
                if step.index == 0:
                    self.history[name] = np.empty((steps, len(self.members)))
                self.history[name][step.index] = values.numpy()
            yield step
        if steps == 0:
            self.history = {turn.name: np.empty((0, len(self.members))) for turn in turns}

    def _player(self, units: Units, streams: list[list[np.random.Generator]], beta: list[float]) -> Autoencoder:
        recipe, dim, k = self._recipe, len(units.center), self._recipe.latent_dim
        hidden = [[recipe.width] * depth for depth in recipe.depths]
        before = Affine([-c / units.scale for c in units.center], [1 / units.scale] * dim)
        after = Affine(units.center, [units.scale] * dim)
        bayes = recipe.kind in BAYESIAN
        outputs = 2 * k if bayes or recipe.kind == "vae_gan" else k
        encoder = MLP([dim, *hidden[0], outputs], streams[0], before=before)
        logits = bayes and recipe.likelihood == "bernoulli"
        decoder = MLP([k, *hidden[1], dim], streams[1], after=None if logits else after)
        rngs, scale = streams[3], units.scale
        if bayes:
            noise = None if logits else scale * (1.0 if recipe.noise is None else recipe.noise)
            self._likelihood = Likelihood(len(self.members), noise, learned=recipe.noise is None)
            return Vae(
                encoder,
                decoder,
                self._likelihood,
                rngs=rngs,
                beta=beta,
                free_bits=recipe.free_bits,
                samples=recipe.samples,
                importance=recipe.kind == "iwae",
            )
        if recipe.kind == "wae":
            return Wae(encoder, decoder, rngs=rngs, weight=recipe.mmd_weight, scale=scale)
        if recipe.kind == "vq_vae":
            book = Codebook(recipe.codes, k, streams[4], decay=recipe.codebook_decay)
            return VQVAE(encoder, decoder, book, commitment=recipe.commitment, scale=scale)
        if recipe.kind == "vae_gan":
            judge = MLP([dim, *[recipe.width] * max(1, recipe.depths[0]), 1], streams[4], before=before)
            return VaeGan(encoder, decoder, judge, rngs=rngs, weight=recipe.likeness, scale=scale)
        return Autoencoder(encoder, decoder, scale=scale)


def _run(network: MLP, x: np.ndarray) -> np.ndarray:
    with single_thread(), torch.inference_mode():
        out: np.ndarray = network(torch.from_numpy(np.ascontiguousarray(x))[None])[0].numpy()
    return out


def _as_members(members: Any) -> tuple[int, ...]:
    if isinstance(members, Sequence):
        chosen = tuple(as_count(member, f"members[{i}]", minimum=0) for i, member in enumerate(members))
        if not chosen or len(set(chosen)) < len(chosen):
            raise InputError(f"members must be different indices, at least one; they are {list(members)}.")
        return chosen
    return tuple(range(as_count(members, "members")))
