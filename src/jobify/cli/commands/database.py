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
    """Create the database, or migrate its schema to this release. A start of the app does the same."""
    from jobify.cli.app_loader import sqlite_storage
    from jobify.cli.output import print_cells, print_document
    from jobify.storage.sqlite.maintenance import schema_version

    storage = sqlite_storage(source)
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
    """Read the whole database: its integrity, its version, its content. Changes nothing.

    Exit code 1 if it is damaged, if it is not a database of Jobify, or if a newer release wrote it.
    """
    from jobify.cli.app_loader import sqlite_storage
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_document
    from jobify.storage.sqlite import maintenance

    health = maintenance.check(sqlite_storage(source).database)
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

    made = sqlite_storage(source).backup(destination, overwrite=force)
    if as_json:
        print_document(made._asdict())
    else:
        print_cells(made.path, f"{made.jobs} jobs", _megabytes(made.size))


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

    storage = sqlite_storage(source)
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
