"""Bytes for the database: what a job's arguments and its result are stored as.

==========================  ===============================================  ==================
serializer                  what it restores                                 needs
==========================  ===============================================  ==================
ExtendedJSONSerializer      builtin and standard types, dataclasses, enums,  –
                            named tuples, Structs, models (the default)
JSONSerializer              what JSON can say                                –
OrjsonSerializer            what JSON can say                                jobify[orjson]
MsgpackSerializer           that, bytes, and dates on request                jobify[msgpack]
CBORSerializer              that, big numbers, dates, sets, decimals         jobify[cbor]
UnsafePickleSerializer      nearly everything; **never for untrusted data**  –
==========================  ===============================================  ==================

One promise holds for all of them: what is restored equals what was given, or the call is refused with a
:class:`~jobify.exceptions.PayloadError` before anything is stored.
"""

from __future__ import annotations

from jobify.serializers.base import Serializer
from jobify.serializers.binary import CBORSerializer, MsgpackSerializer
from jobify.serializers.extended_json import ExtendedJSONSerializer
from jobify.serializers.json import JSONSerializer, OrjsonSerializer
from jobify.serializers.pickle import UnsafePickleSerializer, UnsafePickleWarning

__all__ = (
    "CBORSerializer",
    "ExtendedJSONSerializer",
    "JSONSerializer",
    "MsgpackSerializer",
    "OrjsonSerializer",
    "Serializer",
    "UnsafePickleSerializer",
    "UnsafePickleWarning",
)
