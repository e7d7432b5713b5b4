"""Apps that run elsewhere: in another thread on the same storage object, or in another process on the same file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobify import Jobify
from jobify.storage import Storage
from jobify.storage.memory import MemoryStorage
from support import PATIENCE, durable

STORAGES = ("sqlite", "shared object", "memory")
"""Two objects for one file are as good as two processes; one object in two apps; and one that keeps no file."""


class World:
    """A storage, an app in the test's thread that never starts, and one that runs elsewhere."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self._storage = MemoryStorage() if kind == "memory" else durable(directory)
        self.app = Jobify(storage=self._storage)

    def storage(self) -> Storage:
        """The storage of one more app."""
        return durable(self.directory) if self.kind == "sqlite" else self._storage  # type: ignore[no-any-return]

    @contextmanager
    def running(self, declare: Callable[[Jobify], object], **options: object) -> Iterator[Jobify]:
        """An app with these tasks runs in a thread of its own while the block does."""
        app = Jobify(storage=self.storage(), **options)  # type: ignore[arg-type]
        declare(app)
        started = threading.Event()
        errors: list[BaseException] = []
        loops: list[asyncio.AbstractEventLoop] = []
        ends: list[asyncio.Event] = []

        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            ends.append(asyncio.Event())
            async with app:
                started.set()
                await ends[0].wait()

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:
                errors.append(error)
            finally:
                started.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(PATIENCE)
        assert not errors, errors
        try:
            yield app
        finally:
            loops[0].call_soon_threadsafe(ends[0].set)
            thread.join(PATIENCE)
            assert not errors, errors
