"""Owners: processes that enter, leave, and die; and what becomes of the jobs that they held."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import OwnerProfile, OwnerRecord, OwnerRole, Recovered
from jobify.runtime.logs import get_logger
from jobify.storage import process
from jobify.storage.begun import BegunTable
from jobify.storage.postgres.begun import BegunTables
from jobify.storage.postgres.changes import FRESH, Changes
from jobify.storage.postgres.channels import channels_of
from jobify.storage.postgres.clock import ServerClock
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.liveness import Liveness, has_ended
from jobify.storage.postgres.notifier import PostgresNotifier
from jobify.storage.postgres.session import LEASE, Session
from jobify.storage.sql.recovery import (
    CrashLimits,
    DeadProcess,
    end_held,
    held_suspects,
    recover_dead,
    release_departed,
    release_owners,
)
from jobify.storage.suspicion import RESTLESS, Death
from jobify.types import Microseconds

__all__ = ("Owners", "owner_records")

log = get_logger("jobify.storage")


class _Owner(NamedTuple):
    """A row of the table, and what was found out about it."""

    id: int
    host: str
    pid: int
    started_at: Microseconds
    seen_at: Microseconds
    role: str
    queues: str | None
    tasks: str
    concurrency: int
    lock_key: int
    process: str | None
    is_leaving: bool
    has_lease: bool
    is_alive: bool
    has_held: bool
    """Whether a suspect waits for its verdict; the same in each row."""
    snapshot: str
    now: Microseconds
    next_expiry: Microseconds | None
    """When the next waiting job expires; the same in each row."""

    @property
    def record(self) -> OwnerRecord:
        queues = None if self.queues is None else tuple(json.loads(self.queues))
        profile = OwnerProfile(OwnerRole(self.role), queues, tuple(json.loads(self.tasks)), self.concurrency)
        is_disconnected = not (self.is_alive or has_ended(self))
        return OwnerRecord(
            self.id, self.host, self.pid, self.started_at, self.seen_at, profile, self.is_alive, is_disconnected
        )


def owner_records(rows: Sequence[Sequence[Any]]) -> list[OwnerRecord]:
    """The answer of ``owners``."""
    return [_Owner._make(row).record for row in rows]


class _Expiries(NamedTuple):
    """What a look has shown of the jobs that expire."""

    next_at: Microseconds | None
    own_commits: int
    """Transactions of this process until then."""
    seen_at: float


class _LocalOwner(NamedTuple):
    """An owner of this process."""

    key: int
    """Of its lock."""
    profile: OwnerProfile


class Owners:
    """The owners of a schema. Behind a pooler there are no sessions, so they have leases."""

    def __init__(self, database: Database, clock: ServerClock) -> None:
        self._database = database
        self._clock = clock
        self._is_pooled = database.is_pooled
        self._channels = channels_of(database.schema)
        self._liveness = Liveness()
        self._own: dict[int, _LocalOwner] = {}
        self._begun = BegunTables()
        self.notifier = PostgresNotifier(self._channels)
        self._session = Session(database, self.notifier.receive, self.notifier.receive)
        self.changes = Changes(database, self._session, clock)
        self._expiries: _Expiries | None = None

    def open(self) -> None:
        """From now on, other processes can be notified; once an owner is registered, this one, too. Once only."""
        self.notifier.use(self._session)
        self.changes.look()

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def register(self, profile: OwnerProfile, *, now: Microseconds) -> int:
        """Register. The lock is held before the row can be seen, so that no process takes this owner for dead."""
        own = _LocalOwner(secrets.randbits(63), profile)
        self._session.hold(own.key)
        try:
            owner = self._database.add("register", *self._columns(own, now))
        except BaseException:
            self._session.release((own.key,))
            raise
        self._own[owner] = own
        if not self._is_pooled:
            self.notifier.bind()
        self._listen()
        self.notifier.announce(is_client=profile.role is OwnerRole.CLIENT)
        return owner

    def _columns(self, own: _LocalOwner, now: Microseconds) -> tuple[Any, ...]:
        profile = own.profile
        queues = None if profile.queues is None else json.dumps(profile.queues)
        described = (profile.role.value, queues, json.dumps(profile.tasks), profile.concurrency)
        lease = int(LEASE * 1_000_000) if self._is_pooled else None
        return (socket.gethostname(), os.getpid(), now, *described, own.key, process.current(), lease)

    def _listen(self) -> None:
        """Listen to what concerns the owners of this process."""
        channels = {self._channels.owner(owner) for owner in self._own}
        roles = {own.profile.role for own in self._own.values()}
        if OwnerRole.WORKER in roles:
            channels.add(self._channels.workers)
        if OwnerRole.CLIENT in roles:
            channels.add(self._channels.clients)
        self._session.listen(channels)

    def heartbeat(self, owner: int, *, now: Microseconds) -> None:
        self._database.run("heartbeat", now, owner)

    def deregister(self, owner: int) -> None:
        """Leave: the row goes, and with it the jobs go back; then the lock goes."""
        own = self._own.get(owner)
        left = None if own is not None else next((row for row in self._rows() if row.id == owner), None)
        has_left = left is not None and left.is_leaving
        self._database.retried(lambda: self._remove(owner, is_uncounted=has_left))
        self._own.pop(owner, None)
        if own is not None:
            self._begun.close(own.key)
            self._session.release((own.key,))
            self._listen()
        elif left is not None and has_left:
            self._session.release((left.lock_key,))

    def _remove(self, owner: int, *, is_uncounted: bool) -> None:
        """The row goes first: this waits for a claim whose answer was lost, so that the jobs of that claim are seen."""
        with self._database.atomic():
            self._database.run_for("deregister", (owner,))
            release_owners(self._database, (owner,), is_uncounted=is_uncounted)

    def leave(self, owner: int) -> Callable[[], None]:
        """See :meth:`jobify.storage.base.Storage.leave`."""
        try:
            self._database.run("leave", owner)
        except StorageUnavailableError as error:  # its jobs must not be taken while they run, whatever comes of them
            log.warning("The jobs that still run here will count a crash, because nothing can be written: %s", error)
        own, session = self._own.pop(owner, None), self._session
        if own is None:
            return _nothing
        self._begun.close(own.key)
        return lambda: session.release((own.key,), self._farewell((own.key,)))

    def begun(self, owner: int) -> BegunTable | None:
        """See :meth:`jobify.storage.base.Storage.begun`."""
        return self._begun.open(self._own[owner].key)

    def _farewell(self, keys: Collection[int]) -> Callable[[Connection], object]:
        """Write that these owners have let go of their locks by themselves, so that none waits for them."""
        statement = self._database.sql("close_owners").query
        return lambda connection: connection.execute(statement, (list(keys),))

    def close(self) -> None:
        """Let go of the locks, and say so; what has left keeps its own."""
        keys = [own.key for own in self._own.values()]
        self._own.clear()
        self._begun.leave_behind()
        if keys:
            self._session.release(keys, self._farewell(keys))
        self.notifier.close()
        self._session.close()

    # -- forks ---------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._session.before_fork()

    def after_fork_in_parent(self) -> None:
        self._session.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """In a child process: none of them is this process's."""
        self._own.clear()
        self._begun.leave_behind()
        self._session.after_fork_in_child()
        self.notifier.close()

    # -- reading -------------------------------------------------------------------------------------------------------

    def all(self) -> list[OwnerRecord]:
        """All owners, and whether they live."""
        return [row.record for row in self._rows()]

    def recent_deaths(self, now: Microseconds) -> list[Microseconds]:
        """See :meth:`jobify.storage.base.Storage.recent_deaths`."""
        return [at for _, at in self._database.read("unexplained", now - RESTLESS, now + RESTLESS)]

    def _rows(self) -> list[_Owner]:
        with self._clock.measuring() as show:
            rows = [_Owner._make(row) for row in self._database.read("owners")]
            if rows:
                show(rows[0].now)
        return rows

    # -- recovering ----------------------------------------------------------------------------------------------------

    def recover(
        self,
        *,
        now: Microseconds,
        max_crashes: int,
        delete_at: Microseconds | None,
        on_death: Callable[[Death], object] | None,
    ) -> list[Recovered]:
        """See :meth:`jobify.storage.base.Storage.recover`. One query, unless a process has died or a verdict is due.

        The dead are found before the transaction begins, and looked at again inside it: an owner that has come back
        since is alive, and none comes back before the transaction ends.
        """
        rows = self._rows()
        self._notice(rows)
        self._keep_own({row.id for row in rows}, now=now)
        dead = [row for row in rows if row.id not in self._own and self._liveness.is_dead(row)]
        limits = CrashLimits(now, max_crashes, delete_at)
        recovered: list[Recovered] = []
        if dead:
            dead.sort(key=_process_of)
            recovered, deaths = self._database.retried(lambda: self._recover_owners(dead, limits))
            for row in dead:
                self._begun.remove(row)
            for death in deaths:
                recovered += death.jobs
                if on_death is not None:
                    on_death(death)
        if self._is_verdict_due(rows, now):
            recovered += self._database.retried(lambda: self._end_held(limits))
        return recovered

    def _notice(self, rows: Sequence[_Owner]) -> None:
        """Remember what a look has shown besides."""
        if rows:
            self.changes.note(rows[0].snapshot)
            self._expiries = _Expiries(rows[0].next_expiry, self._database.own_commits, self._clock.monotonic())
        self._liveness.forget_all_but({row.id for row in rows})
        others = [row.role for row in rows if row.id not in self._own]
        self.notifier.set_peers(are_there=bool(others), are_waiting=OwnerRole.CLIENT.value in others)

    def may_expire(self, now: Microseconds) -> bool:
        """Whether a waiting job may have expired. False if the last look, which was just made, has shown that none has,
        and this process has changed nothing since."""
        seen = self._expiries
        return (
            seen is None
            or self._clock.monotonic() - seen.seen_at > FRESH
            or seen.own_commits != self._database.own_commits
            or (seen.next_at is not None and seen.next_at <= now)
        )

    def _is_verdict_due(self, rows: Sequence[_Owner], now: Microseconds) -> bool:
        if rows and not rows[0].has_held:
            return False
        return any(job.is_due(now) for job in held_suspects(self._database.read("held_suspects")))

    def _recover_owners(self, dead: Sequence[_Owner], limits: CrashLimits) -> tuple[list[Recovered], list[Death]]:
        """Take the jobs of these owners, and remove them: what those held that had left, and the deaths of the others.

        What another process has been faster with is not taken again. Their rows are locked before what they hold is
        read, so that no claim of theirs is overlooked; see ``queries/claims.sql``.
        """
        with self._database.atomic():
            still = set(self._database.rows_for("still_dead", [row.id for row in dead]))
            dead = [row for row in dead if row.id in still]
            leaving = [row.id for row in dead if row.is_leaving]
            released = release_departed(self._database, leaving, now=limits.now) if leaving else []
            lost = [row for row in dead if not row.is_leaving]
            processes = [self._dead_process(*process, list(rows)) for process, rows in groupby(lost, key=_process_of)]
            deaths = recover_dead(self._database, processes, limits) if processes else []
            self._database.run_for("deregister", [row.id for row in dead])
            return released, deaths

    def _dead_process(self, host: str, pid: int, rows: Sequence[_Owner]) -> DeadProcess:
        begun = {row.id: self._begun.read(row) for row in rows}
        return DeadProcess(host, pid, begun, any(row.role == OwnerRole.WORKER for row in rows))

    def _end_held(self, limits: CrashLimits) -> list[Recovered]:
        with self._database.atomic():
            return end_held(self._database, limits)

    def _keep_own(self, known: Collection[int], *, now: Microseconds) -> None:
        """See that others find the owners of this process.

        One that was taken for dead, because its connection was lost for too long, goes on under its number. What it
        held has gone to others, and its outcomes will be refused. But what it has claimed since then would have no
        owner, and be lost for good with this process.
        """
        for owner, own in list(self._own.items()):
            if owner not in known:
                log.warning("Others have taken the jobs of this process, which they could not see for a while.")
                self._database.run("register_again", *self._columns(own, now), owner)


def _process_of(row: _Owner) -> tuple[str, int]:
    return row.host, row.pid


def _nothing() -> None:
    """No lock is held."""
