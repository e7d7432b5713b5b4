"""Definitions of limits in a SQL database, settings that go before them, and what lists show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobify.model.limit_gates import LimitDefinition, LimitGate, LimitRecord, LimitWait
from jobify.storage.sql.limit_gates import Gates
from jobify.storage.sql.limit_lines import Lines, by_task
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("LimitDefinitions",)


class LimitDefinitions:
    """See :class:`jobify.storage.limiting.LimitPort`."""

    def __init__(self, statements: Statements, gates: Gates, lines: Lines) -> None:
        self._statements = statements
        self._gates = gates
        self._lines = lines

    def define(self, tasks: Mapping[str, Sequence[LimitDefinition]], now: Microseconds) -> bool:
        """See :meth:`jobify.storage.limiting.LimitPort.define_limits`; whether that was new."""
        names = sorted(tasks)
        with self._statements.atomic():
            if by_task(self._statements.rows_for("limits_of_tasks", names)) == {
                task: list(limits) for task, limits in tasks.items() if limits
            }:
                return False
            self._statements.run_for("drop_task_limits", names)
            rows = [(task, place, one.name) for task in names for place, one in enumerate(tasks[task])]
            self._statements.run_rows("add_task_limits", rows)
            self._lines.free_misplaced(names)
            limits = {one.name: one for task in names for one in tasks[task]}
            before = self._statements.rows_for("keys_of_limits", list(limits))
            self._lines.free_all([name for name, *its in before if its != [limits[name].kind, limits[name].key]])
            former = self._gates.locked_of(list(limits))
            self._statements.run_rows("define_limits", [tuple(limits[name]) for name in sorted(limits)])
            self._recompute(former, now)
        return True

    def _recompute(self, former: Sequence[LimitGate], now: Microseconds) -> None:
        """The limits of these gates, which are locked, have changed since they were read."""
        before = {gate.id: gate for gate in former}
        gates = self._gates.by_id(before)
        for gate in gates:
            gate.keep_count(before[gate.id], now)
        self._gates.write(gates)

    def set(self, name: str, *, key: str | None, maximum: int | None, now: Microseconds) -> None:
        """See :meth:`jobify.storage.limiting.LimitPort.set_limit`."""
        with self._statements.atomic():
            former = self._gates.locked_of([name])
            if maximum is None:
                self._statements.run("reset_limit", name, key or "")
            else:
                self._statements.run("set_limit", name, key or "", maximum)
                self._statements.run_rows("add_gates", [] if key is None else [(name, key)])  # so that it is listed
            self._recompute(former, now)

    # -- reading -------------------------------------------------------------------------------------------------------

    def of_tasks(self, tasks: Sequence[str]) -> dict[str, list[LimitDefinition]]:
        """See :meth:`jobify.storage.limiting.LimitPort.task_limits`."""
        return by_task(self._statements.read_for("limits_of_tasks", tasks))

    def all(self) -> list[LimitRecord]:
        """See :meth:`jobify.storage.limiting.LimitPort.limits`."""
        return sorted(map(_record_of, self._statements.read("list_limits")), key=lambda record: record.name)

    def keys(self, name: str, *, limit: int) -> list[LimitRecord]:
        """See :meth:`jobify.storage.limiting.LimitPort.limit_keys`."""
        return [_record_of(columns) for columns in self._statements.read("list_limit_keys", name, limit)]

    def waits(self, ids: Sequence[str]) -> dict[str, LimitWait]:
        """See :meth:`jobify.storage.limiting.LimitPort.limit_waits`."""
        return {id: LimitWait._make(columns) for id, *columns in self._statements.read_for("limit_waits", ids)}


def _record_of(columns: Sequence[Any]) -> LimitRecord:
    record = LimitRecord._make(columns)
    return record._replace(is_set=bool(record.is_set), active=int(record.active), waiting=int(record.waiting))
