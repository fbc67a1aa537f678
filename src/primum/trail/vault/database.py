"""The databases of the vault: SQLite or PostgreSQL, one writer at a time where it matters, traces wiped."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from primum.errors import InputError, MachineError, clean_text

VERSION: Final = 1
_PATIENCE: Final = 30
_LOCK: Final = 0x5052494D56


class Database:
    """One database, told by its address; threads may share it, processes that fork from this one may not.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``, the path of an SQLite file, or ``postgresql://user@host/database``.

    Attributes
    ----------
    place : str
        What errors call it; never with a password.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        address = self._engine.url
        self.place = clean_text(
            address.database if self.is_sqlite else address.render_as_string(hide_password=True)
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See one state of all tables, whatever others write meanwhile."""
        with self._refusals(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[Connection]:
        """Write all or nothing; durable when it ends without an error.

        With `alone` nobody else writes meanwhile; on SQLite that is always so.
        """
        with self._refusals(), self._engine.connect() as connection:
            connection = connection.execution_options(primum_writes=True)
            with connection.begin():
                if alone and not self.is_sqlite:
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                yield connection

    def create_file(self) -> None:
        """Make the file of an SQLite database, which only its owner may read, if it is not there."""
        if self.is_sqlite:
            try:
                os.close(os.open(self._engine.url.database or "", os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise MachineError(
                    "{file} cannot be written ({reason}): give another place, or the right to write there.",
                    file=self.place,
                    reason=error.strerror or type(error).__name__,
                ) from error

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Let go of every connection when it is not opened after all."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def has(self, table: Table) -> bool:
        """Say whether a table is there; a missing SQLite file is not made."""
        if self.is_sqlite and not Path(self._engine.url.database or "").is_file():
            return False
        with self.reading() as connection:
            return inspect(connection).has_table(table.name)

    def wipe(self, *tables: Table, rebuild: bool) -> None:
        """Leave no trace of deleted rows in the files of the database.

        SQLite has overwritten them with zeros (``secure_delete``); its log is emptied and, with `rebuild`,
        the file written anew. On PostgreSQL `rebuild` writes the tables anew (``VACUUM FULL``); else
        their dead rows are freed.

        Raises
        ------
        MachineError
            Someone has been reading for too long, or the account does not own the tables.
        """
        with self._refusals(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                self._vacuum(connection, [one.name for one in tables], full=rebuild)
                return
            # Neither is allowed within a transaction.
            connection = connection.execution_options(primum_bare=True)
            if rebuild:
                self._empty_log(connection)
                connection.exec_driver_sql("VACUUM")
            self._empty_log(connection)

    def create(self, tables: MetaData, connection: Connection) -> None:
        """Make the tables, of which PostgreSQL keeps no samples: these would outlive a deleted row."""
        tables.create_all(connection)
        for table in () if self.is_sqlite else tables.sorted_tables:
            for column in table.columns:
                connection.exec_driver_sql(
                    f"ALTER TABLE {table.name} ALTER COLUMN {column.name} SET STATISTICS 0"
                )

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def _empty_log(self, connection: Connection) -> None:
        self._until(lambda: connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0] == 0)

    def _vacuum(self, connection: Connection, names: list[str], *, full: bool) -> None:
        connection.exec_driver_sql(f"SET lock_timeout = '{_PATIENCE}s'")
        # Rows that an older snapshot may still see are kept even by VACUUM FULL.
        now = connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one()
        older = (
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            f"AND datname = current_database() AND age(backend_xmin) >= age('{now}'::xid8::xid)"
        )
        self._until(lambda: connection.exec_driver_sql(older).scalar_one() == 0)
        places = f"SELECT pg_relation_filepath(name) FROM unnest(ARRAY{names}) AS name"
        before = set(connection.exec_driver_sql(places).scalars())
        connection.exec_driver_sql(f"VACUUM {'(FULL) ' if full else ''}{', '.join(names)}")
        # Who does not own a table is warned, and nothing is done.
        if full and before & set(connection.exec_driver_sql(places).scalars()):
            raise MachineError(
                "PostgreSQL did not write the tables of {place} anew: repeat as the account that owns them.",
                place=self.place,
            )

    def _until(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > until:
                raise MachineError(
                    "Another program has been reading {place} for too long, so that what was deleted is "
                    "still in its files: end that program and repeat.",
                    place=self.place,
                )
            time.sleep(0.02)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # The first line only: what follows may quote a row.
            lines = str(error.orig).splitlines() or [type(error.orig).__name__]
            raise MachineError(
                "The database {place} refused ({reason}): nothing was half-written; set it right and repeat.",
                place=self.place,
                reason=clean_text(lines[0]),
            ) from error


def _engine(url: str) -> Engine:
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError
        if address.get_backend_name() == "postgresql":
            options = {"connect_timeout": 10}
            return create_engine(address, hide_parameters=True, connect_args=options)
        if not address.database or not Path(address.database).absolute().parent.is_dir():
            raise InputError(
                "The folder of {file} is not there: make it, or give another file for the vault.",
                file=clean_text(address.database or "sqlite://"),
            )
        engine = create_engine(address, hide_parameters=True)
        _prepare_sqlite(engine)
        return engine
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            "Keys and payloads lie in SQLite files or in PostgreSQL: give a path, or "
            "postgresql://user@host/database (pip install 'primum[postgres]')."
        ) from error


def _prepare_sqlite(engine: Engine) -> None:
    pragmas = (
        f"busy_timeout = {_PATIENCE * 1000}",
        "secure_delete = ON",
        "journal_mode = WAL",
        "synchronous = FULL",
        # What is written anew must not pass through a file of the temporary folder.
        "temp_store = MEMORY",
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        # Transactions begin where we say, not where the driver guesses.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("primum_bare"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("primum_writes") else "BEGIN")
