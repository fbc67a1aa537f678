"""Where the trail lies: tables in SQLite or PostgreSQL that are only ever added to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from primum.errors import InputError, MachineError, clean_text

# A position holds the shard in its upper bits, so that one integer keeps each shard together and in order.
SHARD_BITS: Final = 40
_PATIENCE: Final = 120
_LOCK: Final = 0x5052494D << 20
TABLES: Final = MetaData()
# On SQLite an INTEGER PRIMARY KEY is the row's own key, a BIGINT one an index beside it.
_WHOLE: Final = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
RECORDS: Final = Table(
    "trail_record",
    TABLES,
    Column("position", _WHOLE, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary(32), nullable=False),
    # Null once its time of retention is over; the leaf stays, so that every proof still holds.
    Column("body", LargeBinary),
    # What follows is in the body too; it is here to be searched, and `verify --deep` compares the two.
    Column("kind", String(40), nullable=False),
    Column("refers_to", _WHOLE),
    Column("at", String(27), nullable=False),
    Column("by", String(256)),
    Column("patient", String(32)),
    Column("model", String(256)),
)
BLOCKS: Final = Table(
    "trail_block",
    TABLES,
    Column("position", _WHOLE, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
)
HEADS: Final = Table(
    "trail_head",
    TABLES,
    Column("position", _WHOLE, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
FACTS: Final = Table(
    "trail_fact",
    TABLES,
    Column("name", String(40), primary_key=True),
    Column("value", String(256), nullable=False),
)
for _name in ("patient", "model", "by", "at"):
    _given = RECORDS.c[_name].is_not(None)
    Index(
        f"trail_record_{_name}",
        RECORDS.c[_name],
        RECORDS.c.position,
        sqlite_where=_given,
        postgresql_where=_given,
    )

# Against accidents; who owns the file can still write what they like, which is what the hashes are for.
_GUARDS: Final = (
    """CREATE TRIGGER IF NOT EXISTS {table}_kept BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, 'the trail is only added to'); END""",
    """CREATE TRIGGER IF NOT EXISTS {table}_fixed BEFORE UPDATE ON {table} WHEN {unless}
    BEGIN SELECT RAISE(ABORT, 'the trail is only added to'); END""",
    # INSERT OR REPLACE deletes without asking the first of these.
    """CREATE TRIGGER IF NOT EXISTS {table}_added BEFORE INSERT ON {table}
    WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
    BEGIN SELECT RAISE(ABORT, 'the trail is only added to'); END""",
)
_EXPIRY: Final = "NOT (NEW.body IS NULL AND NEW.leaf = OLD.leaf AND NEW.position = OLD.position)"


def position_of(shard: int, number: int) -> int:
    """Give the key of a row.

    Examples
    --------
    >>> position_of(1, 5) == (1 << 40) + 5
    True
    """
    return (shard << SHARD_BITS) + number


def number_of(position: int) -> int:
    """Give the number within its shard."""
    return position & (1 << SHARD_BITS) - 1


class Store:
    """The tables of one trail.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``, ``postgresql+psycopg://…``, or the path of an SQLite file.
    pooled : bool
        Keep connections open between transactions, as a writer should; then :meth:`close` it.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    def __init__(self, url: str, *, pooled: bool = False) -> None:
        self.engine = _engine(url, pooled=pooled)
        self.kind = self.engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See one state of the tables.

        Raises
        ------
        InputError
            There is no such file.
        """
        # SQLite would make it.
        if self.kind == "sqlite" and not Path(self.engine.url.database or "").exists():
            raise _no_trail()
        with self._refusals(), self.engine.connect() as connection:
            if self.kind == "postgresql":
                # Else each statement sees what was committed before it, and blocks do not fit the records.
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, shard: int = 0) -> Iterator[Connection]:
        """Be the only one who adds to a shard, after whoever is; durable when it ends without an error."""
        with self._refusals(), self.engine.connect() as connection:
            connection = connection.execution_options(primum_writes=True)
            if self.kind == "postgresql":
                # Whatever the server's own default: who waited for the lock must see what was written before.
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                if self.kind == "postgresql":
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK + shard,))
                yield connection

    def create(self, facts: dict[str, str], *, writer: str | None = None) -> None:
        """Make the tables; on PostgreSQL let the role `writer` read and add, and nothing else.

        Raises
        ------
        InputError
            There is a trail already.
        """
        with self.writing() as connection:
            if inspect(connection).has_table(RECORDS.name):
                raise InputError("There is a trail at this address already: give another.")
            TABLES.create_all(connection)
            connection.execute(FACTS.insert(), [{"name": k, "value": v} for k, v in facts.items()])
            if self.kind == "sqlite":
                for table, made in TABLES.tables.items():
                    unless = _EXPIRY if table == RECORDS.name else "1"
                    key = made.primary_key.columns.keys()[0]
                    for guard in _GUARDS:
                        connection.exec_driver_sql(guard.format(table=table, unless=unless, key=key))
            elif writer is not None:
                quoted = self.engine.dialect.identifier_preparer.quote(writer)
                names = ", ".join(TABLES.tables)
                connection.exec_driver_sql(f"REVOKE ALL ON {names} FROM PUBLIC, {quoted}")
                connection.exec_driver_sql(f"GRANT SELECT, INSERT ON {names} TO {quoted}")

    def facts(self) -> dict[str, str]:
        """Read what is known of the trail.

        Raises
        ------
        InputError
            There is none.
        """
        with self.reading() as connection:
            if not inspect(connection).has_table(FACTS.name):
                raise _no_trail()
            return {name: value for name, value in connection.execute(select(FACTS))}

    def may_rewrite(self) -> bool:
        """Say whether this account may change or delete records: on PostgreSQL a writer should not."""
        if self.kind == "sqlite":
            return True
        asked = "SELECT has_table_privilege('trail_record', 'UPDATE, DELETE, TRUNCATE')"
        with self.reading() as connection:
            return bool(connection.exec_driver_sql(asked).scalar())

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # The first line only, and never the statement: its parameters are records.
            reason = str(error.orig).splitlines()[0] if str(error.orig) else type(error.orig).__name__
            raise MachineError(
                "The database of the trail refused ({reason}): nothing was half-written; set it right and "
                "repeat.",
                reason=clean_text(reason),
            ) from error


def _no_trail() -> InputError:
    return InputError("There is no trail at this address: make one with primum trail create.")


def _engine(url: str, *, pooled: bool) -> Engine:
    pool: Any = {} if pooled else {"poolclass": NullPool}
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError
        if address.get_backend_name() == "sqlite":
            if not address.database or not Path(address.database).absolute().parent.is_dir():
                raise InputError(
                    "The folder of {file} is not there: make it, or give another file for the trail.",
                    file=clean_text(address.database or "sqlite://"),
                )
            engine = create_engine(address, **pool)
            _prepare_sqlite(engine)
            return engine
        return create_engine(address, connect_args={"connect_timeout": 10}, **pool)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            "A trail lies in an SQLite file or in PostgreSQL: give a path, or "
            "postgresql://user@host/database (pip install 'primum[postgres]')."
        ) from error


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        # Transactions begin where we say, not where the driver guesses.
        connection.isolation_level = None
        for pragma in (f"busy_timeout = {_PATIENCE * 1000}", "journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("primum_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
