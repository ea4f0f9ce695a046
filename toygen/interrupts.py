"""Ctrl-C, heard between two steps.

In the middle of a step one player has moved and the other has not, and random numbers are drawn that no step has used.
A run that is put aside there cannot go on bit by bit, so an interruption waits until the step is whole.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["between_steps"]


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back; what is yielded raises ``KeyboardInterrupt`` if it was pressed, and so does leaving the block.

    Where Ctrl-C is ignored or means something else already, and outside the main thread, nothing changes.

    >>> with between_steps() as hear:
    ...     hear()  # nobody pressed anything
    """
    asked: list[int] = []

    def hear() -> None:
        if asked:
            asked.clear()
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield hear
        return
    signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield hear
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hear()
