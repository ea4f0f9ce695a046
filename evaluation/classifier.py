r"""Features of the data's own domain: the last hidden layer of a small classifier trained on the labelled training set.

What an ImageNet network says of digits, spectra or game sprites means little. A classifier of the classes at hand is
blind to most of what does not matter for them, and sees what does: "FID on digits" is then a distance in a space where
a 3 and an 8 are far apart.

Images pass two convolutions, points one dense layer, then a layer of N units, whose values are the features, then the
classes. Training is short: Adam, cross-entropy with smoothed labels, random shifts of images by up to one pixel. It is
seeded and uses no random state but its own. A tenth of train, drawn from every class, is kept aside and gives the
accuracy that the fingerprint states; a classifier that is no better than always naming the commonest class is refused.

**A caveat that the numbers carry.** The classifier has seen the training samples and not the generated ones, so its
features of train are a little more sure of themselves: two sets of one law are not quite alike in them. The
fingerprint states this as ``seen_gap``: how far the means of seen and kept-aside samples lie apart, class by class, in
units of the spread within classes, where 1 is what sampling alone makes. Prefer held-out data as the reference of a
Fréchet distance in these features.

References:
    Improved techniques for training GANs (Salimans et al., 2016), https://arxiv.org/abs/1606.03498. A note on the
    Inception Score (Barratt, Sharma, 2018), https://arxiv.org/abs/1801.01973.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences.errors import InputError
from evaluation.rows import Transform, as_images, as_rows, finite, same_rows, steady, train_digest, versions

if TYPE_CHECKING:
    import torch

__all__ = ["ClassifierFeatures"]

_BATCH = 64
_FEWEST_STEPS, _MOST_STEPS = 400, 1000
_EPOCHS = 12
_RATE = 1e-3
_DECAY = 1e-2
_SMOOTHING = 0.1
# Of the activation below 0: units with a slope there cannot die in training, which would cost dimensions.
_SLOPE = 0.1
_HALVED_FROM = 12
_CHUNK = 256
# As many samples tell centre and spread of the values.
_LOOKED_AT = 5000


@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """The last hidden layer of a classifier trained on train.

    Attributes:
        labels: of train, shape (n,).
        dimensions: units of that layer.
        seed: of weights, batches and shifts.
    """

    labels: Any
    dimensions: int = 64
    seed: int = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"classifier:{self.dimensions}"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the numbers depend on."""
        parameters = {"dimensions": self.dimensions, "seed": self.seed, "epochs": _EPOCHS}
        return {"name": self.name, "parameters": parameters, "versions": versions("numpy", "torch")}

    def fit(self, train: Any) -> Transform:
        """Train the classifier.

        Raises:
            InputError: labels that do not go with train, fewer than two classes of at least two samples, or classes
                that the classifier cannot tell apart.
        """
        rows = _rows(train, "train=", None)
        classes, numbers = _classes(self.labels, len(rows))
        rng = np.random.default_rng(self.seed)
        kept = _kept_aside(numbers, rng)
        some = rows[np.flatnonzero(~kept)[:_LOOKED_AT]].astype(np.float64)
        spread = float(some.std()) or 1.0
        net = _Net(rows.shape[1:], float(some.mean()), spread, self.dimensions, len(classes), rng)
        net.train(rows[~kept], numbers[~kept], rng)
        hidden, guesses = net.run(rows)
        right = guesses == numbers
        accuracy = float(right[kept].mean())
        commonest = float(np.bincount(numbers[kept]).max() / kept.sum())
        if accuracy <= commonest:
            raise InputError(
                f"features={self.name}: the classifier is right for {accuracy:.0%} of the training samples kept aside, "
                f"and always naming the commonest class is for {commonest:.0%}. Are labels= in the order of train=? "
                "Otherwise use other features, such as random-conv or pca:N."
            )
        made = self.fingerprint | {
            "train": train_digest(train),
            "classes": len(classes),
            "accuracy": round(accuracy, 4),
            "seen_gap": round(_seen_gap(hidden, numbers, kept), 3),
        }
        return _Hidden(net, rows.shape[1:], made)


@dataclass(frozen=True, eq=False)
class _Hidden:
    net: _Net
    shape: tuple[int, ...]
    fingerprint: dict[str, Any]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        return self.net.run(_rows(array, name, self.shape))[0]


class _Net:
    """Its layers as plain tensors, so that no global random state is touched."""

    def __init__(
        self, shape: tuple[int, ...], center: float, spread: float, hidden: int, classes: int, rng: np.random.Generator
    ) -> None:
        self.center, self.spread = center, spread
        self.strides: list[int] = []
        layers: list[tuple[int, ...]] = []
        if len(shape) == 3:
            height, width, channels = shape
            for size, outputs in ((5, 16), (3, 32)):
                stride = 2 if min(height, width) >= _HALVED_FROM else 1
                height, width = -(-height // stride), -(-width // stride)
                layers.append((outputs, channels, size, size))
                self.strides.append(stride)
                channels = outputs
            flat = height * width * channels
        else:
            layers.append((128, shape[0]))
            flat = 128
        layers += [(hidden, flat), (classes, hidden)]
        self.layers = [_layer(form, rng) for form in layers]

    def forward(self, x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[Any, Any]:
        """Hidden values and logits."""
        from torch.nn import functional

        for i, (weight, offset) in enumerate(layers[:-1]):
            if weight.ndim == 4:
                x = functional.conv2d(x, weight, offset, stride=self.strides[i], padding=weight.shape[-1] // 2)
            else:
                x = functional.linear(x.flatten(1), weight, offset)
            x = functional.leaky_relu(x, _SLOPE)
        return x, functional.linear(x, *layers[-1])

    def prepared(self, rows: np.ndarray, dtype: Any) -> torch.Tensor:
        import torch

        scaled = (rows.astype(dtype) - dtype(self.center)) / dtype(self.spread)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, -1, 1) if rows.ndim == 4 else scaled))

    def train(self, rows: np.ndarray, numbers: Int64[np.ndarray, " n"], rng: np.random.Generator) -> None:
        import torch

        targets = torch.from_numpy(numbers)
        leaves = [tensor.requires_grad_() for layer in self.layers for tensor in layer]
        steps = int(np.clip(_EPOCHS * len(rows) // _BATCH, _FEWEST_STEPS, _MOST_STEPS))
        optimizer = torch.optim.AdamW(leaves, lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = rng.integers(0, len(rows), min(_BATCH, len(rows)))
            x = self.prepared(_shifted(rows[chosen], rng), np.float32)
            _, logits = self.forward(x, self.layers)
            loss = torch.nn.functional.cross_entropy(
                logits, targets[torch.from_numpy(chosen)], label_smoothing=_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.layers = [tuple(tensor.detach().double() for tensor in layer) for layer in self.layers]  # type: ignore[misc]

    def run(self, rows: np.ndarray) -> tuple[Float64[np.ndarray, "n d"], Int64[np.ndarray, " n"]]:
        """Features in double precision, and the class guessed."""
        import torch

        hidden, guesses = [], []
        with torch.inference_mode():
            for start in range(0, len(rows), _CHUNK):
                values, logits = self.forward(self.prepared(rows[start : start + _CHUNK], np.float64), self.layers)
                hidden.append(values.numpy())
                guesses.append(logits.argmax(1).numpy())
        return steady(np.concatenate(hidden), 1.0), np.concatenate(guesses)


def _layer(form: tuple[int, ...], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    weight = rng.normal(0.0, np.sqrt(2.0 / np.prod(form[1:])), form).astype(np.float32)
    return torch.from_numpy(weight), torch.zeros(form[0])


def _shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch moved by at most one pixel each way; points stay where they are."""
    if images.ndim != 4:
        return images
    down, right = rng.integers(-1, 2, 2)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[:, 1 + down : 1 + down + images.shape[1], 1 + right : 1 + right + images.shape[2]]


def _rows(array: Any, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    given = as_rows(array, name)
    rows = as_images(given, name, "classifier") if given.ndim > 2 else finite(given, name)
    if shape is not None:
        same_rows(rows, shape, name)
    return rows


def _classes(labels: Any, n: int) -> tuple[np.ndarray, Int64[np.ndarray, " n"]]:
    given = np.asarray(labels)
    if given.shape != (n,):
        raise InputError(f"labels= must have shape ({n},), one per sample of train=; it has shape {given.shape}.")
    classes, numbers = np.unique(given, return_inverse=True)
    counts = np.bincount(numbers)
    if len(classes) < 2 or counts.min() < 2:
        rare = ", ".join(str(classes[i]) for i in np.flatnonzero(counts < 2)[:5])
        why = f"these have one: {rare}" if rare else f"all are {classes[0]}"
        raise InputError(f"features=classifier needs two classes or more of at least two samples in labels=; {why}.")
    return classes, numbers.astype(np.int64)


def _kept_aside(numbers: Int64[np.ndarray, " n"], rng: np.random.Generator) -> np.ndarray:
    """A tenth of each class, at least one sample."""
    kept = np.zeros(len(numbers), dtype=bool)
    for number in range(numbers.max() + 1):
        members = np.flatnonzero(numbers == number)
        kept[rng.permutation(members)[: max(1, len(members) // 10)]] = True
    return kept


def _seen_gap(hidden: Float64[np.ndarray, "n d"], numbers: Int64[np.ndarray, " n"], kept: np.ndarray) -> float:
    """Squared distance of class means, seen against kept aside, over what sampling alone would make it."""
    apart = expected = 0.0
    for number in range(numbers.max() + 1):
        seen, unseen = hidden[(numbers == number) & ~kept], hidden[(numbers == number) & kept]
        weight = len(seen) + len(unseen)
        scatter = float(((seen - seen.mean(axis=0)) ** 2).sum(axis=1).mean())
        apart += weight * float(((seen.mean(axis=0) - unseen.mean(axis=0)) ** 2).sum())
        expected += weight * scatter * (1 / len(seen) + 1 / len(unseen))
    return apart / expected if expected > 0 else 1.0
