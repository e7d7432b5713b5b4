"""Bring the reference pages in line with the code: `python tools/reference.py` writes what stands between their marks.

A table is either written from the code as a whole, with the first sentence of each docstring; or its rows come from
the code (names of options, defaults), and the last cell, what the option means, is written on the page by hand.
`tests/docs/test_reference.py` fails if a page differs from what this program would write.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import typer

import jobify
import jobify.middleware
import jobify.serializers
from jobify import (
    Cron,
    CurrentJob,
    Job,
    Jobify,
    JobResult,
    PostgresStorage,
    QueueMiddleware,
    Retention,
    RouteOptions,
    ScheduleBuilder,
    SmartRetry,
    SQLiteStorage,
)
from jobify.cli.main import cli
from jobify.jobs.job_request import EnqueueOptions
from jobify.router import Route
from jobify.types import UNSET
from jobify.worker.exit_codes import ExitCode

FOLDER: Final = Path(__file__).parents[1] / "docs" / "reference"
_MARKED: Final = re.compile(r"<!-- (?P<name>[\w-]+):start -->\n(?P<text>.*?)<!-- (?P=name):end -->", re.DOTALL)
_ROLE: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
UNWRITTEN: Final = "**not described yet**"
"""What a new option means, until its cell is written on the page."""


TWINS: Final = {"wait": "await_end"}
"""Names for async code that are not the other name with an ``a`` in front of it."""
COMMON: Final = ("--app", "--app-dir", "--database", "--json", "--help")
"""Options of nearly every command, which the page describes once."""
INTERNAL: Final = {
    *(
        "description",
        "now",
        "require_started",
        "submit",
        "client",
        "walk",
        "keep_declared_state",
        "full_name",
        "parent",
    ),
    *("root", "chain_head", "chain_tail", "attach", "detach", "mount", "bindings", "bound_to", "builder", "name_in"),
    *("app_binding", "with_options", "bind_handle", "bind_cron_context", "unbind_cron_context", "set_result"),
    *("set_exception", "mark_not_scheduled", "end", "has_waiters", "update", "reschedule", "state_key", "due_at"),
}
"""Members that the library itself uses, and that no page shows."""


def main() -> None:
    for page in sorted(FOLDER.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text), encoding="utf-8")


def filled(text: str) -> str:
    """A page with what the code says between its marks."""
    return _MARKED.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    name, text = found["name"], found["text"]
    return f"<!-- {name}:start -->\n{PARTS[name](text)}<!-- {name}:end -->"


# -- options: rows from the code, meanings from the page ---------------------------------------------------------------


def constructor(kind: Callable[..., Any]) -> Callable[[str], str]:
    """The parameters of a class, with their defaults."""

    def write(text: str) -> str:
        said, known = meanings(text), inspect.signature(kind).parameters
        rows = [(f"`{name}`", default_of(known[name]), said.get(name, UNWRITTEN)) for name in ordered(known, said)]
        return table(("option", "default", "meaning"), rows)

    return write


def options(kind: type) -> Callable[[str], str]:
    """The keys of a TypedDict."""

    def write(text: str) -> str:
        said = meanings(text)
        rows = [(f"`{name}`", said.get(name, UNWRITTEN)) for name in ordered(kind.__annotations__, said)]
        return table(("option", "meaning"), rows)

    return write


def meanings(text: str) -> dict[str, str]:
    """What the table on the page says in its last column, by the name in the first one."""
    rows = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[-1] for row in rows}


def ordered(known: Iterable[str], said: Iterable[str]) -> list[str]:
    """The names that there are, in the order of the page; new ones at the end."""
    names = list(known)
    written = [name for name in said if name in names]
    return [*written, *(name for name in names if name not in written)]


def default_of(parameter: inspect.Parameter) -> str:
    """The default as it is written in code; a dash for None, and for an option that has to be given nothing."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "(required)"
    if value in (None, (), UNSET) or repr(value) == "<factory>":
        return "–"
    if parameter.name == "mode":
        return f"`{value:#o}`"
    if isinstance(value, enum.Enum):
        return f"`{type(value).__name__}.{value.name}`"
    if isinstance(value, tuple):
        return f"`({', '.join(each.__name__ for each in value)},)`"
    if callable(value) and hasattr(value, "__name__"):
        return f"`{value.__name__}`"
    return f"`{value!r}`"


# -- written from the code alone ---------------------------------------------------------------------------------------


def members(kind: type) -> Callable[[str], str]:
    """The public methods and attributes of a class, with the first sentence of what is said of each."""

    def write(_: str) -> str:
        names = [name for name in attributes(kind) if not name.startswith("_") and name not in INTERNAL]
        twins = {name: TWINS.get(name, f"a{name}") for name in names if TWINS.get(name, f"a{name}") in names}
        shown = [name for name in names if name not in twins.values()]
        if not twins:
            return table(("name", "what it is"), ((signature_of(kind, each), sentence(kind, each)) for each in shown))
        rows = [(signature_of(kind, each), _twin(kind, twins.get(each)), sentence(kind, each)) for each in shown]
        return table(("name", "in async code", "what it is"), rows)

    return write


def _twin(kind: type, name: str | None) -> str:
    """The same for async code; its parameters are those of the other one."""
    if name is None:
        return ""
    is_coroutine = inspect.iscoroutinefunction(inspect.getattr_static(kind, name))
    return f"`await {name}()`" if is_coroutine else f"`{name}()`"


def attributes(kind: type) -> Iterator[str]:
    """The names that a class defines, bases of this library included, in order of definition."""
    seen = set()
    for owner in kind.__mro__:
        if owner.__module__.startswith("jobify"):
            for name, value in vars(owner).items():
                is_shown = inspect.isfunction(value) or isinstance(value, property | cached_property)
                if is_shown and name not in seen and documented(kind, name):
                    seen.add(name)
                    yield name


def documented(kind: type, name: str) -> str:
    value = inspect.getattr_static(kind, name)
    if isinstance(value, cached_property):
        value = value.func
    return inspect.getdoc(getattr(value, "fget", None) or value) or ""


def signature_of(kind: type, name: str) -> str:
    """```result(timeout=30)``, ``await aresult()``, ``status``."""
    value = inspect.getattr_static(kind, name)
    if not inspect.isfunction(value):
        return f"`{name}`"
    parts = []
    for parameter in list(inspect.signature(value).parameters.values())[1:]:
        stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        default = parameter.default
        parts.append(f"{stars}{parameter.name}" + ("" if default is parameter.empty else f"={default!r}"))
    call = f"{name}({', '.join(parts)})"
    return f"`await {call}`" if inspect.iscoroutinefunction(value) else f"`{call}`"


def sentence(kind: type, name: str) -> str:
    """The first sentence of a docstring, as Markdown."""
    return first_sentence(documented(kind, name))


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    found = re.match(r"(.+?[.:])(?= [A-Z`]|$)", paragraph)
    short = (found[1] if found else paragraph).rstrip(".:")
    short = re.sub(r"`(\w+) <[^>]*>`_", r"\1", short)
    return _ROLE.sub(r"`\1`", short).replace("``", "`").replace("|", "\\|")


def commands(_: str) -> str:
    """Every command with its own options, as ``--help`` has them."""
    parts = []
    for words, command in leaves(typer.main.get_command(cli), ("jobify",)):
        rows = [row for each in command.params if each.opts[0] not in COMMON for row in [option_row(each)]]
        text = " ".join(_ROLE.sub(r"`\1`", command.help or "").replace("``", "`").split())
        parts.append(
            f"### {' '.join(words)}\n\n{text}\n\n" + (table(("option", "meaning"), rows) + "\n" if rows else "")
        )
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def option_row(option: Any) -> tuple[str, str]:
    """An option or an argument of a command."""
    metavar = option.metavar or ""
    names = ", ".join((*option.opts, *option.secondary_opts))
    shown = names + (f" {metavar}" if metavar else "") if names.startswith("-") else metavar or option.name.upper()
    return f"`{shown}`", " ".join((option.help or "").split()).replace("|", "\\|")


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*words, name))


def exit_codes(_: str) -> str:
    """The values of ExitCode, with the text below each one."""
    (kind,) = ast.parse(inspect.getsource(ExitCode)).body
    assert isinstance(kind, ast.ClassDef)
    said = {
        each.targets[0].id: following.value.value
        for each, following in zip(kind.body, kind.body[1:], strict=False)
        if isinstance(each, ast.Assign)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and isinstance(each.targets[0], ast.Name)
    }
    rows = [(f"`{code.value}`", " ".join(str(said[code.name]).replace("``", "`").split())) for code in ExitCode]
    rows.append(
        ("128 + signal", "A worker that a second signal has stopped at once: 130 after Ctrl-C, 143 after SIGTERM.")
    )
    return table(("exit code", "meaning"), rows)


def imports(_: str) -> str:
    """Every public name, by the address from which it is imported."""
    names = "storage serializers typeadapter router middleware exceptions crontab testing.clock testing.pretending"
    addresses = ("jobify", *(f"jobify.{name}" for name in names.split()))
    rows = []
    seen: set[str] = set()
    for address in addresses:
        own = [name for name in importlib.import_module(address).__all__ if name not in seen and name[0] != "_"]
        seen |= set(own)
        rows.append((f"`{address}`", ", ".join(f"`{name}`" for name in sorted(own, key=str.lower))))
    return table(("from", "import"), [row for row in rows if row[1]])


def serializers(_: str) -> str:
    """The serializers that come with the library."""
    kinds = [getattr(jobify.serializers, name) for name in jobify.serializers.__all__]
    shown = [
        kind for kind in kinds if inspect.isclass(kind) and hasattr(kind, "dumpb") and kind.__name__ != "Serializer"
    ]
    return table(
        ("serializer", "what it is"), ((f"`{each.__name__}`", first_sentence(each.__doc__ or "")) for each in shown)
    )


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(heading), "|".join("---" for _ in heading), *(" | ".join(row) for row in rows)]
    return "".join(f"|{line}|\n" if number == 1 else f"| {line} |\n" for number, line in enumerate(lines))


PARTS: Final[dict[str, Callable[[str], str]]] = {
    "app-options": constructor(Jobify),
    "task-options": options(RouteOptions),
    "job-options": options(EnqueueOptions),
    "cron-options": constructor(Cron),
    "retry-options": constructor(SmartRetry),
    "retention-options": constructor(Retention),
    "sqlite-options": constructor(SQLiteStorage),
    "postgres-options": constructor(PostgresStorage),
    "queue-options": constructor(QueueMiddleware),
    "app": members(Jobify),
    "task": members(Route),
    "schedule": members(ScheduleBuilder),
    "current-job": members(CurrentJob),
    "job": members(Job),
    "job-result": members(JobResult),
    "serializers": serializers,
    "commands": commands,
    "exit-codes": exit_codes,
    "imports": imports,
}
"""What can stand between two marks, and who writes it."""


if __name__ == "__main__":
    main()
