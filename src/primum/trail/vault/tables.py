"""What the key store and the vault hold, column by column; nothing of a person in clear."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

KEY_TABLES: Final = MetaData()
# One row: which store this is, so that a vault is not opened with the keys of another.
KEY_STORE: Final = Table(
    "vault_key_store",
    KEY_TABLES,
    Column("store", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
)
EPOCHS: Final = Table(
    "vault_epoch",
    KEY_TABLES,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    # current, old (its keys are being wrapped anew) or retired (none is left, and traces are being wiped).
    Column("phase", String(8), nullable=False),
    Column("source", String(8), nullable=False),
    Column("name", String(256), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("checked", String(64), nullable=False),
    Column("lookup", LargeBinary, nullable=False),
)
PATIENTS: Final = Table(
    "vault_patient",
    KEY_TABLES,
    Column("patient", String(32), primary_key=True),
    Column("epoch", Integer, nullable=False),
    # HMAC of the identifier under the lookup key of the epoch.
    Column("lookup", String(64), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    # The identifier under the patient's own key: without it lookups could not turn with the epoch.
    Column("identity", LargeBinary, nullable=False),
    UniqueConstraint("epoch", "lookup"),
)
# Keys that are gone while the rest of the erasure is still to be done.
ERASURES: Final = Table(
    "vault_erasure",
    KEY_TABLES,
    Column("patient", String(32), primary_key=True),
    Column("epoch", Integer, nullable=False),
)

PAYLOAD_TABLES: Final = MetaData()
VAULT: Final = Table(
    "vault_of",
    PAYLOAD_TABLES,
    Column("store", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
)
# Whom to wait for, and whom to refuse: a forgotten patient's number takes no payload ever again.
OWNERS: Final = Table(
    "vault_owner",
    PAYLOAD_TABLES,
    Column("patient", String(32), primary_key=True),
    Column("forgotten", Boolean, nullable=False),
)
PAYLOADS: Final = Table(
    "vault_payload",
    PAYLOAD_TABLES,
    Column("payload", String(32), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("patient", String(32), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("box", LargeBinary, nullable=False),
)
SIGNALS: Final = Table(
    "vault_signal",
    PAYLOAD_TABLES,
    Column("signal", String(32), primary_key=True),
    Column("patient", String(32)),
    # Seconds since 1970, UTC.
    Column("expires", BigInteger, nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),
)
Index("vault_signal_patient", SIGNALS.c.patient)
