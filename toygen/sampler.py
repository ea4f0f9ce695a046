r"""A trained generator as anybody may use it: ``sampler(n, rng) -> array (n, d)``, in the units of the data.

A sampler holds one member of an ensemble and the law of its latents, computes in float64, and depends on nothing else:
the same weights and the same ``rng`` give the same points, before saving and after loading.

A file is a plain ``.npz``: arrays, and one JSON text that says what they are and how they were trained. Nothing in it
is executed on loading (no pickle), and nothing is believed: shapes are checked against each other before use.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from divergences import Discrete, Gaussian, InputError, Uniform
from divergences.checks import ArrayLike, as_count, as_generator, as_points
from divergences.distributions import Distribution
from evaluation.files import write_atomically
from toygen.layers import Affine
from toygen.networks import MLP
from toygen.train import single_thread

__all__ = ["Sampler"]

_LAWS: dict[str, Callable[..., Distribution]] = {"Discrete": Discrete, "Gaussian": Gaussian, "Uniform": Uniform}
_FORMAT = "mintmark sampler 1"
_BLOCK = 65_536
_LARGEST_FILE = 1 << 30


class Sampler:
    """One member of an ensemble of generators, with the law of its latents.

    Args:
        generator: the ensemble; the member's weights are copied.
        latent: law of z, of the generator's input dimension.
        member: which one.
        about: what shall be known about the training: anything JSON can hold.

    Raises:
        InputError: no such member, a member whose weights are not finite, or a latent law of another dimension.

    >>> net = MLP([2, 8, 2], [np.random.default_rng(0)])
    >>> sampler = Sampler(net, Gaussian([0.0, 0.0], np.eye(2)))
    >>> sampler(5, np.random.default_rng(1)).shape
    (5, 2)
    """

    def __init__(
        self, generator: Any, latent: Distribution, *, member: Any = 0, about: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(generator, MLP):
            raise InputError(f"generator must be a toygen.MLP; it is {type(generator).__name__}.")
        member = as_count(member, "member", minimum=0)
        if member >= generator.members:
            raise InputError(f"member must be below {generator.members}, the number of members; it is {member}.")
        if latent.dim != generator.sizes[0]:
            raise InputError(
                f"latent must have the generator's input dimension {generator.sizes[0]}; it has {latent.dim}."
            )
        network = generator.pick([member]).cpu()
        if not network.healthy()[0]:
            raise InputError(
                f"member {member} of the generator holds weights that are not finite: its training diverged. "
                "Train it with a smaller learning rate or with a penalty."
            )
        self.latent = latent
        self.about = dict(about or {})
        self._network = network.double().requires_grad_(requires_grad=False)

    @property
    def dim(self) -> int:
        """Dimension of the points."""
        return self._network.sizes[-1]

    def __call__(self, n: Any, rng: Any) -> Float64[np.ndarray, "n d"]:
        """Draw n points.

        Args:
            n: how many, ≥ 0.
            rng: where the latents come from.

        Returns:
            Shape (n, d), in the units of the data.
        """
        latents = self.latent.sample(as_count(n, "n", minimum=0), as_generator(rng))
        return self.push(latents)

    def push(self, latents: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """X = G(z), for latents of one's own choice.

        Args:
            latents: shape (n, k), or (n,) where k is 1; n may be 0.

        Raises:
            InputError: latents of another dimension, that are not finite, or that are no numbers.
        """
        z = as_points(latents, "latents", dim=self._network.sizes[0], minimum=0)
        points = np.empty((len(z), self.dim))
        with single_thread(), torch.inference_mode():
            for start in range(0, len(z), _BLOCK):
                block = torch.from_numpy(np.ascontiguousarray(z[start : start + _BLOCK]))
                points[start : start + _BLOCK] = self._network(block[None])[0].numpy()
        return points

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to an ``.npz`` file, whole or not at all.

        Raises:
            InputError: a latent law other than a Discrete, Gaussian or Uniform, or an ``about`` that JSON cannot hold.
            OSError: the file cannot be written.
        """
        arrays: dict[str, np.ndarray] = {}
        if isinstance(self.latent, Gaussian):
            law, arrays["latent_0"], arrays["latent_1"] = "Gaussian", self.latent.mean, self.latent.cov
        elif isinstance(self.latent, Uniform):
            law, arrays["latent_0"], arrays["latent_1"] = "Uniform", self.latent.low, self.latent.high
        elif isinstance(self.latent, Discrete):
            law, arrays["latent_0"], arrays["latent_1"] = "Discrete", self.latent.points, self.latent.weights
        else:
            raise InputError(
                f"only Gaussian and Uniform latents, and Discrete ones, can be saved; it is {self.latent!r}."
            )
        for name, tensor in self._network.state_dict().items():
            arrays[f"network.{name}"] = tensor.numpy()
        header = {"format": _FORMAT, "sizes": self._network.sizes, "latent": law, "about": self.about}
        try:
            text = json.dumps(header, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"about must be plain JSON: {error}.") from error
        return write_atomically(path, lambda file: np.savez(file, header=np.array(text), **arrays))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sampler:
        """Read what ``save`` wrote.

        Raises:
            InputError: missing, truncated or foreign file, or arrays that do not fit together.
        """
        arrays = _read(path)
        try:
            header = json.loads(str(arrays["header"][()]))
            if header["format"] != _FORMAT:
                raise InputError(f"{path} has the format {header['format']!r}; only {_FORMAT!r} can be read.")
            sizes = [as_count(size, "sizes") for size in header["sizes"]]
            latent = _LAWS[header["latent"]](arrays["latent_0"], arrays["latent_1"])
            return cls(_network_of(sizes, arrays), latent, about=header["about"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, RecursionError) as error:
            if isinstance(error, InputError) and str(path) in str(error):
                raise
            raise InputError(f"{path} is not a sampler file: {_one_line(error)}.") from error


def _network_of(sizes: list[int], arrays: Mapping[str, np.ndarray]) -> MLP:
    state = {name.removeprefix("network."): array for name, array in arrays.items() if name.startswith("network.")}
    # The sizes are compared with what is really in the file before anything of that size is made.
    layers = len(sizes) - 1
    for i in range(layers):
        for part, shape in (("weight", (1, sizes[i], sizes[i + 1])), ("bias", (1, 1, sizes[i + 1]))):
            found = state[f"layers.{i}.{part}"]
            if found.shape != shape or found.dtype != np.float64:
                raise InputError(f"layers.{i}.{part} must be float64 {shape}; it is {found.dtype} {found.shape}")
    network = _plain_network(sizes, state) if "before.coins" not in state else _coin_network(sizes, state)
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds NaN or infinite values")
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return network


def _plain_network(sizes: list[int], state: Mapping[str, np.ndarray]) -> MLP:
    ends: dict[str, Affine | None] = {}
    for end, size in (("before", sizes[0]), ("after", sizes[-1])):
        given = f"{end}.shift" in state
        ends[end] = Affine([0.0] * size, [1.0] * size, dtype=torch.float64) if given else None
    zeros = [np.random.default_rng(0)]
    return MLP(sizes, zeros, before=ends["before"], after=ends["after"], dtype=torch.float64)


def _coin_network(sizes: list[int], state: Mapping[str, np.ndarray]) -> MLP:
    from toygen.coins import empty_generator

    shifts = state.get("shifts")
    return empty_generator(sizes, int(state["before.coins"].sum()), None if shifts is None else shifts.shape)


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_FILE:
                raise InputError(f"{path} unpacks to more than 1 GiB; a sampler of a toy generator does not.")
        with np.load(path, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
            # A member of a zip that is no array comes back as bytes.
            return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError) as error:
        raise InputError(f"{path} cannot be read as a sampler file (.npz): {_one_line(error)}.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
