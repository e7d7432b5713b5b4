"""The storages that the client is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from elsewhere import STORAGES, World
from remote_worker import Place

from jobify import Jobify


@pytest.fixture(params=STORAGES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An app that enqueues, and a storage that others may run on."""
    world = World(request.param, tmp_path)
    yield world
    world.app.close()


@pytest.fixture
def app(world: World, request: pytest.FixtureRequest) -> Jobify:
    """The app that enqueues, with the tasks that the module of the test declares."""
    request.module.declare(world.app)
    return world.app


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An app that enqueues, and a worker that the test drives."""
    place = Place(tmp_path)
    yield place
    place.app.close()
    place.worker.close()
