"""How long the write-ahead log is, and whether it has a hole, without a ``stat``.

A ``stat`` asks for the times of a file, too. Since version 6.13 Linux gives the next write a time of its own then, and
the flush of a commit writes that as well: it takes 0.14 ms instead of 0.10. So what every commit asks is found by
seeking, on a descriptor of our own, because SQLite may rely on the position of its own. That one may be closed: no
process locks the log.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

__all__ = ("LogLength",)

_END: Final = os.SEEK_END
_HOLE: Final[int] = getattr(os, "SEEK_HOLE", _END)


class LogLength:
    """The length of one log. Elsewhere than on Linux it is found by ``fstat``."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number: int | None = None

    def open(self, log: int | None) -> None:
        """Begin. ``log`` is the descriptor that SQLite has, here and below. Nothing happens if this is open already."""
        if log is not None and self._number is None and sys.platform == "linux":
            with suppress(OSError):
                self._number = os.open(f"/proc/self/fd/{log}", os.O_RDONLY)

    def close(self) -> None:
        """End."""
        number, self._number = self._number, None
        if number is not None:
            os.close(number)

    def measure(self, log: int) -> tuple[int, bool]:
        """Its bytes, and whether there is no hole among them."""
        number = self._number
        if number is None:
            found = os.fstat(log)
            return found.st_size, found.st_blocks * 512 >= found.st_size
        size = os.lseek(number, 0, _END)
        return size, size > 0 and os.lseek(number, 0, _HOLE) == size
