"""The two ports of a converter, and the converter that does nothing.

Both are called once for each argument with an annotation, and for a result whose task has one; ``tp`` is the resolved
annotation. They are not called for arguments without an annotation. They may be called from several threads at once.
Their exceptions reach the caller as a :class:`~jobify.exceptions.PayloadError` that names the argument.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ("Dumper", "Exact", "Loader", "PassThrough")

T = TypeVar("T")


@runtime_checkable
class Dumper(Protocol):
    """Converts values to plain data."""

    def dump(self, data: Any, tp: Any, /) -> Any:
        """``data`` as plain data that the app's serializer can write; ``tp`` is its type."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Converts plain data to values."""

    def load(self, data: Any, tp: type[T], /) -> T:
        """The value of type ``tp`` that was dumped as ``data``. Raises any exception if there is none."""
        ...


@runtime_checkable
class Exact(Protocol):
    """A converter that restores a value equal to the original, or refuses it.

    Those of this package are exact. If dumper and loader are exact, each value is loaded again when it is dumped. If
    the result differs from what ``dump_exact`` expects, the call is refused. A converter without this method decides
    itself what it restores.
    """

    def dump_exact(self, data: Any, tp: Any, /) -> tuple[Any, Any]:
        """``dump(data, tp)``, and the value that ``load`` must restore: ``data``, or what it was coerced to."""
        ...

    @property
    def keeps_plain(self) -> bool:
        """Whether each str, int and bool is restored unchanged under the annotation of its own type."""
        ...


class PassThrough:
    """The converter for a serializer that restores types by itself: returns values unchanged."""

    def dump(self, data: Any, tp: Any) -> Any:
        return data

    def load(self, data: Any, tp: Any) -> Any:
        return data
