"""Conversion by annotation with pydantic."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

__all__ = ("PydanticConverter",)

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
