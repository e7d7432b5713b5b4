"""The two ports of a converter, and the converters of this package.

Both are called once for each argument with an annotation, and for a result whose task has one; ``tp`` is the resolved
annotation. They are not called for arguments without an annotation. They may be called from several threads at once.
Their exceptions reach the caller as a :class:`~jobify.exceptions.PayloadError` that names the argument.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, runtime_checkable
from zoneinfo import ZoneInfo

import msgspec
from msgspec.inspect import CustomType, type_info

from jobify.exceptions import PayloadError

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

__all__ = ("Dumper", "Exact", "Loader", "NativeConverter", "PassThrough", "PydanticConverter")


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


# -- pydantic ----------------------------------------------------------------------------------------------------------
# Conversion by annotation with pydantic.

_JSON_TYPES: Final = (str, int, float, list, dict, type(None))


class PydanticConverter:
    """Dumper and loader in one, by pydantic's `TypeAdapter <https://docs.pydantic.dev/latest/api/type_adapter/>`_.

    - ``config``: a ``ConfigDict`` for annotations that are no models, dataclasses or typed dicts, which have their own.
    - ``strict``: load without coercion, ``"1"`` is no int; None leaves it to the types. Dates, enums and the like are
      still read from the text they were dumped as.
    - ``from_attributes``: load from the attributes of any object.
    - ``by_alias``: dump under the aliases of fields. Both alias and name are accepted when loading (pydantic 2.11).
    - ``exclude_none``: do not dump fields that are None.
    - ``context``: passed to validators and serializers that take it.

    The restored value equals the original, or an app refuses the call or the result with PayloadError. That concerns a
    SecretStr (written as asterisks), a subclass of the annotated model, fields with ``exclude=True``, private
    attributes, serializers that lose information, and validators that would change the value. A value of another type
    than the annotation is coerced by pydantic before it is stored: ``"1"`` to 1, a dict to a model. Only
    ``model_fields_set`` is not restored.

    Raises ImportError if pydantic is missing: ``pip install 'jobify[pydantic]'``.
    """

    def __init__(
        self,
        *,
        config: ConfigDict | None = None,
        strict: bool | None = None,
        from_attributes: bool | None = None,
        by_alias: bool = False,
        exclude_none: bool = False,
        context: dict[str, Any] | None = None,
    ) -> None:
        try:
            import pydantic
            import pydantic_core
        except ImportError as error:
            raise ImportError(
                "pydantic is not installed. Run: pip install 'jobify[pydantic]'", name="pydantic"
            ) from error
        self._make = pydantic.TypeAdapter
        self._user_error = pydantic.PydanticUserError
        self._serialization_error = pydantic_core.PydanticSerializationError
        self._to_json = pydantic_core.to_json
        self._config = config
        self._from_attributes = from_attributes
        self._dumping: dict[str, Any] = {
            "mode": "json",
            "round_trip": True,  # without computed fields, which could not be loaded
            "by_alias": by_alias,
            "exclude_none": exclude_none,
        } | _given(context=context)
        self._loading: dict[str, Any] = _given(strict=strict, context=context) | _naming(pydantic.VERSION)
        self._cached = lru_cache(maxsize=1024)(self._build)

    def dump(self, data: Any, tp: Any) -> Any:
        """``data`` as dicts, lists, text, numbers, bools and None, by the schema of ``tp``.

        A value that is not of type ``tp`` is validated first: coerced if possible, else refused with
        pydantic.ValidationError, here and not when the job runs.
        """
        return self.dump_exact(data, tp)[0]

    def load(self, data: Any, tp: Any) -> Any:
        """The value of type ``tp`` in ``data``, validated and, if allowed, coerced. Raises pydantic.ValidationError."""
        adapter = self._adapter(tp)
        if self._from_attributes or not isinstance(data, _JSON_TYPES):
            return adapter.validate_python(data, from_attributes=self._from_attributes, **self._loading)
        # As JSON, because it was dumped for JSON: a strict model would not take text for a date otherwise.
        return adapter.validate_json(self._to_json(data, inf_nan_mode="constants"), **self._loading)

    def dump_exact(self, data: Any, tp: Any) -> tuple[Any, Any]:
        """:meth:`dump`, and the value that :meth:`load` must restore: ``data``, or what it was coerced to."""
        adapter = self._adapter(tp)
        if self._from_attributes and not isinstance(data, _JSON_TYPES):
            data = adapter.validate_python(data, from_attributes=True, **self._loading)
        try:
            return adapter.dump_python(data, warnings="error", **self._dumping), data
        except self._serialization_error:
            valid = adapter.validate_python(data, from_attributes=self._from_attributes, **self._loading)
            return adapter.dump_python(valid, warnings="none", **self._dumping), valid

    @property
    def keeps_plain(self) -> bool:
        """Whether plain values stay as they are; a ``config`` may change them."""
        return self._config is None

    def _adapter(self, tp: Any) -> TypeAdapter[Any]:
        try:
            return self._cached(tp)
        except TypeError:  # an annotation that cannot be hashed
            return self._build(tp)

    def _build(self, tp: Any) -> TypeAdapter[Any]:
        if self._config is None:
            return self._make(tp)
        try:
            return self._make(tp, config=self._config)
        except self._user_error as error:
            if error.code != "type-adapter-config-unused":
                raise
            return self._make(tp)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _naming(version: str) -> dict[str, Any]:
    """Accept names and aliases, which pydantic supports since 2.11."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return {"by_alias": True, "by_name": True} if (major, minor) >= (2, 11) else {}
