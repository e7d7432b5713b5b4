"""Jobs in a schema of a PostgreSQL database: the parts of this package behind the port.

=====================  ===================================================================================
``database``           transactions and statements; ``connection`` the connections, ``arrays`` lists as parameters,
                       ``errors`` what the server's errors mean
``schema``             migrations
``queries/``           every statement; ``statements`` fills them in, ``rows`` reads their answers
``claims``             one statement for each lane; suspects that run apart, and parked calls; ``batch_claims`` batches
``jobs``               insert, replace, purge
``settlements``        the ends of attempts
``doubt``              calls whose answers were lost with the connection
``queries``            get, find, count
``joined``             calls on a user's connection; ``writing`` is what they have in common with the others
``owners``             processes; ``liveness`` says who lives, by the locks that a ``session`` holds; ``notifier`` wakes
                       others by ``channels``, ``changes`` notices commits of others
``storage.sql``        beside this package, what is the same in every SQL database
=====================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, ParamSpec, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from jobify.exceptions import ConfigurationError
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
from jobify.storage.base import BegunJobs, Notifier
from jobify.storage.kinship import Kinship
from jobify.storage.postgres.channels import work_channel
from jobify.storage.postgres.claims import Claims
from jobify.storage.postgres.clock import ServerClock
from jobify.storage.postgres.database import Database, lock_key
from jobify.storage.postgres.doubt import Doubt
from jobify.storage.postgres.jobs import Jobs
from jobify.storage.postgres.joined import JoinedPostgres, Joining
from jobify.storage.postgres.owners import Owners
from jobify.storage.postgres.queries import Queries
from jobify.storage.postgres.schema import prepare
from jobify.storage.postgres.settlements import Settlements
from jobify.storage.sql.jobs import JobChanges
from jobify.storage.sql.limit_calls import LimitCalls
from jobify.storage.sql.limits import Limits
from jobify.storage.sql.merging import MergeCalls, Merging
from jobify.storage.sql.reports import Reports
from jobify.storage.sql.times import Times
from jobify.storage.suspicion import Death
from jobify.storage.timekeeping import Timekeeping
from jobify.storage.transactions import Statements
from jobify.types import Microseconds

__all__ = ("PostgresStorage",)

_POLL: Final = 1.0
_ALONE: Final = 3.0

P = ParamSpec("P")
T = TypeVar("T")


class PostgresStorage(LimitCalls, MergeCalls):
    """Keep jobs in the schema ``schema`` of the database at ``url``, for any number of processes and machines.

    ``url`` is what libpq takes: ``postgresql://user@host:5432/name?sslmode=require``, or ``host=... dbname=...``. What
    it leaves out comes from the environment (``PGPASSWORD``, ``PGSERVICE``).

    ``notify`` says how processes learn of what others have done. ``"after_commit"``: they are notified after the
    commit, which costs those who commit nothing. A connection of yours that does not say when it commits (psycopg,
    asyncpg) is looked after by the process that enqueues: a worker wakes within milliseconds of a short transaction,
    and within a second of any. ``"in_transaction"``: on such a connection the transaction itself notifies, whatever
    becomes of the process; but the server lets all that do so commit one at a time. ``"poll"``: processes look once a
    second. That is for a pooler that gives each transaction another connection; they have leases of 10 seconds then,
    where they else hold a lock.

    >>> from jobify.storage import PostgresStorage
    >>> storage = PostgresStorage("postgresql://shop@db/shop")
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "jobify",
        notify: Literal["after_commit", "in_transaction", "poll"] = "after_commit",
    ) -> None:
        self.url = _checked_url(url)
        self.schema = _checked_schema(schema)
        self.database = _without_password(self.url)
        """Names the database, without a password."""
        self.notify = _checked_notify(notify)
        self.clock = ServerClock()
        """The server's clock, which decides what is due; as this machine shows it until the storage is open."""
        self.is_durable = self.is_shared = self.claims_first = True
        self.is_in_memory = False
        self._connect()

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at what other processes do, at least: each is a query. Where there are no others,
        and one that comes announces itself, they are only for notifications that were lost."""
        return _ALONE if self.notify != "poll" and self._owners.notifier.is_alone else _POLL

    def __repr__(self) -> str:
        return f"PostgresStorage({self.database!r}, schema={self.schema!r})"

    def _connect(self) -> None:
        """Put the parts together."""
        self._database = database = Database(
            self.url, schema=self.schema, where=repr(self.database), is_pooled=self.notify == "poll"
        )
        doubt = Doubt(database)
        self._jobs, self._claims, self._reads = Jobs(database, doubt), Claims(database, doubt), Queries(database)
        self._settlements, self._changes = Settlements(database, doubt), JobChanges(database)
        self._limits, self._merging = Limits(database, self._claims, self._settlements), Merging(database)
        self._reports, self._times = Reports(database), Times(database)
        self._owners = Owners(database, self.clock)
        self._joining = Joining(database, work_channel(self.schema) if self.notify == "in_transaction" else None)

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        if self._database.is_open:
            return
        self._connect()
        fork.register(self)
        try:
            self._database.open(lambda database: prepare(database, lock_key(self.schema, "migrations")))
            self._owners.open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._owners.close()
        self._database.close()

    def before_fork(self) -> None:
        self._owners.before_fork()
        self._database.before_fork()

    def after_fork_in_parent(self) -> None:
        self._database.after_fork_in_parent()
        self._owners.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        self._owners.after_fork_in_child()
        self._database.after_fork_in_child()

    def transaction(self) -> AbstractContextManager[None]:
        return self._database.transaction()

    def join(self, statements: Statements) -> JoinedPostgres:
        """The writing calls on a user's connection: see :mod:`jobify.storage.transactions`."""
        return self._joining.join(statements)

    nonblocking = nonblocking_claims = unflushed_writes = None

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
        return self._again(self._jobs.insert, jobs)

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        return self._again(self._jobs.replace, job, progress)

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return self._again(self._limits.claim, request, now=now)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        return self._again(self._limits.settle, settlements)

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        return self._again(self._changes.reschedule, id, due_at=due_at, now=now)

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        return self._again(self._changes.cancel, ids, reason=reason, now=now, delete_at=delete_at)

    def cancel_requests(self, owner: int) -> list[str]:
        return self._database.rows("cancel_requests", owner)

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        if not (self._database.is_in_block or self._owners.may_expire(now)):
            return []
        return self._again(self._changes.expire, now=now, limit=limit, delete_at=delete_at)

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool = True) -> list[bool]:
        return self._again(self._changes.retry, ids, now=now, with_dependents=with_dependents)

    def pause(self, ids: Sequence[str]) -> list[bool]:
        return self._again(self._changes.pause, ids)

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        return self._again(self._changes.resume, ids, now=now)

    def pause_queue(self, queue: str) -> None:
        self._again(self._changes.pause_queue, queue)

    def resume_queue(self, queue: str) -> None:
        self._again(self._changes.resume_queue, queue)

    def report(self, reports: Sequence[Report]) -> list[bool]:
        return self._again(self._reports.report, reports)

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        return self._again(self._changes.delete, ids, now=now, delete_at=delete_at)

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        self._again(self._jobs.add_history, attempts)

    def purge(self, *, now: Microseconds, limit: int) -> int:
        return self._again(self._jobs.purge, now=now, limit=limit)

    def trim(self, *, keep: int, limit: int) -> int:
        return self._again(self._changes.trim, keep=keep, limit=limit)

    def _again(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, again if it and another one waited for each other."""
        return self._database.retried(lambda: call(*args, **kwargs))

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
        return self._owners.changes.were_made()

    @property
    def notifier(self) -> Notifier | None:
        return self._owners.notifier


def _checked_notify(notify: str) -> Any:
    if notify not in ("after_commit", "in_transaction", "poll"):
        raise ConfigurationError(f"notify is {notify!r}; it must be 'after_commit', 'in_transaction' or 'poll'.")
    return notify


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise ConfigurationError(f"url is {url!r}; it must be a text such as 'postgresql://user@host/database'.")
    try:
        conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"url cannot be read ({str(error).strip()}); it must be like 'postgresql://user@host/database'."
        ) from None
    return url


def _checked_schema(schema: str) -> str:
    if not isinstance(schema, str) or not schema or "\0" in schema or len(schema.encode()) > 63:
        raise ConfigurationError(f"schema is {schema!r}; it must be a name of at most 63 bytes.")
    return schema


def _without_password(url: str) -> str:
    """``host:port/name`` as a URL, without a password."""
    given = conninfo_to_dict(url)
    user, host, port = given.get("user"), given.get("host") or given.get("hostaddr"), given.get("port")
    place = f"{user}@" if user else ""
    place += str(host or "") + (f":{port}" if port else "")
    return f"postgresql://{place}/{given.get('dbname') or ''}"
