"""Objects that mean something in their process only.

They hold connections, threads and event loops. A copy of one is itself. Pickling one is refused with the way to name
the same thing elsewhere, because pickle's own error ("cannot pickle 'sqlite3.Connection' object") names neither.
"""

from __future__ import annotations

from pickle import PicklingError
from typing import Any, ClassVar, NoReturn, Self

__all__ = ("ProcessBound",)


class ProcessBound:
    """Base of objects that cannot be pickled; ``instead`` names what to pass on."""

    __slots__ = ()

    instead: ClassVar[str]

    def __reduce__(self) -> NoReturn:
        raise PicklingError(f"{self!r} cannot be pickled, because it belongs to its process. {self.instead}")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self
