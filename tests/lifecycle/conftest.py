"""The apps that the lifecycle is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import Outside

from jobify import Jobify
from support import durable


@pytest.fixture(params=["sqlite", "memory"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Jobify:
    return Jobify(storage=durable(tmp_path) if request.param == "sqlite" else False)


@pytest.fixture
def outside(app: Jobify, tmp_path: Path) -> Iterator[Outside]:
    """What others would do to the storage of the app."""
    with Outside(app, tmp_path).here() as outside:
        yield outside
