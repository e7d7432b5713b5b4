"""From ``package.module:app`` to the app, with an answer for everything that can be wrong with that text.

The name may also be that of a factory: a function without required parameters that returns the app.
"""

from __future__ import annotations

import difflib
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
from typing import TYPE_CHECKING, Any

from jobify.cli.errors import CommandError
from jobify.cli.options import APP, APP_DIR
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify

__all__ = ("load_app", "load_app_or_advise", "load_app_quietly")

_DATABASE_HINT = "The jobs can be seen without the app's code: --database PATH."


def load_app(path: str | None) -> Jobify:
    """The app at ``path`` (``module:name``; the name is ``app`` if none is given), or at the one that the environment
    names; or what the factory there returns. The current folder can be imported from, or the one that the environment
    names.

    CommandError (usage) says what is not there; CommandError (failed) says what importing the module raised.
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
    """:func:`load_app`, for a command whose standard output is its answer: what the module prints, too, goes to
    standard error."""
    with redirect_stdout(sys.stderr):
        return load_app(path)


def load_app_or_advise(path: str | None) -> Jobify:
    """:func:`load_app_quietly`, for a command that has the option ``--database``: an error names it."""
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
    """The user's line that led to the error: the last one that is not of this package, of Python or of an installed
    package, if there is such a line; of a module that cannot be compiled, its line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = list(reversed(traceback.extract_tb(error.__traceback__)))
    ours, installed = (str(Path(__file__).parents[1]), "<frozen "), tuple(sysconfig.get_paths().values())
    others = [frame for frame in frames if not frame.filename.startswith(ours)] or frames[:1]
    where = next((frame for frame in others if not frame.filename.startswith(installed)), others[0])
    line = "" if not where.line or where.line.startswith("raise ") else f": {where.line}"  # that repeats the error
    return f"{_short(where.filename)}:{where.lineno}{line}"


def _short(path: str) -> str:
    """The path, relative if it is in the current folder."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)


def _message_of(error: Exception) -> object:
    return error.msg if isinstance(error, SyntaxError) else error  # whose text repeats the place


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
    """Whether this is to be called. A task is callable, too, and must not be: that would do its work."""
    is_app_class = inspect.isclass(found) and issubclass(found, kind)
    return inspect.isroutine(found) or isinstance(found, functools.partial) or is_app_class


def _call_factory(path: str, factory: Callable[[], Any]) -> Any:
    """What the factory returns."""
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
    except ValueError:  # some of what is written in C does not tell
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
    likely = difflib.get_close_matches(name, apps, n=1, cutoff=0.4) or apps[:1]
    return f" Did you mean {module.__name__}:{likely[0]}?" if likely else " It holds no Jobify at all."
