"""Databases of shops."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from shop import Shop, make_orders

from postgres_server import TestDatabases

_EMPTY = """
SET lock_timeout = '10s';
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'jobify' AND tablename NOT IN ('clock', 'migrations')
    LOOP EXECUTE format('DELETE FROM jobify.%I', name); END LOOP;
    DELETE FROM public.orders;
END $$
"""


@pytest.fixture(scope="session")
def _postgres_shop(postgres_databases: TestDatabases) -> Iterator[Shop]:
    url = make_orders(postgres_databases.create())
    shop = Shop(url)
    shop.app.stats()  # the tables are there
    yield shop
    shop.app.close()
    postgres_databases.drop(url)


@pytest.fixture
def postgres_shop(_postgres_shop: Shop) -> Shop:
    """A shop without orders and jobs in a database of PostgreSQL. A new one would take longer than a test."""
    with psycopg.connect(str(_postgres_shop.place), autocommit=True) as connection:
        connection.execute(_EMPTY)
    return _postgres_shop


@pytest.fixture
def shop_url(postgres_shop: Shop) -> str:
    """The URL of that database."""
    return str(postgres_shop.place)
