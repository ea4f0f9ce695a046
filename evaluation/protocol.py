"""What somebody needs to know of the sets to repeat an audit: what they are, how they were saved, what they share."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from divergences.errors import InputError
from evaluation.findings import printable
from evaluation.samples import Samples
from evaluation.sources import compare_sources

__all__ = ["described", "overlap_of"]


def overlap_of(generated: Samples, train: Samples, test: Samples | None) -> dict[str, int]:
    """How many samples are equal, to the last bit, to another one.

    Raises:
        InputError: held-out data that are the training data, or the generated samples.
    """
    known = set(_fingerprints(train))
    fakes = _fingerprints(generated)
    overlap = {
        "generated_in_train": sum(print_ in known for print_ in fakes),
        "generated_repeats": len(fakes) - len(set(fakes)),
    }
    if test is not None:
        held_out = _fingerprints(test)
        seen = sum(print_ in known for print_ in held_out)
        apart = set(held_out)
        overlap["test_in_train"] = seen
        overlap["generated_in_test"] = sum(print_ in apart for print_ in fakes)
        if sorted(fakes) == sorted(held_out):
            raise InputError(
                "generated= and test= are the same samples: an audit of a set against itself says nothing. Pass as "
                "test= other data that the generator was not trained on."
            )
        if seen == len(test):
            raise InputError(
                f"all {seen} samples of test= also stand in train=. Held-out data must be held out: pass data that the "
                "generator was not trained on, or leave test= out."
            )
    return overlap


def _fingerprints(samples: Samples) -> list[bytes]:
    # −0.0 equals 0.0, and a float32 equals the float64 of the same value.
    array = samples.array if samples.array.dtype == np.uint8 else samples.array.astype(np.float64) + 0.0
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(array)]


def described(generated: Samples, train: Samples, test: Samples | None, overlap: dict[str, int]) -> dict[str, Any]:
    """Each set (None where there is none), and warnings where sets were not saved alike, or share samples."""
    warnings = compare_sources(generated, train, names=("generated", "train"))
    if test is not None:
        warnings += compare_sources(test, train, names=("test", "train"))
        warnings += _shared(overlap, len(generated), len(train), len(test))
    return {
        "generated": _one(generated),
        "train": _one(train),
        "test": None if test is None else _one(test),
        "warnings": [printable(warning) for warning in warnings],
    }


def _shared(overlap: dict[str, int], n: int, n_train: int, n_test: int) -> list[str]:
    """What ``overlap_of`` says of the held-out data, in words."""
    told = []
    if leaked := overlap["test_in_train"]:
        told.append(
            f"{leaked} of {n_test} samples of test= also stand in train=: they are not held out, and every comparison "
            "with held-out data is too kind to the generator. Remove them."
        )
    taken = overlap["generated_in_test"]
    # Of data that repeat themselves, about as many are found among as many training samples.
    if taken * n_train > 2 * overlap["generated_in_train"] * n_test:
        told.append(
            f"{taken} of {n} samples of generated= also stand in test=: was the one made from the other? The "
            "comparison with held-out data says nothing of them."
        )
    return told


def _one(samples: Samples) -> dict[str, Any]:
    shape = list(samples.array.shape)
    return {
        "source": printable(samples.source),
        "n": shape[0],
        "shape": shape,
        "dtype": str(samples.array.dtype),
        "formats": list(samples.formats),
        "notes": [printable(note) for note in samples.notes],
    }
