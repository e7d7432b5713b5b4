"""Load the app that ``package.module:app`` names, or open a database without its app (``--database``).

The name may also be that of a factory: a function without required parameters that returns the app. Everything that can
be wrong with such a name has an error message of its own.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

from jobify.cli.environment import APP, APP_DIR
from jobify.cli.errors import CommandError
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.cli.options import Source
    from jobify.storage.base import Storage
    from jobify.storage.postgres import PostgresStorage
    from jobify.storage.sqlite import SQLiteStorage

__all__ = (
    "app_without_code",
    "database_storage",
    "exists",
    "is_postgres",
    "load_app",
    "load_app_or_advise",
    "load_app_quietly",
    "sqlite_storage",
)

_DATABASE_HINT = "The jobs can be seen without the app's code: --database PATH."


def load_app(path: str | None) -> Jobify:
    """The app that ``path`` names (``module:name``; the default name is ``app``), or what the factory there returns.

    None means the path in the environment. Modules are also looked up in the current folder, or in the folder that the
    environment names. CommandError (usage) says what does not exist; CommandError (failed) says what the import raised.
    """
    path = path or os.environ.get(APP)
    if not path:
        raise CommandError(f"No app is named. Give one with --app package.module:app, or set {APP}.", ExitCode.USAGE)
    module_name, _, name = path.partition(":")
    if not module_name:
        raise CommandError(f"{path!r} names no module. Write package.module:name.", ExitCode.USAGE)
    _make_folder_importable()
    return _checked(path, _import(path, module_name), name or "app")


def load_app_quietly(path: str | None) -> Jobify:
    """Load the app, and send what its module prints to standard error.

    Standard output is for the result of the command.
    """
    from jobify.app.lifecycle import client_only

    with redirect_stdout(sys.stderr), client_only():
        return load_app(path)


def load_app_or_advise(path: str | None) -> Jobify:
    """:func:`load_app_quietly` for a command with the option ``--database``, which its errors then mention."""
    try:
        return load_app_quietly(path)
    except CommandError as error:
        raise CommandError(f"{error} {_DATABASE_HINT}", error.code) from error.__cause__


def _make_folder_importable() -> None:
    folder = os.environ.get(APP_DIR)
    if folder and not os.path.isdir(folder):
        raise CommandError(f"There is no folder {folder!r} to import the app from (--app-dir).", ExitCode.USAGE)
    wanted = _folder()
    if wanted not in sys.path and (folder or "" not in sys.path):
        sys.path.insert(0, wanted)


def _folder() -> str:
    return os.path.abspath(os.environ.get(APP_DIR) or os.getcwd())


def _import(path: str, name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise CommandError(
            f"{path!r} names a file. Name the module, as in an import: {dotted}:{path.partition(':')[2] or 'app'}.",
            ExitCode.USAGE,
        )
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(
                f"There is no module {error.name!r}, in {_folder()} or where Python looks for modules.",
                ExitCode.USAGE,
            ) from error
        raise CommandError(
            f"Importing {name!r} failed: {type(error).__name__}: {_message_of(error)} ({_user_line(error)})."
        ) from error
    except SystemExit as error:
        raise CommandError(
            f"Importing {name!r} ends the program: SystemExit({error.code!r}) ({_user_line(error)})."
        ) from error


def _user_line(error: BaseException) -> str:
    """The last line of the user's code in the traceback.

    Lines of this package, of Python and of installed packages count only if there is no other. For a module that cannot
    be compiled it is the line of the syntax error.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = list(reversed(traceback.extract_tb(error.__traceback__)))
    ours, installed = (str(Path(__file__).parents[1]), "<frozen "), tuple(sysconfig.get_paths().values())
    others = [frame for frame in frames if not frame.filename.startswith(ours)] or frames[:1]
    where = next((frame for frame in others if not frame.filename.startswith(installed)), others[0])
    line = "" if not where.line or where.line.startswith("raise ") else f": {where.line}"  # a raise repeats the error
    return f"{_short(where.filename)}:{where.lineno}{line}"


def _short(path: str) -> str:
    """The path, relative if it is in the current folder."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)


def _message_of(error: Exception) -> object:
    return error.msg if isinstance(error, SyntaxError) else error  # str() of a SyntaxError repeats the place


def _checked(path: str, module: ModuleType, name: str) -> Jobify:
    from jobify.app.application import Jobify

    found: Any = module
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        message = f"The module {module.__name__!r} has no {name!r}.{_suggestion(module, name, Jobify)}"
        raise CommandError(message, ExitCode.USAGE) from None
    if _is_factory(found, Jobify):
        found = _call_factory(path, found)
    if not isinstance(found, Jobify):
        message = f"{path!r} is no Jobify, but of type {type(found).__name__}.{_suggestion(module, name, Jobify)}"
        raise CommandError(message, ExitCode.USAGE)
    return found


def _is_factory(found: Any, kind: type[Jobify]) -> bool:
    """Whether to call it for the app. A task is callable as well, but calling it would run it."""
    is_app_class = inspect.isclass(found) and issubclass(found, kind)
    return inspect.isroutine(found) or isinstance(found, functools.partial) or is_app_class


def _call_factory(path: str, factory: Callable[[], Any]) -> Any:
    """Call the factory; CommandError if it takes arguments, is async or raises."""
    from jobify.model.signature import is_async_callable

    if is_async_callable(factory):
        raise CommandError(
            f"{path!r} is an async function, and a factory is called before there is an event loop. Write `def`, and "
            "leave what has to be awaited to a lifespan of the app.",
            ExitCode.USAGE,
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        message = f"{path!r} cannot be called without arguments ({error}), as a factory is. Give them defaults."
        raise CommandError(message, ExitCode.USAGE) from error
    except ValueError:  # some functions that are written in C have no signature
        pass
    try:
        return factory()
    except Exception as error:
        raise CommandError(
            f"Calling {path!r} failed: {type(error).__name__}: {error} ({_user_line(error)})."
        ) from error
    except SystemExit as error:
        raise CommandError(
            f"Calling {path!r} ends the program: SystemExit({error.code!r}) ({_user_line(error)})."
        ) from error


def _suggestion(module: ModuleType, name: str, kind: type[Jobify]) -> str:
    apps = [each for each, value in vars(module).items() if isinstance(value, kind)]
    apps += [each for each in ("create_app", "make_app") if inspect.isfunction(vars(module).get(each))]
    import difflib  # of no use where nothing is misspelt

    likely = difflib.get_close_matches(name, apps, n=1, cutoff=0.4) or apps[:1]
    return f" Did you mean {module.__name__}:{likely[0]}?" if likely else " It holds no Jobify at all."


# -- databases ---------------------------------------------------------------------------------------------------------


def app_without_code(source: Source) -> Jobify:
    """An app without tasks on the database of ``--database``.

    It has the defaults of an app: times are shown in UTC, and the default retention applies to jobs that are cancelled
    or deleted here. CommandError if there is no such file or schema or if it is not one of Jobify: reading creates
    none.
    """
    from jobify.app.application import Jobify
    from jobify.app.lifecycle import client_only
    from jobify.storage.sqlite import SQLiteStorage, maintenance

    storage = database_storage(source)
    if not isinstance(storage, SQLiteStorage):
        if not exists(storage):
            raise CommandError(f"There are no jobs in {storage.database!r} (no schema {storage.schema!r}).")
    elif not maintenance.is_ours(storage.database):
        raise CommandError(f"{storage.database!r} is not a database of Jobify.", ExitCode.USAGE)
    with client_only():
        return Jobify(storage=storage)


def database_storage(
    source: Source, *, schema: str | None = None, may_be_missing: bool = False
) -> SQLiteStorage | PostgresStorage:
    """The storage of ``--database`` or of the app, whatever is in it.

    CommandError if the app has no database, or if the file of ``--database`` does not exist, unless it
    ``may_be_missing``. ``schema``: another one of a PostgreSQL database.
    """
    from jobify.storage.sqlite import SQLiteStorage

    if source.database:
        storage: object = _storage_at(source.database)
    else:
        storage = load_app_or_advise(source.app).configs.storage
    if isinstance(storage, SQLiteStorage) and storage.is_durable:
        if schema is not None:
            raise CommandError("A database file has no schemas: leave out --schema.", ExitCode.USAGE)
        if source.database and not (may_be_missing or Path(storage.database).is_file()):
            raise CommandError(
                f"There is no database file {storage.database!r}, and --database creates none. Is the path right? A "
                "relative path is looked up in the current folder."
            )
        return storage
    if not is_postgres(storage):
        raise CommandError(f"This app has no database; its storage is {storage!r}.")
    return storage if schema is None else type(storage)(storage.url, schema=schema)


def sqlite_storage(source: Source, *, instead: str) -> SQLiteStorage:
    """:func:`database_storage` for what is done to files only; ``instead`` says how it is done to a server."""
    from jobify.storage.sqlite import SQLiteStorage

    storage = database_storage(source)
    if not isinstance(storage, SQLiteStorage):
        raise CommandError(f"{storage.database!r} is on a PostgreSQL server. {instead}", ExitCode.USAGE)
    return storage


def is_postgres(storage: object) -> TypeGuard[PostgresStorage]:
    """Whether a storage is on a PostgreSQL server. Imports nothing: what exists was imported."""
    module = sys.modules.get("jobify.storage.postgres.storage")
    return module is not None and isinstance(storage, module.PostgresStorage)


def exists(storage: SQLiteStorage | PostgresStorage) -> bool:
    """Whether the file or the schema of a storage is there. Makes neither."""
    if is_postgres(storage):
        from jobify.storage.postgres.maintenance import schema_version

        return schema_version(storage) > 0
    return Path(storage.database).exists()


def _storage_at(database: str) -> Storage:
    """The storage at a path or a URL. CommandError for one without a file."""
    from jobify.app.validation import checked_storage

    storage = checked_storage(database)
    if not storage.is_durable:
        raise CommandError(f"--database {database} names no file: that database ends with its process.", ExitCode.USAGE)
    return storage
