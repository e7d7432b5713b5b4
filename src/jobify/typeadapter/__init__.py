"""Converters between a user's types and plain data, by annotation.

A *dumper* converts a value to plain data before a serializer writes it, a *loader* converts it back. One object may be
both, as :class:`PydanticConverter` and ``adaptix.Retort()`` are::

    app = Jobify(dumper=PydanticConverter(), loader=PydanticConverter())

The converters here are exact: the restored value equals the original, or the call is refused. That also holds for a
Retort of adaptix. A custom converter decides itself what it restores, unless it implements :class:`Exact`.

The default serializer restores types by itself and needs no converter.
"""

from __future__ import annotations

from jobify.typeadapter.base import Dumper, Exact, Loader, NativeConverter, PassThrough, PydanticConverter

__all__ = ("Dumper", "Exact", "Loader", "NativeConverter", "PassThrough", "PydanticConverter")
