"""Functions of the user's own, named as ``module:callable`` and imported only because the user names them.

Importing a module runs it. So a name is imported only where the user has written it as a feature extractor or a
sampler, never because a file says so.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from divergences.errors import InputError

__all__ = ["import_callable", "names_callable"]

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def names_callable(text: str) -> bool:
    """Whether the text has the form ``package.module:function``.

    >>> names_callable("my_gan.draw:sample"), names_callable("samples.npy")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def import_callable(spec: str, name: str) -> Callable[..., Any]:
    """Import a module and return what stands in it under a name: this runs the module.

    Args:
        spec: ``package.module:function``.
        name: what the caller calls the argument, for messages.

    Raises:
        InputError: no such module, an error while it runs, no such name in it, or nothing that can be called.

    >>> import_callable("math:hypot", "sampler")(3, 4)
    5.0
    """
    if not names_callable(spec):
        raise InputError(f"{name} must be written as module:callable, such as my_gan:sample; it is {spec!r}.")
    module, _, attribute = spec.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # a module may raise anything while it runs
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{name} is {spec!r}, but the module {module} cannot be imported ({reason}). It must be installed, or lie "
            "in the folder you are in."
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{name} is {spec!r}, but {module} holds nothing called {attribute}.")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{name} is {spec!r}, which is a {type(found).__name__} and cannot be called.")
    return found
