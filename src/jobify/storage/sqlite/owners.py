"""Owners: processes that enter, leave, and die; and what becomes of the jobs that they held."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import OwnerProfile, OwnerRecord, OwnerRole, Recovered
from jobify.model.transient import refusal_of
from jobify.runtime.logs import get_logger
from jobify.storage.begun import BegunTable, read_begun
from jobify.storage.sql.recovery import (
    CrashLimits,
    DeadProcess,
    HeldSuspect,
    end_held,
    held_suspects,
    recover_dead,
    release_departed,
    release_owners,
)
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.liveness import Liveness
from jobify.storage.sqlite.locks import OwnerLocks
from jobify.storage.sqlite.notifier import Address, DatagramNotifier
from jobify.storage.sqlite.statements import SQLiteStatements, chunks, decode_rows, id_values, sql
from jobify.storage.suspicion import RESTLESS, Death
from jobify.types import Microseconds

__all__ = ("Owners", "owners_in")

log = get_logger("jobify.storage")


class _Owner(NamedTuple):
    """A row of the table."""

    id: int
    host: str
    pid: int
    started_at: Microseconds
    seen_at: Microseconds
    role: str
    queues: list[str] | None
    tasks: list[str]
    concurrency: int
    lock: str
    address: str | None
    process: str | None
    is_leaving: int

    @property
    def profile(self) -> OwnerProfile:
        queues = None if self.queues is None else tuple(self.queues)
        return OwnerProfile(OwnerRole(self.role), queues, tuple(self.tasks), self.concurrency)


class _LocalOwner(NamedTuple):
    """An owner of this process."""

    lock: str
    profile: OwnerProfile


class Owners:
    """The owners of a database."""

    def __init__(self, database: Database, locks: OwnerLocks) -> None:
        self._database = database
        self._statements = SQLiteStatements(database)
        self._locks = locks
        self._liveness = Liveness(locks, database.path)
        self._own: dict[int, _LocalOwner] = {}
        self._begun: dict[int, BegunTable] = {}
        self._is_lock_missing = False
        self.notifier: DatagramNotifier | None = None

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def open_notifier(self) -> None:
        """From now on, other processes can be notified; once an owner is registered, this one, too."""
        self.notifier = DatagramNotifier(self._addresses)

    def register(self, profile: OwnerProfile, *, now: Microseconds) -> int:
        """Register. The lock is held before the row can be seen, so that no process takes this owner for dead."""
        if self.notifier is not None:
            self.notifier.bind()
        owner = self._register(None, profile, now=now)
        if self.notifier is not None:
            self.notifier.announce()
        return owner

    def _register(self, owner: int | None, profile: OwnerProfile, *, now: Microseconds) -> int:
        """Enter as ``owner``, or with a new id."""
        lock = self._hold()
        try:
            entered = self._write_row(owner, _LocalOwner(lock, profile), now=now)
        except BaseException:
            self._locks.release(lock)
            raise
        self._own[entered] = _LocalOwner(lock, profile)
        return entered

    def _write_row(self, owner: int | None, own: _LocalOwner, *, now: Microseconds) -> int:
        address = None if self.notifier is None else self.notifier.address
        written, evidence = _written(own.profile), self._liveness.evidence(own.lock)
        row = (owner, socket.gethostname(), os.getpid(), now, now, *written, own.lock, address, evidence)
        entered = self._database.add(sql("register"), row)
        assert entered is not None
        return entered

    def heartbeat(self, owner: int, *, now: Microseconds) -> None:
        self._database.write_unflushed(sql("heartbeat"), (now, owner))

    def _hold(self) -> str:
        try:
            return self._locks.hold()
        except OSError as error:
            self._database.data_version()  # a database that is gone with its folder is the better reason
            reason = refusal_of(error) or error
            raise StorageUnavailableError(
                f"The lock file of an owner of {self._database.path!r} cannot be made ({reason}). The directory of the "
                "database must be writable."
            ) from error

    def deregister(self, owner: int) -> None:
        """Leave: jobs go back, then the row goes, then the lock."""
        own = self._own.get(owner)
        left = None if own is not None else next((row for row in self._rows() if row.id == owner), None)
        has_left = left is not None and bool(left.is_leaving)
        with self._database.atomic():
            release_owners(self._statements, (owner,), is_uncounted=has_left)
            self._remove((owner,))
        self._close_begun(owner)
        self._own.pop(owner, None)
        if own is not None:
            self._locks.release(own.lock)
        elif left is not None and has_left:
            self._locks.release(left.lock)

    def leave(self, owner: int) -> Callable[[], None]:
        """See :meth:`jobify.storage.base.Storage.leave`."""
        try:
            self._database.write(sql("leave"), (owner,))
        except StorageUnavailableError as error:  # its jobs must not be taken while they run, whatever comes of them
            log.warning("The jobs that still run here will count a crash, because nothing can be written: %s", error)
        self._close_begun(owner)
        own = self._own.pop(owner, None)
        return _nothing if own is None else self._locks.detach(own.lock)

    def begun(self, owner: int) -> BegunTable | None:
        """See :meth:`jobify.storage.base.Storage.begun`."""
        if owner not in self._begun:
            try:
                self._begun[owner] = BegunTable(self._locks.begun_path(self._own[owner].lock))
            except OSError as error:  # a full disk, a system without shared memory
                log.info("Begun jobs are not noted (%s): if this process dies, all jobs that it holds count.", error)
                return None
        return self._begun[owner]

    def _close_begun(self, owner: int) -> None:
        table = self._begun.pop(owner, None)
        if table is not None:
            table.close()

    def close(self) -> None:
        """Release locks and notifier, as a process that dies does."""
        self._own.clear()
        for owner in list(self._begun):
            self._close_begun(owner)
        self._locks.release_all()
        if self.notifier is not None:
            self.notifier.close()
            self.notifier = None

    def after_fork_in_child(self) -> None:
        """In a child process: none of them is this process's."""
        self._own.clear()
        for owner in list(self._begun):
            self._close_begun(owner)
        self._locks.leave_behind()
        if self.notifier is not None:
            self.notifier.after_fork_in_child()
            self.notifier = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def all(self) -> list[OwnerRecord]:
        """All owners, and whether they live."""
        return owners_in(self._database.read(sql("owners"))[0], self._is_alive)

    def recent_deaths(self, now: Microseconds) -> list[Microseconds]:
        """See :meth:`jobify.storage.base.Storage.recent_deaths`."""
        (found,) = self._database.read(sql("unexplained"), (now - RESTLESS, now + RESTLESS))
        return [at for _, at in decode_rows(found)]

    def _is_alive(self, row: _Owner) -> bool:
        return row.id in self._own or self._liveness.is_alive(row)

    def _rows(self) -> list[_Owner]:
        return _rows_of(self._database.read(sql("owners"))[0])

    def _addresses(self) -> list[Address]:
        return [Address._make(row) for row in decode_rows(self._database.read(sql("addresses"))[0])]

    # -- recovering ----------------------------------------------------------------------------------------------------

    def recover(
        self,
        *,
        now: Microseconds,
        max_crashes: int,
        delete_at: Microseconds | None,
        on_death: Callable[[Death], object] | None,
    ) -> list[Recovered]:
        """See :meth:`jobify.storage.base.Storage.recover`. Writes only if a process has died, or a verdict is due.

        The dead are found before the transaction begins. That is safe: a dead owner stays dead and its id is not used
        again; if another process is faster, nothing of it is left to take.
        """
        owners, has_held = self._database.read(sql("owners"))
        rows = _rows_of(owners)
        if self.notifier is not None:
            self.notifier.set_peers(Address(row.id, row.role, row.address) for row in rows if row.address is not None)
        self._keep_own({row.id: row.lock for row in rows}, now=now)
        self._liveness.forget_all_but({row.id for row in rows})
        dead = [row for row in rows if row.id not in self._own and not self._liveness.is_alive(row)]
        limits = CrashLimits(now, max_crashes, delete_at)
        recovered: list[Recovered] = []
        for some in chunks(sorted(dead, key=_process_of)):
            with self._database.atomic():
                released, deaths = self._recover_owners(some, limits)
            for row in some:
                self._locks.release(row.lock)
            recovered += released
            for death in deaths:
                recovered += death.jobs
                if on_death is not None:
                    on_death(death)
        if has_held and any(job.is_due(now) for job in self._held_suspects()):
            with self._database.atomic():
                recovered += end_held(self._statements, limits)
        return recovered

    def _held_suspects(self) -> list[HeldSuspect]:
        return held_suspects(decode_rows(self._database.read(sql("held_suspects"))[0]))

    def _recover_owners(self, dead: Sequence[_Owner], limits: CrashLimits) -> tuple[list[Recovered], list[Death]]:
        """Take the jobs of these owners, and remove them: what those held that had left, and the deaths of the others.

        What another process has been faster with is not taken again.
        """
        left = self._still_there([row.id for row in dead])
        leaving = [row.id for row in dead if row.is_leaving]
        released = release_departed(self._statements, leaving, now=limits.now) if leaving else []
        lost = [row for row in dead if row.id in left and not row.is_leaving]
        processes = [self._dead_process(*process, list(rows)) for process, rows in groupby(lost, key=_process_of)]
        deaths = recover_dead(self._statements, processes, limits) if processes else []
        self._remove([row.id for row in dead])
        return released, deaths

    def _dead_process(self, host: str, pid: int, rows: Sequence[_Owner]) -> DeadProcess:
        begun = {row.id: read_begun(self._locks.begun_path(row.lock)) for row in rows}
        return DeadProcess(host, pid, begun, any(row.role == OwnerRole.WORKER for row in rows))

    def _still_there(self, owners: Sequence[int]) -> set[int]:
        size, ids = id_values(owners)
        return set(decode_rows(self._database.row(sql("known_owners", ids=size), ids)[0]))

    def _keep_own(self, locks: Mapping[int, str], *, now: Microseconds) -> None:
        """See that others find the owners of this process, and their lock files. ``locks`` are those in the rows."""
        for owner, own in list(self._own.items()):
            if owner not in locks:
                self._reregister(owner, now=now)
            elif locks[owner] != own.lock or not self._locks.is_intact(own.lock):
                self._renew_lock(owner, own)

    def _renew_lock(self, owner: int, own: _LocalOwner) -> None:
        """The lock file is gone, or is not the one in the row. Until there is another one, this process is recognised
        by its id and its heartbeat."""
        try:
            lock = self._hold()
        except StorageUnavailableError as error:
            self._warn("and cannot be made again: %s", error)
            return
        self._warn("and is made again.")
        try:
            self._database.write_unflushed(sql("renew_lock"), (lock, self._liveness.evidence(lock), owner))
        except BaseException:
            self._locks.release(lock)
            raise
        self._own[owner] = _LocalOwner(lock, own.profile)
        if owner in self._begun:
            self._renew_begun(owner, lock)
        self._locks.release(own.lock)

    def _renew_begun(self, owner: int, lock: str) -> None:
        try:
            self._begun[owner].renew(self._locks.begun_path(lock))
        except OSError as error:
            log.info("Begun jobs are not noted any more (%s).", error)

    def _warn(self, message: str, *arguments: object) -> None:
        level = logging.DEBUG if self._is_lock_missing else logging.WARNING
        self._is_lock_missing = True
        text = f"A lock file of this process in %r is gone {message} Nothing but Jobify should change that directory."
        log.log(level, text, f"{self._database.path}-owners", *arguments)

    def _reregister(self, owner: int, *, now: Microseconds) -> None:
        """An owner of this process was taken for dead, in spite of all proofs. It goes on under its id.

        What it held has gone to others and its outcomes will be refused. But what it has claimed since then would
        have no owner, and be lost for good with this process.
        """
        own = self._own[owner]
        try:
            self._register(owner, own.profile, now=now)
        except StorageUnavailableError:
            self._write_row(owner, own, now=now)  # without a lock file: there is other proof
        else:
            self._locks.release(own.lock)

    def _remove(self, owners: Sequence[int]) -> None:
        size, ids = id_values(owners)
        self._database.write(sql("deregister", ids=size), ids)


def owners_in(answer: bytes, is_alive: Callable[[_Owner], bool]) -> list[OwnerRecord]:
    """The owners in the answer to the statement ``owners``."""
    rows = _rows_of(answer)
    return [
        OwnerRecord(row.id, row.host, row.pid, row.started_at, row.seen_at, row.profile, is_alive(row)) for row in rows
    ]


def _rows_of(answer: bytes) -> list[_Owner]:
    return [_Owner._make(row) for row in decode_rows(answer)]


def _process_of(row: _Owner) -> tuple[str, int]:
    return row.host, row.pid


def _written(profile: OwnerProfile) -> tuple[object, ...]:
    """A profile as columns."""
    queues = None if profile.queues is None else json.dumps(profile.queues)
    return profile.role.value, queues, json.dumps(profile.tasks), profile.concurrency


def _nothing() -> None:
    """No lock is held."""
