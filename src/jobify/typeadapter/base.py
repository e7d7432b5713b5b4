"""The two ports of a converter, and the converter that does nothing.

Both are asked once for each argument that has an annotation, and for a result whose task has one; ``tp`` is that
annotation, resolved. Arguments without one never come here. Both may be called from several threads at once. What they
raise reaches the caller as a :class:`~jobify.exceptions.PayloadError` that names the argument.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Dumper", "Loader", "PassThrough")

T = TypeVar("T")


@runtime_checkable
class Dumper(Protocol):
    """Takes values apart."""

    def dump(self, data: Any, tp: Any, /) -> Any:
        """``data`` as plain data that the app's serializer can write; ``tp`` is the type it should be of."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Puts values together."""

    def load(self, data: Any, tp: type[T], /) -> T:
        """The value of type ``tp`` that was dumped as ``data``. Raises if there is none."""
        ...


class PassThrough:
    """The converter for a serializer that restores types by itself: hands on what it is given."""

    def dump(self, data: Any, tp: Any) -> Any:
        return data

    def load(self, data: Any, tp: Any) -> Any:
        return data
