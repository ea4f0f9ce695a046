"""Other packages, imported beside a CPU build of torch."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

_kept: list[Any] = []


def load(name: str) -> Any:
    """The module of that name.

    Raises:
        ImportError: it is not installed.
        RuntimeError: it does not import beside this torch.
    """
    if not _kept:
        from torch import library as operations

        # The public build of torchvision needs CUDA libraries for two operations nobody here calls: declare them.
        fragment = operations.Library("torchvision", "FRAGMENT")
        for operation in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                fragment.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(fragment)
    return importlib.import_module(name)
