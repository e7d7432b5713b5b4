"""An app whose jobs are in the database of a shop."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from jobify import Jobify
from jobify.storage import PostgresStorage, SQLiteStorage


def make_file(path: Path) -> Path:
    """A database with a table of orders."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    return path


def make_orders(url: str) -> str:
    """The same, in a database of PostgreSQL."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text)")
    return url


class Shop:
    """The app, its tasks, and what others see of the database: a file of SQLite, or a URL of ``shop_url``."""

    def __init__(self, place: Path | str, **options: Any) -> None:
        self.place = place
        if isinstance(place, Path):
            self.path = make_file(place)
            self.app = app = Jobify(storage=SQLiteStorage(place, **options))
        else:
            self.app = app = Jobify(storage=PostgresStorage(place, **options))

        @app.task(name="ship")
        def ship(order: int, how: str = "slow") -> str:
            return f"{order} {how}"

        @app.task(name="thank")
        def thank(shipped: str) -> str:
            return f"thanks for {shipped}"

        self.ship, self.thank = ship, thank

    def ask(self, question: str) -> list[Any]:
        """What another connection sees, or does. Written for SQLite."""
        if isinstance(self.place, Path):
            with closing(sqlite3.connect(self.place)) as connection, connection:
                return connection.execute(question).fetchall()
        question = re.sub(r"CAST\((\w+) AS TEXT\)", r"convert_from(\1, 'UTF8')", question.replace("jobify_", "jobify."))
        with psycopg.connect(self.place) as connection_:
            cursor = connection_.execute(question.encode())
            return [] if cursor.description is None else cursor.fetchall()

    def tasks(self) -> list[str]:
        """The tasks of the jobs that others see."""
        return [task for (task,) in self.ask("SELECT task FROM jobify_jobs ORDER BY seq")]

    @property
    def orders(self) -> int:
        """How many orders others see."""
        return int(self.ask("SELECT count(*) FROM orders")[0][0])
