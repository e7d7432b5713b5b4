"""``jobify db …``: migrate, check, back up, vacuum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import Json, Source, for_jobs, new_group

if TYPE_CHECKING:
    from jobify.storage.sqlite import SQLiteStorage
    from jobify.storage.sqlite.maintenance import Health

__all__ = ("database",)

database = new_group("Migrate, check, back up and vacuum the database.")


@database.command("migrate")
@for_jobs
def migrate(source: Source, as_json: Json = False) -> None:
    """Make the database, or bring its schema up to date. A start of the app does the same."""
    from jobify.cli.output import print_cells, print_document
    from jobify.storage.sqlite.maintenance import schema_version

    storage = _sqlite(source)
    before = schema_version(storage.database)
    storage.open()
    storage.close()
    after = schema_version(storage.database)
    what = "made" if before == 0 else "up to date" if before == after else f"migrated from version {before}"
    if as_json:
        print_document({"path": str(storage.database), "version": after, "status": what})
    else:
        print_cells(storage.database, f"schema version {after}", what)


@database.command("check")
@for_jobs
def check(source: Source, as_json: Json = False) -> None:
    """Read the whole database: is it undamaged, which version is it, what is in it? Changes nothing.

    Exit code 1 if it is damaged, not a database of Jobify, or of a newer release.
    """
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_document
    from jobify.storage.sqlite import maintenance

    health = maintenance.check(_sqlite(source).database)
    if as_json:
        print_document({**health._asdict(), "problems": list(health.problems), "is_well": health.is_well})
    else:
        _print_health(health)
    if not health.is_well:
        raise CommandError(f"The database {health.path!r} is not well: {_diagnosis(health)}")


def _diagnosis(health: Health) -> str:
    if not health.is_ours:
        return "it was not written by Jobify."
    if health.problems:
        return f"{health.problems[0]} ({len(health.problems)} problems in all). Restore it from a copy."
    return f"its schema version {health.version} is newer than {health.newest_version}. Update Jobify."


def _print_health(health: Health) -> None:
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
            ("to be regained by a vacuum", _megabytes(health.free)),
        ]
    )
    for problem in health.problems:
        print_line(problem)


@database.command("backup")
@for_jobs
def backup(
    source: Source,
    destination: Annotated[str, typer.Argument(metavar="DST", help="The file of the copy.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Although DST exists: it is replaced at once.")] = False,
    as_json: Json = False,
) -> None:
    """Copy the database while it is used: all that is committed by now, into one file, checked and flushed to the disk.

    The copy is there as a whole or not at all. To restore it, stop the processes, delete FILE-wal and FILE-shm, and put
    the copy in the place of FILE.
    """
    from jobify.cli.output import print_cells, print_document

    made = _sqlite(source).backup(destination, overwrite=force)
    if as_json:
        print_document(made._asdict())
    else:
        print_cells(made.path, f"{made.jobs} jobs", _megabytes(made.size))


@database.command("vacuum")
@for_jobs
def vacuum(
    source: Source,
    force: Annotated[bool, typer.Option("--force", help="Although processes use it: they wait meanwhile.")] = False,
    as_json: Json = False,
) -> None:
    """Give back the room of deleted jobs. Refused while workers are alive: they would wait for it to end."""
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_cells, print_document
    from jobify.storage.sqlite import maintenance

    storage = _sqlite(source)
    before = maintenance.check(storage.database)
    if not before.is_well:
        raise CommandError(f"The database {before.path!r} is not well: {_diagnosis(before)}")
    if not force:
        _require_rest(storage)
    maintenance.vacuum(storage.database, timeout=storage.timeout)
    after = maintenance.check(storage.database)
    if as_json:
        print_document({"path": before.path, "size_before": before.size, "size": after.size})
    else:
        print_cells(before.path, _megabytes(before.size), _megabytes(after.size))


def _require_rest(storage: SQLiteStorage) -> None:
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


def _sqlite(source: Source) -> SQLiteStorage:
    from jobify.cli.app_loader import load_app_or_advise
    from jobify.cli.database_app import database_file
    from jobify.cli.errors import CommandError
    from jobify.storage.sqlite import SQLiteStorage

    if source.database:
        return database_file(source.database)
    storage = load_app_or_advise(source.app).configs.storage
    if not isinstance(storage, SQLiteStorage) or not storage.is_durable:
        raise CommandError(f"This app has no database file; its storage is {storage!r}.")
    return storage


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
