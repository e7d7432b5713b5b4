"""What the tests of a storage start from: a storage, and the rows of :mod:`jobify.testing.rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobify.storage.base import Storage
from jobify.testing import rows
from jobify.testing.rows import *  # noqa: F403 - all of it

__all__ = ["StorageCase", "undone"]
__all__ += rows.__all__


class StorageCase:
    """The base of each part of the suite."""

    def new_storage(self, directory: Path) -> Storage:
        """A storage that is not open yet; of those with the same directory all see the same jobs, if they share any."""
        raise NotImplementedError

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        storage = self.new_storage(tmp_path)
        storage.open()
        yield storage
        storage.close()

    @pytest.fixture
    def owner(self, storage: Storage) -> int:
        return storage.register(rows.PROFILE, now=rows.NOW)


class _Stop(Exception):
    """Raised in a block."""


def undone(storage: Storage, write: Callable[[], object]) -> None:
    """Call ``write`` in a block that then raises, so that nothing of it stays."""
    with pytest.raises(_Stop):
        _stop_after(storage, write)


def _stop_after(storage: Storage, write: Callable[[], object]) -> None:
    with storage.transaction():
        write()
        raise _Stop
