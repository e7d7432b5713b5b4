"""Writing on the spot: on a thread that must not wait, the event loop's.

With ``synchronous="normal"`` a commit is a copy into the memory of the kernel. What can make it wait is refused here,
and left to a thread that may:

- another thread or process that writes: its locks are tried and not waited for;
- a flush: checkpoints, and the first write after one, are for others (see ``database``). Other processes make
  checkpoints, too, but only after a commit; so when somebody else has committed, the next write is not made here.

What remains is a kernel that makes a writer wait because too much is unwritten, or a process that stands still between
two steps. Whoever writes here should see how long that takes.
"""

from __future__ import annotations

from jobify.storage.sqlite.database import Database

__all__ = ("Spot",)


class Spot:
    """``with`` this, a write is made without waiting, or not at all."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.begin_nonblocking()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._database.end_nonblocking(has_written=kind is None)
