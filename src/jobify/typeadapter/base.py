"""The two ports of a converter, and the converter that does nothing.

Both are called once for each argument with an annotation, and for a result whose task has one; ``tp`` is the resolved
annotation. They are not called for arguments without an annotation. They may be called from several threads at once.
Their exceptions reach the caller as a :class:`~jobify.exceptions.PayloadError` that names the argument.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeVar, runtime_checkable
from zoneinfo import ZoneInfo

import msgspec
from msgspec.inspect import CustomType, type_info

from jobify.exceptions import PayloadError

__all__ = ("Dumper", "Exact", "Loader", "NativeConverter", "PassThrough")


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


# -- native ------------------------------------------------------------------------------------------------------------
# Conversion by annotation with msgspec, without further packages.

_TEXT: Final = (PurePath, ZoneInfo, Fraction, complex)
"""Types that msgspec does not know, which can be restored from their ``str``."""


class NativeConverter:
    """Dumper and loader by msgspec.

    The default for an app with a plain serializer and no converter. Supports the annotations of msgspec: builtins and
    their generics, Optional and unions that JSON can distinguish, Literal, enums of str or int, dataclasses, TypedDict,
    NamedTuple, Struct, attrs classes, dates and times, Decimal, UUID; and Path, ZoneInfo, Fraction and complex. Under
    any other annotation, a value is passed on unchanged, and the serializer may refuse it. Nothing is coerced: ``"1"``
    is not an int. An app refuses values that would be restored differently.

    >>> NativeConverter().dump({1: b"a"}, dict[int, bytes])
    {'1': 'YQ=='}
    >>> NativeConverter().load({"1": "YQ=="}, dict[int, bytes])
    {1: b'a'}
    """

    def dump(self, data: Any, tp: Any) -> Any:
        if not _understands(tp):
            return data
        try:
            return msgspec.to_builtins(data, str_keys=True, enc_hook=_to_text)
        except Exception as error:
            raise PayloadError(f"the value cannot be taken apart: {error}") from error

    def load(self, data: Any, tp: Any) -> Any:
        if not _understands(tp):
            return data
        try:
            return msgspec.convert(data, tp, str_keys=True, dec_hook=_from_text)
        except Exception as error:
            raise PayloadError(f"the value does not fit its annotation {tp!r}: {error}") from error

    def dump_exact(self, data: Any, tp: Any) -> tuple[Any, Any]:
        """:meth:`dump`, and ``data``: nothing is coerced."""
        return self.dump(data, tp), data

    @property
    def keeps_plain(self) -> bool:
        """Whether plain values stay as they are: always."""
        return True


def _understands(tp: Any) -> bool:
    try:
        return _is_known(tp)
    except TypeError:  # an Annotated with metadata that cannot be hashed
        return _is_known.__wrapped__(tp)


@lru_cache(maxsize=1024)
def _is_known(tp: Any) -> bool:
    try:
        info = type_info(tp)
        msgspec.json.Decoder(tp)
        return not isinstance(info, CustomType) or issubclass(info.cls, _TEXT)
    except Exception:  # an annotation of a user may raise anything
        return False


def _to_text(value: Any) -> str:
    if isinstance(value, _TEXT):
        return str(value)
    raise TypeError(f"{type(value).__qualname__} is not plain data")


def _from_text(tp: type, data: Any) -> Any:
    if isinstance(data, str) and issubclass(tp, _TEXT):
        return tp(data)
    raise TypeError(f"expected the text of a {tp.__qualname__}")
