"""Classes by name, and the certainty that the name leads back to the same class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobify.exceptions import ConfigurationError
from jobify.runtime.importable import find, name_of
from jobify.serializers.base import RefusedValueError

__all__ = ("TypeNames",)


class TypeNames:
    """What imported modules hold, those in ``modules`` included, and what was registered by hand because none does."""

    def __init__(
        self, registered: Iterable[type] = (), modules: Iterable[str] = (), renamed: Mapping[str, type] | None = None
    ) -> None:
        self._modules = tuple(modules)
        self._renamed = dict(renamed or {})
        self._registered: dict[str, type] = {}
        for cls in registered:
            if self._registered.setdefault(name_of(cls), cls) is not cls:
                raise ConfigurationError(f"Two registered types are named {name_of(cls)}. Rename one of them.")

    def name(self, cls: type) -> str:
        """The name of ``cls``. RefusedValueError if that name would lead elsewhere."""
        name = name_of(cls)
        if self._leads_to(name) is cls:
            return name
        raise RefusedValueError(
            f"the class {name} cannot be imported by that name, so nothing could restore this value. Define it at the "
            "top level of a module, or register it: ExtendedJSONSerializer(types=[...])."
        )

    def find(self, name: str) -> Any:
        """What ``name`` stands for. ImportError if there is nothing."""
        if name in self._renamed:
            return self._renamed[name]
        return self._registered[name] if name in self._registered else find(name, self._modules)

    def renaming(self, types: Mapping[str, type]) -> TypeNames:
        """The same, with earlier names of classes."""
        return TypeNames(self._registered.values(), self._modules, {**self._renamed, **types})

    def known(self) -> list[tuple[str, type | None]]:
        """What it finds beside that which is imported: classes by name, and names of modules."""
        return [*self._registered.items(), *self._renamed.items(), *((module, None) for module in self._modules)]

    def _leads_to(self, name: str) -> Any:
        try:
            return self.find(name)
        except ImportError:
            return None
