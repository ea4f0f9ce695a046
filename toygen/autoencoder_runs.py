r"""Whole trainings of autoencoders: an ensemble on one set of points, member by member reproducible.

As for GANs, member k depends on (data, recipe, steps, seed, k, its β) and on nothing else: its random numbers come from
``SeedSequence(seed, spawn_key=(k,))``, and members are trained in fixed chunks (32), always whole, so that no matrix
product changes its shape with the number of members asked for. A run may be put aside and taken up again
(``toygen.save_checkpoint``, ``toygen.load_checkpoint``).

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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64

from divergences import Discrete, Gaussian, InputError
from divergences.checks import ArrayLike, as_array, as_count, as_points
from divergences.distributions import Distribution
from toygen.autoencoder_chunks import AutoencoderChunk
from toygen.autoencoder_recipe import BAYESIAN, AutoencoderRecipe
from toygen.autoencoders import VQVAE
from toygen.chunked import ChunkedRun, as_members, digest_of, versions
from toygen.devices import as_device
from toygen.latent_law import LatentLaw
from toygen.latent_model import LatentModel
from toygen.networks import MLP, stack
from toygen.noisy_decoder import noisy_decoder
from toygen.recipes import Units
from toygen.sampler import Sampler
from toygen.train import Step, single_thread

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
        device: where they were trained; what is kept here is on the CPU.
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
    device: str = "cpu"

    @property
    def healthy(self) -> tuple[int, ...]:
        """Places (0 … K − 1) of the members that did not diverge."""
        return tuple(int(place) for place in np.flatnonzero(~self.diverged))

    def sampler(self, place: Any = 0, *, noise: bool | None = None) -> Sampler:
        """The member as a sampler, and as a file.

        Args:
            place: 0 … K − 1.
            noise: x ~ p(x|z), noise and all, so that draws follow p(x); False gives the decoder's *mean* m(z). None is
                with noise where there is one: for a "vae" or "iwae" with the Gaussian likelihood.

        Raises:
            InputError: no such place, a member that diverged, noise asked for where there is none, or a Bernoulli
                likelihood, whose decoder gives logits.
        """
        place = self._place(place)
        if self.recipe.kind in BAYESIAN and self.recipe.likelihood == "bernoulli":
            raise InputError(
                "a Bernoulli decoder gives logits, not points: draw bits from model(place).sample(n, rng)."
            )
        latent = self.latents[place]
        assert latent is not None  # a member without one has diverged
        noisy = self.noise is not None if noise is None else noise
        if noisy and self.noise is None:
            raise InputError("noise belongs to the Gaussian likelihood of a vae or iwae; this member has none.")
        about = {
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.seed,
            "member": self.members[place],
            "steps": len(self.history["step"]),
            "device": self.device,
            "draws": "p(x)" if noisy else "decoder means",
            "versions": versions(),
        }
        if self.noise is None or not noisy:
            return Sampler(self.decoders, latent, member=place, about=about)
        network = noisy_decoder(self.decoders.pick([place]).double(), float(self.noise[place]))
        return Sampler(network, Gaussian(np.zeros(network.sizes[0]), np.eye(network.sizes[0])), about=about)

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


class AutoencoderRun(ChunkedRun[AutoencoderChunk]):
    """A training that can be watched: iterate over it to train, then take ``result()``.

    Args:
        train: points (n, d), shared by all members; in [0, 1] for the Bernoulli likelihood.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted.
        steps: rounds of training.
        seed: of the whole ensemble.
        beta: weight of the rate, one number per member in place of the recipe's; only for kind "vae".
        device: "auto", "cpu", "cuda" or "cuda:1". Random numbers are the same on each; rounding is not.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed, weights
            that are not one per member, or a device that is not there.
    """

    def __init__(
        self,
        train: Any,
        *,
        recipe: Any = None,
        members: Any = 8,
        steps: Any = 5000,
        seed: Any = 0,
        beta: Any = None,
        device: Any = "cpu",
    ) -> None:
        self._recipe: AutoencoderRecipe = AutoencoderRecipe() if recipe is None else recipe
        if not isinstance(self._recipe, AutoencoderRecipe):
            raise InputError(f"recipe must be a toygen.AutoencoderRecipe; it is {recipe!r}.")
        self._train = as_points(train, "train", minimum=2)
        self._units = Units.of(self._train)
        binary = self._recipe.kind in BAYESIAN and self._recipe.likelihood == "bernoulli"
        if binary and not ((self._train >= 0) & (self._train <= 1)).all():
            raise InputError('train must lie in [0, 1] for likelihood="bernoulli"; use "gaussian", or rescale.')
        self._seed = as_count(seed, "seed", minimum=0)
        self._device = as_device(device)
        self._members = as_members(members)
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
        self._numbers = sorted({member // self._recipe.chunk for member in self._members})
        super().__init__(len(self._numbers), as_count(steps, "steps", minimum=0))

    def __iter__(self) -> Iterator[AutoencoderProgress]:
        """Train, chunk after chunk. Starting over starts from the beginning, or once from a restored state."""
        for _, chunk, step, done, total in self._trained():
            yield AutoencoderProgress(done, total, step, chunk.player.parts, chunk.members)

    def definition(self) -> dict[str, Any]:
        """What the run is, as plain JSON: two runs with the same definition give the same bits on one machine."""
        beta = {str(member): weight for member, weight in self._beta.items() if weight != self._recipe.beta}
        return {
            "recipe": dataclasses.asdict(self._recipe),
            "steps": self._steps,
            "seed": self._seed,
            "chunks": self._numbers,
            "beta": beta,
            "data": digest_of(self._train),
            "device": self._device.type,
        }

    def _make(self, i: int) -> AutoencoderChunk:
        return AutoencoderChunk(
            self._numbers[i],
            self._units,
            self._recipe,
            self._seed,
            self._beta,
            self._train,
            self._steps,
            self._device,
        )

    def result(self) -> AutoencoderEnsemble:
        """The trained ensemble.

        Raises:
            InputError: the run has not been iterated to its end.
        """
        size = self._recipe.chunk
        by_number = {number: i for i, number in enumerate(self._numbers)}
        self._need_end("fit_autoencoder")
        places = [by_number[member // size] * size + member % size for member in self._members]
        encoders = stack([chunk.player.encoder for chunk in self._chunks]).cpu().pick(places)
        decoders = stack([chunk.player.decoder for chunk in self._chunks]).cpu().pick(places)
        kept = [chunk.history for chunk in self._chunks]
        history = {name: np.concatenate([own[name] for own in kept], axis=1)[:, places] for name in kept[0]}
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
            device=str(self._device),
        )

    def _latents(self, chunk: AutoencoderChunk, slot: int) -> Distribution | None:
        """What the member's z is drawn from."""
        k = self._recipe.latent_dim
        if self._recipe.kind not in ("ae", "vq_vae"):
            return Gaussian(np.zeros(k), np.eye(k))
        network = chunk.player.encoder.pick([slot]).cpu().double().requires_grad_(requires_grad=False)
        codes = _run(network, self._train)
        if not np.isfinite(codes).all():
            return None
        if isinstance(chunk.player, VQVAE):
            vectors = chunk.player.codebook.vectors[slot].detach().double().cpu().numpy()
            nearest = ((codes[:, None] - vectors) ** 2).sum(axis=2).argmin(axis=1)
            return Discrete(vectors, np.bincount(nearest, minlength=len(vectors)) / len(codes))
        # A code that never moves gets a Gaussian all the same, too narrow to see.
        spread = np.atleast_2d(np.cov(codes.T)) + 1e-12 * np.eye(k)
        return Gaussian(codes.mean(axis=0), spread)


def fit_autoencoder(
    train: Any,
    *,
    recipe: Any = None,
    members: Any = 8,
    steps: Any = 5000,
    seed: Any = 0,
    beta: Any = None,
    device: Any = "cpu",
) -> AutoencoderEnsemble:
    """Train an ensemble of autoencoders to the end; the arguments are those of ``AutoencoderRun``."""
    run = AutoencoderRun(train, recipe=recipe, members=members, steps=steps, seed=seed, beta=beta, device=device)
    for _ in run:
        pass
    return run.result()


def _run(network: MLP, x: np.ndarray) -> np.ndarray:
    with single_thread(), torch.inference_mode():
        out: np.ndarray = network(torch.from_numpy(np.ascontiguousarray(x))[None])[0].numpy()
    return out
