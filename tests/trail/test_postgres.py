"""The server of the tests is real: it keeps what it is given, durably, and starts empty for each test."""

import pytest
from sqlalchemy import create_engine, text


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_durable_database(postgres: str, turn: int) -> None:
    engine = create_engine(postgres)
    with engine.begin() as connection:
        assert connection.execute(text("SHOW fsync")).scalar() == "on"
        assert connection.execute(text("SELECT to_regclass('kept')")).scalar() is None
        connection.execute(text("CREATE TABLE kept (turn int)"))
    engine.dispose()
