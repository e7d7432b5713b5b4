"""Everything that Python can pickle, at the price of trusting the database."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from copy import copy
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final

from jobify.runtime.importable import exported
from jobify.serializers.base import Serializer, on_any_stack, require_depth, undecodable, unencodable

__all__ = ("UnsafePickleSerializer", "UnsafePickleWarning")


class UnsafePickleWarning(UserWarning):
    """Pickle is in use, so that everyone who can write to the database can run code in the workers."""


class UnsafePickleSerializer(Serializer):
    """`pickle`, the newest protocol of the running Python.

    Loading a pickle runs what its author chose to run (see the warning in the documentation of :mod:`pickle`). Use it
    only where the database is as well guarded as the code, and where all processes run the same Python and the same
    release of your classes. Says so once, as an :class:`UnsafePickleWarning`, each time one is made.
    """

    restores_types = True
    _renamed: Mapping[str, type] = MappingProxyType({})

    def __init__(self) -> None:
        warnings.warn(
            "UnsafePickleSerializer runs what a row in the database tells it to run. Prefer the default serializer.",
            UnsafePickleWarning,
            stacklevel=2,
        )

    def renaming(self, types: Mapping[str, type]) -> UnsafePickleSerializer:
        """A copy that reads values stored under these earlier names of classes, too; see
        :mod:`jobify.serializers.renamed`."""
        renamed = copy(self)
        renamed._renamed = {**self._renamed, **types}
        return renamed

    @on_any_stack
    def dumpb(self, data: Any) -> bytes:
        require_depth(data)
        try:
            return pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise unencodable("a pickle", error) from error

    @on_any_stack
    def loadb(self, data: bytes) -> Any:
        try:
            return _Unpickler(data, self._renamed).load()
        except Exception as error:
            raise undecodable("a pickle", error) from error


_MOVED: Final = {"jobify.errortools": "jobify.runtime.errortools"}
"""Modules of this package that pickles of earlier releases name, and that hold no exported class."""


class _Unpickler(pickle.Unpickler):
    """Finds some classes under earlier names."""

    def __init__(self, data: bytes, renamed: Mapping[str, type]) -> None:
        super().__init__(BytesIO(data))
        self._renamed = renamed

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        renamed = self._renamed.get(f"{module_name}:{global_name}")
        if renamed is None and module_name.startswith("jobify."):  # earlier releases define it in another module
            renamed = exported(global_name)
            module_name = _MOVED.get(module_name, module_name)
        return super().find_class(module_name, global_name) if renamed is None else renamed
