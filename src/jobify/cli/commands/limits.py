"""``jobify limits …``: list, set, reset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobify.cli.options import Json, Source, for_jobs, new_group

if TYPE_CHECKING:
    from jobify.client.views import LimitView

__all__ = ("key_text", "limits", "maximum_text")

limits = new_group("List limits, set them for all workers, and reset them.", lists_by_default=True)

Name = Annotated[
    str,
    typer.Argument(metavar="LIMIT", help="Its name, or a task with one limit without a name.", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Only this key: a text, or JSON (a number, null).", show_default=False),
]
_NO_KEY: Final[dict[str, Any]] = {}


@limits.command("list")
@for_jobs
def list_limits(source: Source, as_json: Json = False) -> None:
    """List all limits, and below each the keys that jobs wait for, that have reached it, or that are set."""
    from jobify.cli.output import Column, print_document, print_table
    from jobify.cli.session import open_session

    with open_session(source, may_be_missing=True) as session:
        found = session.app.limits()
    if as_json:
        print_document({"limits": [limit_document(limit) for limit in found]})
        return
    columns = (
        Column("LIMIT", is_rest=True),
        Column("KIND", from_width=80),
        Column("MAXIMUM"),
        Column("ACTIVE", is_number=True),
        Column("WAITING", is_number=True),
    )
    rows = [row for limit in found for row in _rows(limit)]
    print_table(columns, rows, nothing="No limits. They are known once a worker has started whose tasks have some.")


def _rows(limit: LimitView) -> list[tuple[object, ...]]:
    return [
        (limit.name, limit.kind, maximum_text(limit), limit.active, limit.waiting),
        *((f"  {key_text(key.key)}", "", maximum_text(key), key.active, key.waiting) for key in limit.keys),
    ]


def maximum_text(limit: LimitView) -> str:
    """``10``, ``100 / 60 s``, ``5 (set)``."""
    text = f"{limit.limit} / {limit.per:g} s" if limit.per else f"{limit.limit}"
    burst = f" + {limit.burst}" if limit.burst else ""
    return f"{text}{burst}{' (set)' if limit.is_set else ''}"


def key_text(key: Any) -> str:
    """A key as it is given to ``--key``."""
    return key if isinstance(key, str) and _parsed(key) == key else json.dumps(key, ensure_ascii=False)


def limit_document(limit: LimitView) -> dict[str, Any]:
    """A limit as JSON."""
    facts = {
        "kind": limit.kind,
        "limit": limit.limit,
        "per": limit.per or None,
        "burst": limit.burst,
        "is_set": limit.is_set,
        "active": limit.active,
        "waiting": limit.waiting,
    }
    return {"name": limit.name, **facts, "keys": [{"key": key.key, **_key_facts(key)} for key in limit.keys]}


def _key_facts(key: LimitView) -> dict[str, Any]:
    return {"limit": key.limit, "is_set": key.is_set, "active": key.active, "waiting": key.waiting}


@limits.command("set")
@for_jobs
def set_limit(
    source: Source,
    name: Name,
    limit: Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="0 lets nothing start.", show_default=False)],
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Let a limit be another one than in the code, for all workers at once, until reset. It survives deploys.

    Example: jobify limits set openai 5
    """
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(source) as session, result_printer("limits", as_json, key="name") as print_result:
        session.app.set_limit(name, limit, **_key_argument(key))
        print_result(name, f"set to {limit}")


@limits.command("reset")
@for_jobs
def reset_limit(source: Source, name: Name, key: Key = None, as_json: Json = False) -> None:
    """Undo set: what the code says counts again.

    Example: jobify limits reset openai
    """
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(source) as session, result_printer("limits", as_json, key="name") as print_result:
        session.app.reset_limit(name, **_key_argument(key))
        print_result(name, "reset")


def _key_argument(key: str | None) -> dict[str, Any]:
    return _NO_KEY if key is None else {"key": _parsed(key)}


def _parsed(key: str) -> Any:
    try:
        return json.loads(key)
    except ValueError:
        return key
