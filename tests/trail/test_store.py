"""Where a trail lies: what is no trail, what would lose records, and that records are only ever added."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from tests.trail.test_log import sql
from tests.trail.world import KEY, entry

from primum.errors import InputError, MachineError
from primum.trail.log import Trail
from primum.trail.store import Store
from primum.trail.verification import verify

TABLES = ("trail_record", "trail_block", "trail_head", "trail_fact")
# FULL is 2.
SYNCHRONISED = {"synchronous": 2, "journal_mode": "wal"}
# A name that must be quoted.
ROLE = 'The "Gateway"'


def test_where_no_trail_is_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trail at this address"):
        Trail(str(tmp_path / "t.db"))
    with pytest.raises(InputError, match=r"folder of .*away/t.db is not there"):
        Trail(str(tmp_path / "away" / "t.db"))
    assert not list(tmp_path.iterdir())


def test_a_database_without_a_trail(tmp_path: Path, postgres: str) -> None:
    sql(str(tmp_path / "t.db"), "CREATE TABLE other (one)")
    for url in (str(tmp_path / "t.db"), postgres):
        with pytest.raises(InputError, match="no trail at this address"):
            Trail(url)


def test_a_second_trail_at_one_address(tmp_path: Path) -> None:
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    with pytest.raises(InputError, match="a trail at this address already"):
        Trail.create(url, key=KEY)
    assert verify(Store(url)).size == 1


@pytest.mark.parametrize("url", ["mysql://host/trail", "nonsense://x", "sqlite+nothing:///t.db"])
def test_other_databases(url: str) -> None:
    with pytest.raises(InputError, match="SQLite file or in PostgreSQL"):
        Trail(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_text("Jeanne Martin, 1954\n" * 400, encoding="utf-8")
    with pytest.raises(MachineError, match="file is not a database"):
        Trail(str(path))


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="database of the trail refused"):
        Trail(f"postgresql://nobody:secret@/trail?host={tmp_path}")


def test_shards_have_small_numbers(tmp_path: Path) -> None:
    for shard in (-1, 1 << 20):
        with pytest.raises(InputError, match="Shards are numbered"):
            Trail(str(tmp_path / "t.db"), shard=shard)


@pytest.fixture
def restored(postgres: str) -> Iterator[str]:
    """A trail on the server, whose settings are its own again afterwards."""
    Trail.create(postgres, key=KEY)
    yield postgres
    sql(postgres, "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_loses_what_it_acknowledged(restored: str, setting: str) -> None:
    sql(restored, f"ALTER SYSTEM SET {setting} = off", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
    with pytest.raises(InputError, match=f"PostgreSQL runs with {setting} off"):
        Trail(restored)
    sql(restored, f"ALTER SYSTEM SET {setting} = on", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
    with Trail(restored) as trail:
        assert trail.append(entry(2)).number == 1


def test_sqlite_synchronises_at_each_commit(tmp_path: Path) -> None:
    """That it then does is counted by `python -m studies.trail_bench`."""
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    store = Store(url)
    with store.reading() as one, store.reading() as two:
        for connection in (one, two):
            asked = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SYNCHRONISED]
            assert asked == list(SYNCHRONISED.values())
    store.close()


@pytest.mark.parametrize("table", TABLES)
def test_sqlite_only_lets_rows_be_added(tmp_path: Path, table: str) -> None:
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY) as trail:
        for waiting in [trail.submit(entry(2)) for _ in range(300)]:
            waiting.result()
    column = {"trail_record": "leaf", "trail_fact": "value", "trail_block": "root"}.get(table, "body")
    for statement in (
        f"UPDATE {table} SET {column} = x'00'",
        f"UPDATE OR REPLACE {table} SET {column} = x'00'",
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
    ):
        with pytest.raises(DBAPIError, match="only added to"):
            sql(url, statement)
    assert Store(url).may_rewrite()
    assert verify(Store(url), deep=True).holds


def test_sqlite_lets_the_bytes_of_a_record_expire_and_nothing_else(tmp_path: Path) -> None:
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    for wrong in ("body = NULL, leaf = x'00'", "body = NULL, position = 9", "body = x'00'"):
        with pytest.raises(DBAPIError, match="only added to"):
            sql(url, f"UPDATE trail_record SET {wrong}")
    sql(url, "UPDATE trail_record SET body = NULL")


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """A trail on the server, as seen by the role that may only read and add."""
    quoted = '"' + ROLE.replace('"', '""') + '"'
    sql(postgres, f"CREATE ROLE {quoted} LOGIN")
    Trail.create(postgres, key=KEY, writer=ROLE)
    yield make_url(postgres).set(username=ROLE).render_as_string(hide_password=False)
    sql(postgres, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


def test_the_writer_of_a_server_may_read_and_add_and_nothing_else(role: str, postgres: str) -> None:
    with Trail(role, key=KEY) as trail:
        for waiting in [trail.submit(entry(2)) for _ in range(300)]:
            waiting.result()
    for table in TABLES:
        for statement in (
            f"UPDATE {table} SET {'value' if table == 'trail_fact' else 'position'} = DEFAULT",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} ADD COLUMN more int",
        ):
            with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
                sql(role, statement)
        # Only warns; what counts is what comes of it.
        sql(role, f"GRANT ALL ON {table} TO CURRENT_USER")
    writer, owner = Store(role), Store(postgres)
    assert (writer.may_rewrite(), owner.may_rewrite()) == (False, True)
    assert verify(writer, deep=True).size == 301
    writer.close()
    owner.close()
