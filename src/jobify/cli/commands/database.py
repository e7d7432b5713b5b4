"""``jobify db …``: migrate, check, copy, back up, vacuum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import Json, Source, for_jobs, new_group

if TYPE_CHECKING:
    from jobify.storage.postgres import PostgresStorage
    from jobify.storage.sqlite import SQLiteStorage
    from jobify.storage.sqlite.maintenance import Health

__all__ = ("database",)

database = new_group("Migrate, check, copy, back up and vacuum the database.")
Schema = Annotated[
    str | None, typer.Option("--schema", metavar="NAME", help="Another schema of a PostgreSQL database than the app's.")
]


@database.command("migrate")
@for_jobs
def migrate(source: Source, schema: Schema = None, as_json: Json = False) -> None:
    """Create the database, or migrate its schema to this release. A start of the app does the same."""
    from jobify.cli.app_loader import database_storage, is_postgres
    from jobify.cli.output import print_cells, print_document

    storage = database_storage(source, schema=schema)
    before = _migrate(storage)
    after = _schema_version(storage)
    what = "made" if before == 0 else "up to date" if before == after else f"migrated from version {before}"
    where = (
        {"database": storage.database, "schema": storage.schema} if is_postgres(storage) else {"path": storage.database}
    )
    if as_json:
        print_document({**where, "version": after, "status": what})
    else:
        print_cells(*where.values(), f"schema version {after}", what)


def _migrate(storage: SQLiteStorage | PostgresStorage) -> int:
    """Bring the schema up to date. The version that it had."""
    from jobify.cli.app_loader import is_postgres

    if is_postgres(storage):
        from jobify.storage.postgres import maintenance

        return maintenance.migrate(storage)
    before = _schema_version(storage)
    storage.open()
    storage.close()
    return before


def _schema_version(storage: SQLiteStorage | PostgresStorage) -> int:
    from jobify.cli.app_loader import is_postgres

    if is_postgres(storage):
        from jobify.storage.postgres.maintenance import schema_version

        return schema_version(storage)
    from jobify.storage.sqlite import maintenance

    return maintenance.schema_version(storage.database)


@database.command("sql")
@for_jobs
def sql(
    source: Source,
    since: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="VERSION",
            min=0,
            help="The version to migrate from (0: a new schema), without asking the server.",
        ),
    ] = None,
    schema: Schema = None,
) -> None:
    """Print what a migration would run on PostgreSQL, for psql. Changes nothing.

    Example: jobify db sql | psql -v ON_ERROR_STOP=1 postgresql://owner@db.example/shop
    """
    from jobify.cli.app_loader import database_storage, is_postgres
    from jobify.cli.errors import CommandError

    storage = database_storage(source, schema=schema, may_be_missing=True)
    if not is_postgres(storage):
        raise CommandError("A database file is migrated by jobify db migrate, or by the first process that opens it.")
    from jobify.storage.postgres.schema import migrations, script

    version, newest = _schema_version(storage) if since is None else since, len(migrations())
    if version > newest:
        raise CommandError(f"Version {version} is newer than {newest}, which this release knows. Update Jobify.")
    print(f"-- The schema {storage.schema!r}, from version {version} to {newest}")
    print(script(storage.schema, since=version))


@database.command("check")
@for_jobs
def check(source: Source, schema: Schema = None, as_json: Json = False) -> None:
    """Look at the database: its version, its content, and what is wrong with it. Changes nothing.

    A file is read as a whole. Of PostgreSQL, the schema and the server are looked at. Exit code 1 if it is damaged, if
    it is not a database of Jobify, or if a newer release wrote it.
    """
    from jobify.cli.app_loader import database_storage, is_postgres
    from jobify.cli.errors import CommandError

    storage = database_storage(source, schema=schema)
    if is_postgres(storage):
        problem = _check_schema(storage, as_json=as_json)
    else:
        problem = _check_file(storage.database, as_json=as_json)
    if problem is not None:
        raise CommandError(f"The database {storage.database!r} is not well: {problem}")


def _check_file(path: str, *, as_json: bool) -> str | None:
    """Print what a file is like; what is wrong with it."""
    from jobify.cli.output import print_document
    from jobify.storage.sqlite import maintenance

    health = maintenance.check(path)
    if as_json:
        print_document({**health._asdict(), "problems": list(health.problems), "is_well": health.is_well})
    else:
        _print_file(health)
    return None if health.is_well else _diagnosis(health)


def _check_schema(storage: PostgresStorage, *, as_json: bool) -> str | None:
    """Print what a schema is like; what is wrong with it."""
    from jobify.cli.output import print_document, print_facts, print_line
    from jobify.storage.postgres import maintenance

    health = maintenance.check(storage)
    if as_json:
        print_document({**health._asdict(), "problems": list(health.problems), "is_well": health.is_well})
    else:
        print_facts(
            [
                ("database", health.database),
                ("schema", health.schema),
                ("schema version", f"{health.version} (this release: {health.newest_version})"),
                ("PostgreSQL", health.server_version),
                ("jobs", health.jobs),
                ("attempts kept", health.attempts),
                ("size", _megabytes(health.size)),
                ("rows for vacuum", health.dead_rows),
                ("connections to the server", f"{health.connections} of {health.max_connections}"),
            ]
        )
        for problem in health.problems:
            print_line(problem)
    if health.version == 0:
        return f"there is no schema {health.schema!r}. An app or a worker creates it, or: jobify db migrate."
    if health.version > health.newest_version:
        return f"its schema version {health.version} is newer than {health.newest_version}. Update Jobify."
    return f"{_first(health.problems)}." if health.problems else None


def _diagnosis(health: Health) -> str:
    if not health.is_ours:
        return "it was not written by Jobify."
    if health.problems:
        return f"{_first(health.problems)}. Restore it from a copy."
    return f"its schema version {health.version} is newer than {health.newest_version}. Update Jobify."


def _first(problems: tuple[str, ...]) -> str:
    """One of them, and how many there are."""
    return problems[0] if len(problems) == 1 else f"{problems[0]} ({len(problems)} problems in all)"


def _print_file(health: Health) -> None:
    from jobify.cli.output import print_facts, print_line

    print_facts(
        [
            ("database", health.path),
            ("integrity", "ok" if not health.problems else f"{len(health.problems)} problems"),
            ("schema version", f"{health.version} (this release: {health.newest_version})"),
            ("SQLite", health.sqlite_version),
            ("jobs", health.jobs),
            ("attempts kept", health.attempts),
            ("size", _megabytes(health.size)),
            ("write-ahead log", _megabytes(health.log_size)),
            ("freed by a vacuum", _megabytes(health.free)),
        ]
    )
    for problem in health.problems:
        print_line(problem)


@database.command("backup")
@for_jobs
def backup(
    source: Source,
    destination: Annotated[str, typer.Argument(metavar="DST", help="The file of the copy.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace DST, atomically, if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Copy the database while it is in use: all committed data, into one file that is checked and flushed to the disk.

    The copy is complete or it does not exist. To restore it, stop the processes, delete FILE-wal and FILE-shm, and
    replace FILE by the copy.
    """
    from jobify.cli.app_loader import sqlite_storage
    from jobify.cli.output import print_cells, print_document

    storage = sqlite_storage(source, instead="Its own tools make a copy of it, such as pg_dump --schema.")
    made = storage.backup(destination, overwrite=force)
    if as_json:
        print_document(made._asdict())
    else:
        print_cells(made.path, f"{made.jobs} jobs", _megabytes(made.size))


@database.command("copy")
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The database file, or its URL.", show_default=False)],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="The URL of a PostgreSQL database.", show_default=False)
    ],
    schema: Annotated[str, typer.Option("--schema", metavar="NAME", help="The schema in DST.")] = "jobify",
    as_json: Json = False,
) -> None:
    """Copy all jobs of a database file to PostgreSQL: history, schedules, dependencies, messages and paused queues.

    All or nothing: a copy that was interrupted has left nothing, and is made again. Refused while processes use SRC or
    DST, and if DST is not empty. SRC stays as it is.

    Example: jobify db copy jobs.db postgresql://shop@db.example/shop
    """
    from jobify.cli.app_loader import database_storage, is_postgres
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_document, print_facts
    from jobify.storage.sqlite import SQLiteStorage
    from jobify.worker.exit_codes import ExitCode

    old = database_storage(Source(database=source))
    if not isinstance(old, SQLiteStorage):
        raise CommandError(f"{source!r} is not right: SRC is a database file.", ExitCode.USAGE)
    new = database_storage(Source(database=destination), may_be_missing=True)
    if not is_postgres(new):
        raise CommandError(f"{destination!r} is not right: DST is the URL of a PostgreSQL database.", ExitCode.USAGE)
    new = database_storage(Source(database=destination), schema=schema)
    assert is_postgres(new)
    from jobify.storage.copying import copy as copy_all

    copied = copy_all(old, new)
    if as_json:
        print_document(
            {"source": copied.source, "destination": copied.destination, "schema": schema, "rows": copied.rows}
        )
    else:
        print_facts([("source", copied.source), ("destination", copied.destination), ("schema", schema)])
        print_facts([(table.replace("_", " "), count) for table, count in copied.rows.items() if count])


@database.command("vacuum")
@for_jobs
def vacuum(
    source: Source,
    force: Annotated[bool, typer.Option("--force", help="Also while processes use it; they wait.")] = False,
    as_json: Json = False,
) -> None:
    """Release the disk space of deleted jobs. Refused while workers are alive, because they would wait for it."""
    from jobify.cli.app_loader import sqlite_storage
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_cells, print_document
    from jobify.storage.sqlite import maintenance

    storage = sqlite_storage(source, instead="Its autovacuum does that by itself.")
    before = maintenance.check(storage.database)
    if not before.is_well:
        raise CommandError(f"The database {before.path!r} is not well: {_diagnosis(before)}")
    if not force:
        _require_no_users(storage)
    maintenance.vacuum(storage.database, timeout=storage.timeout)
    after = maintenance.check(storage.database)
    if as_json:
        print_document({"path": before.path, "size_before": before.size, "size": after.size})
    else:
        print_cells(before.path, _megabytes(before.size), _megabytes(after.size))


def _require_no_users(storage: SQLiteStorage) -> None:
    from jobify.cli.errors import CommandError

    storage.open()
    try:
        alive = [str(owner.pid) for owner in storage.owners() if owner.is_alive]
    finally:
        storage.close()
    if alive:
        raise CommandError(
            f"Processes use {storage.database!r} ({', '.join(alive)}), and would wait for the vacuum. Stop them first, "
            "or add --force."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
