"""``primum trail``: make, verify, ask and export the log of everything that matters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from primum.cli import options
from primum.cli.account import account
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from primum.trail.queries import Query

trail_app = typer.Typer(
    help=message("The log of every prediction, review and release, which cannot be altered unseen."),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Address = Annotated[str, typer.Argument()]
Key = Annotated[Path, typer.Option("--key", help=message("Ed25519 private key of the trail, PEM."))]
Shard = Annotated[
    int | None, typer.Option("--shard", min=0, help=message("Only this chain of the trail; else all."))
]
WitnessPlaces = Annotated[
    list[str] | None,
    typer.Option(
        "--witness",
        help=message("File of heads, https://host:port#KEY, or syslog://host:port; repeatable."),
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option("--authority", help=message("Certificates that sign the other side's, PEM.")),
]
Patient = Annotated[str | None, typer.Option("--patient", help=message("Random number of a patient."))]
Model = Annotated[str | None, typer.Option("--model", help=message("Digest of a model."))]
By = Annotated[str | None, typer.Option("--by", help=message("Account that did it."))]
Since = Annotated[str | None, typer.Option("--since", help=message("From this UTC date or time on."))]
Until = Annotated[str | None, typer.Option("--until", help=message("Before this UTC date or time."))]
_VERIFIED = message("Records read")
Kinds = Annotated[str | None, typer.Option("--kinds", help=message("Kinds of records, separated by commas."))]


@trail_app.command(
    "create",
    help=message(
        "Make a trail in an SQLite file or a PostgreSQL database.\n\n"
        "Example: primum trail create trail.db --key trail.pem"
    ),
)
def create(
    trail: Address,
    key: Key,
    writer: Annotated[
        str | None,
        typer.Option("--writer", help=message("PostgreSQL role that may read and add, and nothing else.")),
    ] = None,
    lang: options.Lang = None,
) -> int:
    """Make the tables and the first record."""
    from primum.evidence.signature import read_private_key
    from primum.trail.heads import public_hex
    from primum.trail.log import Trail

    private = read_private_key(key)
    Trail.create(trail, key=private, writer=writer)
    language = Language(lang or preferred_language())
    print(language.text("The trail is there; its heads are signed by {key}.", key=public_hex(private)))
    return 0


@trail_app.command(
    "verify",
    help=message(
        "Say whether any record was altered, removed or reordered, and what that cannot show.\n\n"
        "Exit status: 0 nothing was altered, 1 altered, 2 unreadable, 4 the database.\n\n"
        "Example: primum trail verify trail.db --public-key trail.pub --witness /mnt/other/heads"
    ),
)
def verify_command(
    trail: Address,
    public_key: options.PublicKey = None,
    witness: WitnessPlaces = None,
    authority: Authority = None,
    deep: Annotated[
        bool, typer.Option("--deep", help=message("Also compare each record with what searches see."))
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--from-witness", help=message("Read only what came after the last witnessed head.")),
    ] = False,
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Verify every shard, or one."""
    from primum.cli.progress import Stages
    from primum.cli.trail_words import all_said
    from primum.evidence.signature import read_public_key
    from primum.trail.heads import public_hex
    from primum.trail.store import Store
    from primum.trail.verification import verify_all
    from primum.trail.witness_places import gathered

    key = public_hex(read_public_key(public_key)) if public_key else None
    store, language = Store(trail), Language(lang or preferred_language())
    heads = gathered(witness or (), store.facts()["trail"], shard=shard, authority=authority)
    stages = Stages(language)

    def read(more: int) -> None:
        stages(_VERIFIED, more)

    seen = verify_all(store, key=key, witnessed=heads, only=shard, resume=resume, deep=deep, progress=read)
    stages.close()
    print("\n".join(all_said(seen, language, key_given=key is not None)))
    return 0 if all(one.holds for one in seen) else 1


@trail_app.command(
    "head",
    help=message(
        "Sign a head over all records and hand it to the witnesses.\n\n"
        "Example: primum trail head trail.db --key trail.pem --witness /mnt/other/heads"
    ),
)
def head(
    trail: Address,
    key: Key,
    witness: WitnessPlaces = None,
    authority: Authority = None,
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Sign what is there now."""
    from primum.evidence.signature import read_private_key
    from primum.trail.log import Trail
    from primum.trail.queries import shards_asked
    from primum.trail.store import Store
    from primum.trail.witness_places import witness_at

    witnesses = [witness_at(one, authority=authority) for one in witness or ()]
    private, language = read_private_key(key), Language(lang or preferred_language())
    for one in shards_asked(Store(trail), shard):
        with Trail(trail, shard=one, key=private, witnesses=witnesses) as opened:
            signed = opened.sign_head()
        size = signed.head.size if signed else 0
        print(language.text("Signed a head of {size} records.", size=size))
    return 0


@trail_app.command(
    "show",
    help=message(
        "Print records: of a patient, a model, a user, a time.\n\n"
        "Example: primum trail show trail.db --by dr.martin --since 2026-11-01"
    ),
)
def show(
    trail: Address,
    patient: Patient = None,
    model: Model = None,
    by: By = None,
    since: Since = None,
    until: Until = None,
    kinds: Kinds = None,
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Print a line for each record."""
    from primum.errors import clean_text
    from primum.trail.queries import find, shards_asked
    from primum.trail.record import read_record
    from primum.trail.store import Store
    from primum.workflows.trail_export import note_access

    query, count = _query(patient, model, by, since, until, kinds), 0
    store = Store(trail)
    shards_asked(store, shard)
    note_access(trail, query, by=account())
    with store.reading() as connection:
        for one in find(connection, query, shard=shard):
            record = read_record(one.body)
            about = " ".join(f"{name}={value}" for name, value in sorted(record["details"].items()))
            print(
                clean_text(f"{one.shard}/{one.number} {record['at']} {record['kind']} {record['by']} {about}")
            )
            count += 1
    language = Language(lang or preferred_language())
    print(language.text("{count} records.", count=count))
    return 0


@trail_app.command(
    "export",
    help=message(
        "Write records with proofs that anyone can check, or as FHIR AuditEvent or DICOM audit messages.\n\n"
        "Example: primum trail export trail.db --patient 0f3a… --out history.jsonl"
    ),
)
def export(
    trail: Address,
    out: Annotated[Path, typer.Option("--out", help=message("File to write; it must not exist."))],
    patient: Patient = None,
    model: Model = None,
    by: By = None,
    since: Since = None,
    until: Until = None,
    kinds: Kinds = None,
    form: Annotated[
        Literal["proofs", "fhir", "atna"],
        typer.Option("--format", help=message("proofs, fhir (AuditEvent) or atna (DICOM audit).")),
    ] = "proofs",
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Write an export and say how many records it holds."""
    from primum.workflows.trail_export import write_export

    query = _query(patient, model, by, since, until, kinds)
    count = write_export(trail, query, out, by=account(), form=form, shard=shard)
    language = Language(lang or preferred_language())
    print(language.text("{count} records in {path}.", count=count, path=str(out)))
    return 0


@trail_app.command(
    "send",
    help=message(
        "Send records as DICOM audit messages to an audit repository, over syslog with TLS.\n\n"
        "Example: primum trail send trail.db --to syslog://audit.hospital:6514 --since 2026-11-01"
    ),
)
def send(
    trail: Address,
    to: Annotated[str, typer.Option("--to", help=message("syslog://host:port of the repository."))],
    authority: Authority = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help=message("Certificate of this machine, PEM."))
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option("--certificate-key", help=message("Its private key, PEM."))
    ] = None,
    since: Since = None,
    until: Until = None,
    kinds: Kinds = None,
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Send what was asked for, and say how many messages left."""
    from primum.trail.witness_places import syslog_at
    from primum.workflows.trail_export import send_records

    query = _query(None, None, None, since, until, kinds)
    sender = syslog_at(to, authority=authority, certificate=certificate, key=certificate_key)
    count = send_records(trail, query, sender, by=account(), shard=shard)
    language = Language(lang or preferred_language())
    print(language.text("{count} records sent; syslog does not say whether they were kept.", count=count))
    return 0


@trail_app.command(
    "check-export",
    help=message(
        "Check an export of a trail, without the trail.\n\n"
        "Exit status: 0 as it was signed, 2 altered or cut.\n\n"
        "Example: primum trail check-export history.jsonl --public-key trail.pub"
    ),
)
def check_export_command(
    export: Annotated[Path, typer.Argument()],
    public_key: options.PublicKey = None,
    lang: options.Lang = None,
) -> int:
    """Say what an export proves, and what not."""
    from primum.evidence.signature import read_public_key
    from primum.trail.export import check_export
    from primum.trail.heads import public_hex

    checked = check_export(export, key=public_hex(read_public_key(public_key)) if public_key else None)
    language, heads = Language(lang or preferred_language()), [one.head for one in checked.heads]
    print(
        language.text(
            "{count} records, each proven to be among the {size} that were signed on {date}.",
            count=checked.records,
            size=sum(one.size for one in heads),
            date=max(one.at for one in heads),
        )
    )
    if public_key is None:
        print(language.text("The key is the one in the file: give the one you were told with --public-key."))
    print(language.text("That none was left out cannot be shown by proofs of those that are there."))
    return 0


@trail_app.command(
    "expire",
    help=message(
        "Drop the bytes of records whose time is over; their hashes stay and every proof holds.\n\n"
        "Example: primum trail expire trail.db --key trail.pem --policy retention.toml"
    ),
)
def expire_command(
    trail: Address,
    key: Key,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help=message("TOML of kinds and days; by default six years for all.")),
    ] = None,
    by: Annotated[str, typer.Option("--by", help=message("Account that asks for it."))] = "primum",
    shard: Shard = None,
    lang: options.Lang = None,
) -> int:
    """Apply a policy of retention."""
    from primum.evidence.signature import read_private_key
    from primum.trail.log import Trail
    from primum.trail.queries import shards_asked
    from primum.trail.retention import HIPAA, expire, read_policy
    from primum.trail.store import Store

    chosen = read_policy(policy) if policy else HIPAA
    private, count = read_private_key(key), 0
    for one in shards_asked(Store(trail), shard):
        with Trail(trail, shard=one, key=private) as opened:
            opened.sign_head()
            count += expire(opened.store, chosen, by=by, shard=one)
    language = Language(lang or preferred_language())
    print(language.text("The bytes of {count} records are gone; their hashes stay.", count=count))
    return 0


@trail_app.command(
    "status",
    help=message(
        "Say how long the trail is, what its last head covers, and what began and did not end.\n\n"
        "Example: primum trail status trail.db"
    ),
)
def status(trail: Address, shard: Shard = None, lang: options.Lang = None) -> int:
    """Print a few facts."""
    from primum.trail.chain import size_of
    from primum.trail.export import last_head
    from primum.trail.queries import shards_asked, unended
    from primum.trail.store import Store

    store, language = Store(trail), Language(lang or preferred_language())
    facts, shards = store.facts(), shards_asked(store, shard)
    print(language.text("Trail {name}, key {key}.", name=facts["trail"], key=facts["key"]))
    for one in shards:
        with store.reading() as connection:
            size, waiting = size_of(connection, one), unended(connection, shard=one)
        signed = last_head(store, shard=one)
        covered = signed.head.size if signed else 0
        said = [
            language.text(
                "{size} records, {covered} of them under a signed head.", size=size, covered=covered
            ),
            language.text("{count} predictions began and did not end.", count=len(waiting)),
        ]
        if len(shards) > 1:
            said = [language.text("Chain {shard}:", shard=one), *("  " + line for line in said)]
        print("\n".join(said))
    if store.kind == "postgresql" and store.may_rewrite():
        print(
            language.text(
                "This account may change and delete records: let the gateway write as a role that may not "
                "(primum trail create --writer)."
            )
        )
    return 0


def _query(
    patient: str | None,
    model: str | None,
    by: str | None,
    since: str | None,
    until: str | None,
    kinds: str | None,
) -> "Query":
    from primum.trail.queries import Query, instant

    return Query(
        patient=patient,
        model=model,
        by=by,
        since=instant(since) if since else None,
        until=instant(until) if until else None,
        kinds=tuple(one.strip() for one in kinds.split(",")) if kinds else (),
    )
