"""The storage on a user's connection: see :mod:`jobify.storage.transactions`.

The statements are those of the storage's own calls. What is different here comes from one fact: what a transaction
locks, it holds until the user ends it.

**No lock of the database, if it can be done without.** The storage's own calls change relations between jobs one at a
time (``Database.atomic``). In a user's transaction that lock would keep all others from it until the commit. Jobs that
are new under their ids, with parents in the same call, are invisible to others before the commit, and do without. It is
taken where a job waits for one that others see, where it takes the place of another one, and for the end of a job on
which something depends.

**Nothing waits while it holds that lock.** An insert waits for open transactions that hold its unique key, so it is
tried before.

**Errors.** One statement that fails ends the whole transaction on PostgreSQL; so no statement fails on purpose, and a
call of several has a savepoint. On a connection that commits each statement, such a call is a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from jobify.exceptions import ConfigurationError
from jobify.model.records import NewJob, Progress, Report, Settled, Settlement
from jobify.storage.postgres.arrays import PACKERS, escaped, restored_row
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.jobs import TakenError, insert_free, insert_rows, insert_with_parents, replace_row
from jobify.storage.postgres.settlements import SettlementRows
from jobify.storage.postgres.statements import Catalog, Statement
from jobify.storage.postgres.writing import WritingStatements
from jobify.storage.sql.dependencies import add_edges
from jobify.storage.sql.reports import Reports
from jobify.storage.sql.settlements import settle_held
from jobify.storage.transactions import Answer, Statements

__all__ = ("JoinedDatabase", "JoinedPostgres", "Joining")


class JoinedDatabase(WritingStatements):
    """A user's connection."""

    def __init__(self, statements: Statements, *, sql: Catalog, relations: int) -> None:
        self._statements = statements
        self.sql = sql
        self._relations = relations
        self._depth = 0

    # -- statements ----------------------------------------------------------------------------------------------------

    def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> Answer:
        return self._statements.execute(statement.text, _plain(statement, parameters))

    def change(self, statement: Statement, parameters: Sequence[Any]) -> int:
        return self.execute(statement, parameters).rowcount

    def read(self, name: str, *parameters: Any) -> list[Any]:
        return [restored_row(row) for row in self.execute(self.sql(name), parameters).rows]

    def values(self, statement: Statement, parameters: Sequence[Any]) -> list[Any]:
        rows = [restored_row(row) for row in self.execute(statement, parameters).rows]
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Statements, all or none: a savepoint, or a transaction where there is none."""
        begin, commit, undo = "BEGIN", "COMMIT", ["ROLLBACK"]
        if self._statements.is_in_transaction:
            name = f"SAVEPOINT jobify_{self._depth}"
            begin, commit, undo = name, f"RELEASE {name}", [f"ROLLBACK TO {name}", f"RELEASE {name}"]
        self._statements.execute(begin)
        self._depth += 1
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the connection is lost, and the transaction with it
                for command in undo:
                    self._statements.execute(command)
            raise
        else:
            self._statements.execute(commit)
        finally:
            self._depth -= 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """:meth:`savepoint`, unless one is open: what fails inside that one ends the whole call."""
        if self._depth:
            yield
            return
        with self.savepoint():
            yield

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """:meth:`savepoint`, and no other transaction changes relations between jobs before the user's commit."""
        with self.savepoint():
            self.lock_relations()
            yield

    def lock_relations(self) -> None:
        """Take the lock of :meth:`atomic`."""
        self._statements.execute(f"SELECT pg_advisory_xact_lock({self._relations})")


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


_CLEAN: Final[dict[Any, Callable[[Any], Any]]] = {
    PACKERS["text"]: escaped,
    PACKERS["bytea"]: _bytes,
    PACKERS["boolean"]: bool,
    PACKERS["bigint"]: int,
    PACKERS["float8"]: float,
}
"""How an element becomes a plain one, by how the array that it is in would be packed."""


def _plain(statement: Statement, parameters: Sequence[Any]) -> list[Any]:
    """Parameters as any driver takes them."""
    plain: list[Any] = []
    for index, value in enumerate(parameters):
        packer = statement.packers.get(index)
        if packer is not None and value is not None:
            clean = _CLEAN[packer]
            plain.append([None if one is None else clean(one) for one in value])
        elif isinstance(value, str):
            plain.append(escaped(value))
        else:
            plain.append(bytes(value) if isinstance(value, bytearray | memoryview) else value)
    return plain


class JoinedPostgres:
    """See :class:`~jobify.storage.transactions.JoinedStorage`."""

    def __init__(self, database: JoinedDatabase, channel: str | None) -> None:
        self._database = database
        self._channel = channel
        self._reports = Reports(database)
        self._settlements = SettlementRows(database)

    def transaction(self) -> AbstractContextManager[None]:
        return self._database.savepoint()

    # -- insert --------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        if not jobs:
            return []
        if len(jobs) == 1 and not jobs[0].parents:
            if insert_rows(self._database, jobs):  # one statement, which has nothing to undo
                return [True]
        elif self._insert_new(jobs):
            return [True] * len(jobs)
        while True:
            with suppress(TakenError), self._database.savepoint():
                return self._insert_beside_others(jobs)

    def _insert_new(self, jobs: Sequence[NewJob]) -> bool:
        """Insert jobs that depend on none but each other, and that are all new; else none."""
        has_parents = any(job.parents for job in jobs)
        with self._database.together():
            added = insert_rows(self._database, jobs)
            if len(added) == len(jobs) and not _depends_on_others(jobs):
                if has_parents:
                    add_edges(self._database, jobs, {})
                return True
            self._database.run_for("undo_insert", added)
        return False

    def _insert_beside_others(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Insert jobs some of which may have taken ids or keys, or parents that others see."""
        database = self._database
        if _depends_on_others(jobs) or database.rows_for("ended", [job.id for job in jobs]):
            database.lock_relations()
        if any(job.parents for job in jobs):
            return insert_with_parents(database, jobs)
        return insert_free(database, jobs)

    def find_unique(self, key: str) -> str | None:
        found: str | None = self._database.rows("find_unique", key)[0]
        return found

    def hold(self, id: str) -> None:
        self._database.lock_relations()  # first, as the storage's own calls do: else they would wait for each other
        self._database.rows_for("statuses", [id])

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        with self._database.atomic():
            return replace_row(self._database, job, progress)

    def notify(self) -> bool:
        if self._channel is not None:
            self._database.rows("notify", self._channel)
        return self._channel is not None

    # -- the end of a job ----------------------------------------------------------------------------------------------

    def report(self, reports: Sequence[Report]) -> list[bool]:
        return self._reports.report(reports)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        with self._database.together():
            applied = self._settlements.settle_plain(settlements)
            rest = [one for one in settlements if one.id not in applied]
            if not rest:
                return [Settled.APPLIED] * len(settlements)
            self._database.lock_relations()
            met = iter(settle_held(self._database, self._settlements, rest))
            return [Settled.APPLIED if one.id in applied else next(met) for one in settlements]


def _depends_on_others(jobs: Sequence[NewJob]) -> bool:
    """Whether a job depends on one that is not before it among these."""
    before: set[str] = set()
    for job in jobs:
        if not before.issuperset(job.parents):
            return True
        before.add(job.id)
    return False


# -- where a connection leads to ---------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """A database of a running server."""

    server: int
    """When that server was started, in microseconds: no two servers have that in common."""
    database: int
    """The number of the database."""
    name: str
    """Its name."""


_places: WeakKeyDictionary[object, _Place] = WeakKeyDictionary()
"""Of users' connections."""


class Joining:
    """Joins users' connections to a database. ``channel`` is what transactions notify; None: they do not."""

    def __init__(self, database: Database, channel: str | None) -> None:
        self._database = database
        self._channel = channel
        self._place: _Place | None = None

    def join(self, statements: Statements) -> JoinedPostgres:
        """The calls on a connection; ConfigurationError if it leads to another database."""
        self._require_same_place(statements)
        database = self._database
        joined = JoinedDatabase(statements, sql=database.sql, relations=database.relations)
        return JoinedPostgres(joined, self._channel)

    def _require_same_place(self, statements: Statements) -> None:
        database, connection = self._database, statements.connection
        if statements.dialect != "postgresql":
            raise ConfigurationError(
                f"The jobs are in the PostgreSQL database {database.where}, and the connection leads to a database of "
                f"another kind ({statements.dialect}). Give a connection to that database."
            )
        place = None if connection is None else _places.get(connection)
        if place is not None and place == self._place:
            return
        place = _Place(*statements.execute(database.sql("place").text).rows[0])
        own = self._place
        if own is None or place != own:  # not known yet, or the server was started again
            own = self._place = _Place(*database.read("place")[0])
        if connection is not None:
            _places[connection] = place
        if place != own:
            which = "the same" if place.server == own.server else "another"
            raise ConfigurationError(
                f"The jobs are in the database {database.where}, and the connection leads to the database "
                f"{place.name!r} of {which} server. Only one database can have one transaction: give a connection to "
                "that database, or keep the jobs in yours."
            )
