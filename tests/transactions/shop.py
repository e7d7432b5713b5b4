"""An app whose jobs are in the file of a shop."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from jobify import Jobify
from jobify.storage import SQLiteStorage


def make_file(path: Path) -> Path:
    """A database with a table of orders."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    return path


class Shop:
    """The app, its tasks, and what others see of the file."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = make_file(path)
        self.app = app = Jobify(storage=SQLiteStorage(path, **options))

        @app.task(name="ship")
        def ship(order: int, how: str = "slow") -> str:
            return f"{order} {how}"

        @app.task(name="thank")
        def thank(shipped: str) -> str:
            return f"thanks for {shipped}"

        self.ship, self.thank = ship, thank

    def ask(self, question: str) -> list[Any]:
        """What another connection sees."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(question).fetchall()

    def tasks(self) -> list[str]:
        """The tasks of the jobs that others see."""
        return [task for (task,) in self.ask("SELECT task FROM jobify_jobs ORDER BY seq")]

    @property
    def orders(self) -> int:
        """How many orders others see."""
        return int(self.ask("SELECT count(*) FROM orders")[0][0])
