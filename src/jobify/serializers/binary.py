"""The binary formats: MessagePack, which is the data model of JSON and bytes in fewer bytes, and CBOR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from jobify.exceptions import PayloadError
from jobify.serializers.base import Serializer, on_any_stack, optional_library, require_depth, undecodable, unencodable
from jobify.serializers.json import is_plain
from jobify.serializers.roundtrip import OTHER_WAYS, require_same

__all__ = ("CBORSerializer", "MsgpackSerializer")


class MsgpackSerializer(Serializer):
    """MessagePack by `msgpack <https://msgpack-python.readthedocs.io>`_; the options are those of that library.

    Packing:

    - ``default``: called for a value that msgpack does not know; returns one that it knows.
    - ``use_bin_type``: distinguish bytes from text (the format of 2013). False writes both in the same way.
    - ``strict_types``: call ``default`` for subclasses and tuples too.
    - ``datetime``: write aware datetimes as timestamps; needs ``timestamp=3`` to come back as datetimes, in UTC.
    - ``unicode_errors``: error handler for text, in both directions.

    Unpacking:

    - ``raw``: give text as bytes. ``timestamp``: give timestamps as 0 Timestamp, 1 float, 2 int (nanoseconds),
      3 datetime. ``strict_map_key``: allow only text and bytes as keys. ``use_list``: lists; False gives tuples.
    - ``object_hook``, ``object_pairs_hook``, ``list_hook``, ``ext_hook``: what to make of a map, of its pairs, of a
      list, of an extension type.
    - ``max_str_len``, ``max_bin_len``, ``max_array_len``, ``max_map_len``, ``max_ext_len``: limits; -1 is the length
      of the data.

    With ``default``, a hook, ``raw``, ``use_list=False`` or ``unicode_errors``, nothing is checked. Without
    them, the restored value is compared with the original before it is stored, and a difference is refused: a tuple, an
    aware datetime that is not in UTC. Plain data skips the comparison, unless there is a limit.

    Raises ImportError where msgpack is missing: ``pip install 'jobify[msgpack]'``.
    """

    restores_types = False

    def __init__(
        self,
        *,
        default: Callable[[Any], Any] | None = None,
        use_bin_type: bool = True,
        strict_types: bool = False,
        datetime: bool = False,
        unicode_errors: str | None = None,
        raw: bool = False,
        timestamp: int = 0,
        strict_map_key: bool = True,
        use_list: bool = True,
        object_hook: Callable[[dict[Any, Any]], Any] | None = None,
        object_pairs_hook: Callable[[list[tuple[Any, Any]]], Any] | None = None,
        list_hook: Callable[[list[Any]], Any] | None = None,
        ext_hook: Callable[[int, bytes], Any] | None = None,
        max_str_len: int = -1,
        max_bin_len: int = -1,
        max_array_len: int = -1,
        max_map_len: int = -1,
        max_ext_len: int = -1,
    ) -> None:
        msgpack = optional_library("msgpack", extra="msgpack")
        self._packb = msgpack.packb
        self._unpackb = msgpack.unpackb
        self._packing = {
            "default": default,
            "use_bin_type": use_bin_type,
            "strict_types": strict_types,
            "datetime": datetime,
            "unicode_errors": unicode_errors,
        }
        self._unpacking = {
            "raw": raw,
            "timestamp": timestamp,
            "strict_map_key": strict_map_key,
            "use_list": use_list,
            "object_hook": object_hook,
            "object_pairs_hook": object_pairs_hook,
            "list_hook": list_hook,
            "ext_hook": msgpack.ExtType if ext_hook is None else ext_hook,
            "unicode_errors": unicode_errors,
            "max_str_len": max_str_len,
            "max_bin_len": max_bin_len,
            "max_array_len": max_array_len,
            "max_map_len": max_map_len,
            "max_ext_len": max_ext_len,
        }
        self._limited = (max_str_len, max_bin_len, max_array_len, max_map_len, max_ext_len) != (-1,) * 5
        hooks = (default, object_hook, object_pairs_hook, list_hook, ext_hook, unicode_errors)
        self._checked = use_bin_type and use_list and not raw and all(hook is None for hook in hooks)

    @on_any_stack
    def dumpb(self, data: Any) -> bytes:
        try:
            plain = self._checked and is_plain(data)
            if not plain:
                require_depth(data)
            encoded: bytes = self._packb(data, **self._packing)
            if self._checked and (self._limited or not plain):
                require_same(data, self.loadb(encoded), OTHER_WAYS)
        except PayloadError:
            raise
        except Exception as error:
            raise unencodable("MessagePack", error) from error
        return encoded

    @on_any_stack
    def loadb(self, data: bytes) -> Any:
        try:
            return self._unpackb(data, **self._unpacking)
        except Exception as error:
            raise undecodable("MessagePack", error) from error


# -- cbor --------------------------------------------------------------------------------------------------------------
# CBOR (RFC 8949): the binary format that knows the most types by itself.


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
