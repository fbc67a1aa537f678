"""A fresh database of a private PostgreSQL server for each test that asks for one."""

from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import create_engine, text
from tests.trail.postgres import programs, server

_NUMBERS = count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the server, with ``{}`` for the name of a database; begun once a session."""
    if programs() is None:
        pytest.skip(
            "PostgreSQL's server is not installed: initdb is neither on PATH nor in /usr/lib/postgresql"
        )
    with server() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """URL of an empty database, dropped afterwards whoever is still connected."""
    name = f"t{next(_NUMBERS)}"
    engine = create_engine(postgres_server.format("postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield postgres_server.format(name)
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()
