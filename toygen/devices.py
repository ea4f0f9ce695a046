"""Where tensors live: a CPU or one CUDA device."""

from __future__ import annotations

from typing import Any

import torch

from divergences.errors import InputError

__all__ = ["as_device"]


def as_device(name: Any) -> torch.device:
    """The device of that name: "auto" (a CUDA device if there is one, else the CPU), "cpu", "cuda" or "cuda:1".

    Raises:
        InputError: another name, or CUDA where there is none.

    >>> as_device("cpu")
    device(type='cpu')
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device must be auto, cpu, cuda or cuda:N; it is {name!r}.") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N; it is {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"device {name!r} is not there: torch {torch.__version__} sees {count} CUDA devices. Use cpu.")
    return device
