"""CBOR (RFC 8949): the binary format that knows the most types by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from jobify.exceptions import PayloadError
from jobify.serializers.base import Serializer, on_any_stack, optional_library, require_depth, undecodable, unencodable
from jobify.serializers.json import is_plain
from jobify.serializers.roundtrip import OTHER_WAYS, require_same

__all__ = ("CBORSerializer",)


class CBORSerializer(Serializer):
    """CBOR by `cbor2 <https://cbor2.readthedocs.io>`_, release 6 or newer; the options are those of that library.

    Encoding:

    - ``datetime_as_timestamp``: datetimes as seconds; shorter, and without their zone.
    - ``timezone``: the zone of naive datetimes; without it they are refused.
    - ``date_as_datetime``: dates as datetimes at midnight.
    - ``value_sharing``: write a container that occurs twice once; allows cycles, costs time.
    - ``string_referencing``: write a string that occurs twice once.
    - ``canonical``: one form for one value (sorted maps and sets), so that bytes can be compared.
    - ``indefinite_containers``: end containers with a stop code instead of starting them with a length.
    - ``encoders``: type → ``f(encoder, value)``, in place of the built-in way. ``default``: the same for other types.

    Decoding:

    - ``tag_hook``, ``object_hook``: what to make of an unknown tag, of a map. ``semantic_decoders``: tag number →
      decoder, in place of the built-in one. ``str_errors``: ``"strict"``, or another error handler for text.
    - ``max_depth``: how deep containers may nest. ``allow_indefinite``: accept containers with a stop code.
      ``immutable``: give tuples, frozensets and frozen dicts.

    With a hook, an encoder, or an option that changes values (``timezone``, ``datetime_as_timestamp``,
    ``date_as_datetime``, ``immutable``, ``str_errors``) nothing is checked. Without them, the restored value is
    compared with the original before it is stored, and a difference is refused: a tuple, a datetime whose zone has a
    name. Plain data skips the comparison.

    Raises ImportError where cbor2 is missing: ``pip install 'jobify[cbor]'``.
    """

    restores_types = False

    def __init__(
        self,
        *,
        datetime_as_timestamp: bool = False,
        timezone: tzinfo | None = None,
        value_sharing: bool = False,
        encoders: Mapping[type, Callable[[Any, Any], Any]] | None = None,
        default: Callable[[Any, Any], Any] | None = None,
        canonical: bool = False,
        date_as_datetime: bool = False,
        string_referencing: bool = False,
        indefinite_containers: bool = False,
        tag_hook: Callable[..., Any] | None = None,
        object_hook: Callable[..., Any] | None = None,
        semantic_decoders: Mapping[int, Callable[..., Any]] | None = None,
        str_errors: str = "strict",
        max_depth: int = 400,
        allow_indefinite: bool = True,
        immutable: bool = False,
    ) -> None:
        cbor2 = optional_library("cbor2", extra="cbor")
        self._dumps = cbor2.dumps
        self._loads = cbor2.loads
        self._max_depth = max_depth
        self._encoding = {
            "datetime_as_timestamp": datetime_as_timestamp,
            "timezone": timezone,
            "value_sharing": value_sharing,
            "encoders": encoders,
            "default": default,
            "canonical": canonical,
            "date_as_datetime": date_as_datetime,
            "string_referencing": string_referencing,
            "indefinite_containers": indefinite_containers,
        }
        self._decoding = {
            "tag_hook": tag_hook,
            "object_hook": object_hook,
            "semantic_decoders": semantic_decoders,
            "str_errors": str_errors,
            "max_depth": max_depth,
            "allow_indefinite": allow_indefinite,
            "immutable": immutable,
        }
        hooks = (encoders, default, tag_hook, object_hook, semantic_decoders, timezone)
        changes = datetime_as_timestamp or date_as_datetime or immutable or str_errors != "strict"
        self._checked = not changes and all(hook is None for hook in hooks)

    @on_any_stack
    def dumpb(self, data: Any) -> bytes:
        try:
            require_depth(data)
            encoded: bytes = self._dumps(data, **self._encoding)
            if self._checked:
                self._try_out(data, encoded)
        except PayloadError:
            raise
        except Exception as error:
            raise unencodable("CBOR", error) from error
        return encoded

    def _try_out(self, data: Any, encoded: bytes) -> None:
        if not is_plain(data):
            require_same(data, self.loadb(encoded), OTHER_WAYS)
        elif len(encoded) > self._max_depth:  # a level of nesting takes a byte: shorter data cannot be too deep
            self.loadb(encoded)

    @on_any_stack
    def loadb(self, data: bytes) -> Any:
        try:
            return self._loads(data, **self._decoding)
        except Exception as error:
            raise undecodable("CBOR", error) from error
