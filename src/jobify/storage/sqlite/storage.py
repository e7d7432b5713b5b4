"""Jobs in one SQLite file: the parts of this package behind the port.

=====================  ===================================================================================
``database``           transactions, statements, waiting for a locked file; ``connection`` the two connections and
                       the write-ahead log, ``log_room`` room in that; ``file_identity`` whether the files are
                       those that were opened, ``descriptors`` theirs; ``schema`` whose file it is, migrations
``queries.sql``        every statement; ``statements`` fills them in, ``rows`` reads their answers
``claims``             pick, then take; ``batch_claims`` batches; ``special_claims`` suspects that run apart, and
                       parked calls
``jobs``               insert, replace, purge; ``settlements`` the ends of attempts
``storage.sql``        beside this package, what is the same in every SQL database: cancel, retry, pause, delete;
                       what jobs are to each other; settlements that are not plain; recovery; reports; the clock;
                       ``limits`` around claims and settlements
``values``             large arguments and results, beside their rows
``queries``            get, find, count
``owners``             processes; ``liveness`` says who lives, by ``locks``, ``process`` and heartbeat; ``notifier``
                       wakes others, ``begun`` knows which jobs had begun; ``permissions`` modes of the files
=====================  ===================================================================================
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jobify.model.durations import Duration
from jobify.model.records import (
    AttemptRecord,
    CancelResult,
    Claimed,
    ClaimRequest,
    CountKey,
    Expired,
    JobQuery,
    JobRecord,
    MessageKind,
    MessageRecord,
    NewJob,
    OwnerProfile,
    OwnerRecord,
    Progress,
    Recovered,
    Relations,
    Report,
    Settled,
    Settlement,
)
from jobify.runtime import fork
from jobify.storage.base import BegunJobs, Notifier, UnflushedWrites
from jobify.storage.kinship import Kinship
from jobify.storage.sql.jobs import JobChanges
from jobify.storage.sql.limit_calls import LimitCalls
from jobify.storage.sql.limits import Limits
from jobify.storage.sql.merging import MergeCalls, Merging
from jobify.storage.sql.reports import Reports
from jobify.storage.sql.times import Times
from jobify.storage.sqlite.claims import Claims
from jobify.storage.sqlite.database import Database, NonblockingBlocks
from jobify.storage.sqlite.file_identity import refuse_orphaned_log
from jobify.storage.sqlite.jobs import Jobs
from jobify.storage.sqlite.locks import OwnerLocks
from jobify.storage.sqlite.options import (
    MEMORY,
    checked_mode,
    checked_own_file,
    checked_path,
    checked_synchronous,
    checked_timeout,
)
from jobify.storage.sqlite.owners import Owners
from jobify.storage.sqlite.permissions import create_database
from jobify.storage.sqlite.queries import Queries
from jobify.storage.sqlite.schema import prepare
from jobify.storage.sqlite.settlements import Settlements
from jobify.storage.sqlite.statements import SQLiteStatements
from jobify.storage.suspicion import Death
from jobify.storage.timekeeping import Timekeeping
from jobify.storage.transactions import JoinedStorage, Statements
from jobify.types import Microseconds

if TYPE_CHECKING:
    from jobify.storage.sqlite.backup import Backup

__all__ = ("SQLiteStorage",)


class SQLiteStorage(LimitCalls, MergeCalls):
    """Keep jobs in the file ``database``, for any number of processes of one machine.

    ``timeout`` is for how many seconds to wait for a file that another process has locked; then the call fails with
    ``StorageUnavailableError``. With ``synchronous="full"`` whatever was acknowledged survives a power cut; with
    ``"normal"`` it survives the death of the process, while a power cut may take the last moments, and commits are
    cheaper.

    ``mode`` is for a file that is made here: 0o600, its user alone; 0o660, its group, too (whose members must be able
    to write the directory). A file that exists keeps its mode.

    The file has companions: ``-wal`` and ``-shm`` belong to SQLite, the directory ``-owners`` holds a lock file per
    process. Keep them together, on a local disk; see docs/guides/database-file.md. A relative path is resolved here and
    now, so a later ``chdir`` changes nothing. ``":memory:"`` is a private database that ends with ``close``.

    In a file with tables of another program the tables of jobs begin with ``jobify_``, and nothing else changes (see
    docs/guides/transactions.md). A file that is made here is Jobify's own, unless ``own_file=False`` says that another
    program will put its tables there, too. ``own_file=True`` refuses a file with other tables.

    Who deletes, moves, replaces or truncates the file of an open storage gets ``StorageReplacedError`` from each call,
    until the storage is closed and opened again.

    >>> from jobify import Jobify
    >>> from jobify.storage import SQLiteStorage
    >>> app = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"))
    """

    def __init__(
        self,
        database: str | os.PathLike[str] = "jobify.db",
        *,
        timeout: Duration = 20.0,
        synchronous: Literal["full", "normal"] = "full",
        mode: int = 0o600,
        own_file: bool | None = None,
    ) -> None:
        self.database = checked_path(database)
        self.timeout, self.mode = checked_timeout(timeout), checked_mode(mode)
        self.synchronous = checked_synchronous(synchronous)
        self.own_file = checked_own_file(own_file)
        self.is_durable = self.is_shared = self.database != MEMORY  # which keeps bytes, too, and whose calls may wait
        self.is_in_memory, self.claims_first, self.poll_interval, self.clock = False, False, 0.0, None
        self._remove_temporary: weakref.finalize[..., Any] | None = None
        self._connect(self.database)
        self._resting = self._database

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.database!r})"

    def _connect(self, path: str) -> None:
        """Put the parts together, for the file at ``path``."""
        given = self.database if self.is_durable else None
        self._database = database = Database(path, timeout=self.timeout, synchronous=self.synchronous, given=given)
        self._jobs, self._claims, self._reads = Jobs(database), Claims(database), Queries(database)
        self._settlements, statements = Settlements(database), SQLiteStatements(database)
        self._changes, self._reports, self._times = JobChanges(statements), Reports(statements), Times(statements)
        self._limits, self._merging = Limits(statements, self._claims, self._settlements), Merging(statements)
        self._owners = Owners(database, OwnerLocks(f"{path}-owners", path))
        self._blocks, self._data_version = NonblockingBlocks(database, self.synchronous == "full"), (0, 0)

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        if self._database.is_open:
            return
        path = self._locate()
        refuse_orphaned_log(path)
        self._connect(path)
        fork.register(self)  # from now on: a child that is forked meanwhile must not take this for open
        try:
            create_database(self._database.path, self.mode)
            self._database.open(partial(prepare, own_file=self.own_file))
            self._data_version = self._database.data_version()
            if self.is_shared:
                self._owners.open_notifier()
        except BaseException:
            self.close()
            raise

    def _locate(self) -> str:
        """The one path of the file, so that two names of it do not have two directories of owners."""
        if self.database != MEMORY:
            return os.path.realpath(self.database)
        # Two connections cannot share a database in memory without waiting for each other.
        import shutil
        import tempfile

        directory = tempfile.mkdtemp(prefix="jobify-")
        self._remove_temporary = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return os.path.join(directory, "private.db")

    def close(self) -> None:
        self._owners.close()
        self._database.close()
        if self._remove_temporary is not None:
            self._remove_temporary()

    def backup(self, destination: str | os.PathLike[str], *, overwrite: bool = False) -> Backup:
        """Copy the database into the file ``destination`` while it is used, as ``jobify db backup`` does.

        The copy holds all that is committed, is checked, and is there as a whole or not at all. StorageError if it
        cannot be made, or if there is such a file and ``overwrite`` is not set. The storage need not be open.
        """
        from jobify.storage.sqlite.backup import back_up

        path = self.database if self.is_durable else self._database.path
        return back_up(path, destination, overwrite=overwrite, timeout=self.timeout)

    def before_fork(self) -> None:
        self._resting = self._database  # another thread may open this meanwhile, and puts another one in its place
        self._resting.before_fork()

    def after_fork_in_parent(self) -> None:
        self._resting.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        self._owners.after_fork_in_child()
        self._database.after_fork_in_child()
        if self._remove_temporary is not None:
            self._remove_temporary.detach()  # it is the parent's

    def transaction(self) -> AbstractContextManager[None]:
        return self._database.transaction()

    def join(self, statements: Statements) -> JoinedStorage:
        """See :mod:`jobify.storage.transactions`. The storage is open."""
        from jobify.storage.sqlite.joined import joined_storage

        return joined_storage(self._database, statements, is_private=not self.is_durable)

    @property
    def nonblocking(self) -> AbstractContextManager[None] | None:
        return self._blocks.writes

    @property
    def nonblocking_claims(self) -> AbstractContextManager[None] | None:
        return self._blocks.claims

    @property
    def unflushed_writes(self) -> UnflushedWrites | None:
        return self._blocks.unflushed

    @property
    def times(self) -> Timekeeping:
        return self._times

    # -- owners --------------------------------------------------------------------------------------------------------

    def register(self, profile: OwnerProfile, *, now: Microseconds) -> int:
        return self._owners.register(profile, now=now)

    def heartbeat(self, owner: int, *, now: Microseconds) -> None:
        self._owners.heartbeat(owner, now=now)

    def deregister(self, owner: int) -> None:
        self._owners.deregister(owner)

    def leave(self, owner: int) -> Callable[[], None]:
        return self._owners.leave(owner)

    def owners(self) -> list[OwnerRecord]:
        return self._owners.all()

    def recent_deaths(self, *, now: Microseconds) -> Sequence[Microseconds]:
        return self._owners.recent_deaths(now)

    def begun(self, owner: int) -> BegunJobs | None:
        return self._owners.begun(owner)

    def recover(
        self,
        *,
        now: Microseconds,
        max_crashes: int,
        delete_at: Microseconds | None,
        on_death: Callable[[Death], object] | None = None,
    ) -> list[Recovered]:
        self._limits.sweep()
        return self._owners.recover(now=now, max_crashes=max_crashes, delete_at=delete_at, on_death=on_death)

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        return self._jobs.insert(jobs)

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        return self._jobs.replace(job, progress)

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return self._limits.claim(request, now=now)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        return self._limits.settle(settlements)

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        return self._changes.reschedule(id, due_at=due_at, now=now)

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        return self._changes.cancel(ids, reason=reason, now=now, delete_at=delete_at)

    def cancel_requests(self, owner: int) -> list[str]:
        return self._jobs.cancel_requests(owner)

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        return self._changes.expire(now=now, limit=limit, delete_at=delete_at)

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool = True) -> list[bool]:
        return self._changes.retry(ids, now=now, with_dependents=with_dependents)

    def pause(self, ids: Sequence[str]) -> list[bool]:
        return self._changes.pause(ids)

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        return self._changes.resume(ids, now=now)

    def pause_queue(self, queue: str) -> None:
        self._changes.pause_queue(queue)

    def resume_queue(self, queue: str) -> None:
        self._changes.resume_queue(queue)

    def report(self, reports: Sequence[Report]) -> list[bool]:
        return self._reports.report(reports)

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        return self._changes.delete(ids, now=now, delete_at=delete_at)

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        self._jobs.add_history(attempts)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        return self._jobs.purge(now=now, limit=limit)

    def trim(self, *, keep: int, limit: int) -> int:
        return self._changes.trim(keep=keep, limit=limit)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        return self._reads.get(ids)

    def find(self, query: JobQuery) -> list[JobRecord]:
        return self._reads.find(query)

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        return self._reads.count(query)

    def count_purgeable(self, *, now: Microseconds) -> Mapping[CountKey, int]:
        return self._reads.count_purgeable(now=now)

    def find_unique(self, key: str) -> str | None:
        return self._reads.find_unique(key)

    def relations(self, id: str) -> Relations:
        return self._reads.relations(id)

    def parents(self, id: str) -> list[tuple[str, JobRecord | None]]:
        return self._reads.parents(id)

    def kinship(self, id: str, *, limit: int) -> Kinship:
        return self._reads.kinship(id, limit=limit)

    def messages(self, id: str, *, after: int, limit: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        return self._reads.messages(id, after=after, limit=limit, kind=kind)

    def paused_queues(self) -> list[str]:
        return self._reads.paused_queues()

    def attempts(self, id: str) -> list[AttemptRecord]:
        return self._reads.attempts(id)

    def has_external_changes(self) -> bool:
        before, self._data_version = self._data_version, self._database.data_version()
        return before != self._data_version

    @property
    def notifier(self) -> Notifier | None:
        return self._owners.notifier
