"""A fresh database of a private PostgreSQL server for each test that asks for one."""

import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.trail.postgres import programs, server

ROOT = Path(__file__).parents[2]
_NUMBERS = count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the server, ``{}`` for the name of a database; installed if need be, begun once a session."""
    if programs() is None:
        done = subprocess.run([ROOT / ".ci" / "debian", "postgresql"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"there is no PostgreSQL server: {done.stderr.strip()}")
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
