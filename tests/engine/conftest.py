"""Apps over each storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.storage.memory import MemoryStorage
from support import durable


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Jobify]:
    """Makes apps over the storage of the test: all have the same jobs."""
    memory = MemoryStorage()
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    def made(**options: object) -> Jobify:
        storage = memory if request.param == "memory" else url or durable(tmp_path)
        return Jobify(storage=storage, **options)  # type: ignore[arg-type]

    return made


@pytest.fixture
def make_durable(tmp_path: Path) -> Callable[..., Jobify]:
    """The same over one file."""
    return lambda **options: Jobify(storage=durable(tmp_path), **options)
