"""Converters between a user's types and plain data, by annotation.

A *dumper* takes a value apart before a serializer writes it, a *loader* puts it together again. One object may be both,
as :class:`PydanticConverter` and ``adaptix.Retort()`` are::

    app = Jobify(dumper=PydanticConverter(), loader=PydanticConverter())

The converters here are exact: what comes back equals what was given, or the call is refused. That holds for a Retort of
adaptix, too. A converter of your own decides what comes back, unless it does what :class:`Exact` says.

The default serializer restores types by itself and needs neither.
"""

from __future__ import annotations

from jobify.typeadapter.base import Dumper, Exact, Loader, PassThrough
from jobify.typeadapter.native import NativeConverter
from jobify.typeadapter.pydantic import PydanticConverter

__all__ = ("Dumper", "Exact", "Loader", "NativeConverter", "PassThrough", "PydanticConverter")
