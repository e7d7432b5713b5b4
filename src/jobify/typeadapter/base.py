"""The two ports of a converter, and the converter that does nothing.

Both are asked once for each argument that has an annotation, and for a result whose task has one; ``tp`` is that
annotation, resolved. Arguments without one never come here. Both may be called from several threads at once. What they
raise reaches the caller as a :class:`~jobify.exceptions.PayloadError` that names the argument.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Dumper", "Exact", "Loader", "PassThrough")

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


@runtime_checkable
class Exact(Protocol):
    """A converter that brings a value back equal, or refuses it. The converters of this package are exact.

    Where dumper and loader are exact, each value is loaded again when it is dumped. If the result differs from what
    ``dump_exact`` expects, the call is refused. A converter without this method decides itself what comes back.
    """

    def dump_exact(self, data: Any, tp: Any, /) -> tuple[Any, Any]:
        """``dump(data, tp)``, and what ``load`` has to give for it: ``data``, or what it was coerced to."""
        ...

    @property
    def keeps_plain(self) -> bool:
        """Whether each str, int and bool comes back as it is under the annotation of its own type."""
        ...


class PassThrough:
    """The converter for a serializer that restores types by itself: hands on what it is given."""

    def dump(self, data: Any, tp: Any) -> Any:
        return data

    def load(self, data: Any, tp: Any) -> Any:
        return data
