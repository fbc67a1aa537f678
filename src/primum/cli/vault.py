"""``primum vault``: payloads under one key a patient, and their erasure."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primum.cli import options
from primum.cli.account import account
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from primum.trail.log import Trail
    from primum.trail.vault.payloads import Vault

CREATE_HELP = message(
    "Make a key store and a vault that belong together.\n\n"
    "Example: primum vault create --keys keys.db --vault vault.db --master-key file:master.key"
)
PUT_HELP = message(
    "Encrypt a file under the key of a patient, and print its number and version.\n\n"
    "Example: primum vault put --keys keys.db --vault vault.db --master-key file:master.key --kind image "
    "--content scan.dcm --patient-file - < identifier.txt"
)
GET_HELP = message(
    "Decrypt one payload, or all of a patient, after the trail has been told who reads it and why.\n\n"
    "Example: primum vault get --keys keys.db --vault vault.db --trail trail.db --master-key file:master.key "
    "--purpose care --payload 3f2a… --out scan.dcm"
)
FORGET_HELP = message(
    "Erase a patient: destroy their key and delete what they left; the trail still verifies.\n\n"
    "Exit status: 0 erased, 2 someone listed has no key, 4 the machine: repeat it.\n\n"
    "Example: primum vault forget --keys keys.db --vault vault.db --trail trail.db "
    "--master-key file:master.key --patient-file - < identifier.txt"
)
ROTATE_HELP = message(
    "Put a new master key in the place of the old one, or end a rotation that was killed.\n\n"
    "Example: primum vault rotate --keys keys.db --trail trail.db --master-key file:old.key "
    "--new-master-key file:new.key"
)
STATUS_HELP = message(
    "Count keys, payloads and signals, and say what is unfinished.\n\n"
    "Example: primum vault status --keys keys.db --vault vault.db --master-key file:master.key"
)
NUMBER_HELP = message(
    "Print the random number by which the trail knows a patient, once the trail has been told who asks.\n\n"
    "Example: primum vault number --keys keys.db --trail trail.db --master-key file:master.key "
    "--purpose art.15 --patient-file - < identifier.txt"
)
PURGE_HELP = message(
    "Delete the signals whose date is past.\n\n"
    "Example: primum vault purge --keys keys.db --vault vault.db --trail trail.db "
    "--master-key file:master.key"
)
vault_app = typer.Typer(
    help=message("Keep payloads under one key a patient; destroying the key is erasure."),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Keys = Annotated[str, typer.Option("--keys", help=message("Key store: an SQLite file, or postgresql://…"))]
VaultPlace = Annotated[
    str, typer.Option("--vault", help=message("Vault of payloads: an SQLite file, or postgresql://…"))
]
TrailPlace = Annotated[str, typer.Option("--trail", help=message("Trail: an SQLite file, or postgresql://…"))]
Masters = Annotated[
    list[str],
    typer.Option(
        "--master-key",
        help=message("file:PATH, env:NAME or command:PROGRAM ARGUMENTS KEY; both while it is being changed."),
    ),
]
PatientFile = Annotated[
    Path, typer.Option("--patient-file", help=message("File with the patient's identifier; - is stdin."))
]
By = Annotated[
    str | None,
    typer.Option("--by", help=message("Account that the trail names; that of the system by default.")),
]

_ERASED = message(
    "Erased: patients {patients}, payloads {payloads}. From now on nothing in these two databases opens what "
    "they left."
)
_COPIES = message(
    "Against older copies of the key store it holds from when every copy of the old key is destroyed: run "
    "primum vault rotate, then destroy every copy of the master key that it replaced."
)
_DEVICE = message(
    "Against older copies of the key store it holds from when the device has destroyed the old key: run "
    "primum vault rotate, then let the device destroy the master key that it replaced."
)
_LOGS = message(
    "PostgreSQL: archived write-ahead logs, replicas and dumps are older copies too, and still hold the "
    "wrapped key."
)
_AFTER_COPIES = message(
    "Destroy every copy of the old master key: against older copies of the key store, erasures before this "
    "hold from when every copy of the old key is destroyed."
)
_AFTER_DEVICE = message(
    "Let the device destroy the old master key: against older copies of the key store, erasures before this "
    "hold from then on."
)


@vault_app.command("create", help=CREATE_HELP)
def create(
    keys: Keys,
    vault: VaultPlace,
    master_key: Annotated[
        str,
        typer.Option("--master-key", help=message("file:PATH, env:NAME or command:PROGRAM ARGUMENTS KEY.")),
    ],
    lang: options.Lang = None,
) -> int:
    """Make both databases."""
    from primum.trail.vault.files import Untold
    from primum.trail.vault.keys import KeyStore
    from primum.trail.vault.masters import read_master
    from primum.trail.vault.payloads import Vault

    with closing(KeyStore.create(keys, read_master(master_key))) as store:
        Vault.create(vault, store, Untold()).close()
    language = _language(lang)
    print(language.text("Made: keys in {keys}, payloads in {vault}.", keys=keys, vault=vault))
    return 0


@vault_app.command("put", help=PUT_HELP)
def put(
    keys: Keys,
    vault: VaultPlace,
    master_key: Masters,
    patient_file: PatientFile,
    kind: Annotated[str, typer.Option("--kind", help=message("What it is: image, record, explanation."))],
    content: Annotated[Path, typer.Option("--content", help=message("File to encrypt."))],
    corrects: Annotated[
        str | None, typer.Option("--corrects", help=message("Number of the payload that this corrects."))
    ] = None,
    lang: options.Lang = None,
) -> int:
    """Encrypt a file."""
    from primum.trail.vault.files import one_identifier, read_content

    identifier, held = one_identifier(patient_file), read_content(content)
    with _opened(keys, vault, master_key) as opened:
        stored = opened.put(opened.keys.patient(identifier), kind, held, corrects=corrects)
    language = _language(lang)
    said = language.text("Kept: payload {payload}, version {version}.", **vars(stored))
    print(said)
    return 0


@vault_app.command("get", help=GET_HELP)
def get(
    keys: Keys,
    vault: VaultPlace,
    trail: TrailPlace,
    master_key: Masters,
    purpose: Annotated[str, typer.Option("--purpose", help=message("Why it is read, in a word."))],
    out: Annotated[Path, typer.Option("--out", help=message("New file, or new folder for a patient."))],
    payload: Annotated[str | None, typer.Option("--payload", help=message("Number of the payload."))] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help=message("Which version; the last by default."))
    ] = None,
    patient_file: Annotated[
        Path | None,
        typer.Option("--patient-file", help=message("File with the identifier of whose all is; - is stdin.")),
    ] = None,
    by: By = None,
    lang: options.Lang = None,
) -> int:
    """Decrypt into a file, or a folder."""
    from primum.trail.vault.files import known, one_identifier, write_all, write_one

    if (payload is None) == (patient_file is None):
        raise InputError("Give either --payload, for one, or --patient-file, for all of a patient.")
    identifier = None if patient_file is None else one_identifier(patient_file)
    with _opened(keys, vault, master_key, trail) as opened:
        if identifier is None:
            count = write_one(opened, str(payload), out, by=account(by), purpose=purpose, version=version)
        else:
            patient = known(opened.keys, identifier)
            count = write_all(opened, patient, out, by=account(by), purpose=purpose)
    language = _language(lang)
    print(language.text("Decrypted: {count}, into {path}.", count=count, path=str(out)))
    return 0


@vault_app.command("forget", help=FORGET_HELP)
def forget(
    keys: Keys,
    vault: VaultPlace,
    trail: TrailPlace,
    master_key: Masters,
    patient_file: PatientFile,
    all_listed: Annotated[
        bool, typer.Option("--all-listed", help=message("The file has one identifier a line: erase all."))
    ] = False,
    numbers: Annotated[
        bool,
        typer.Option(
            "--numbers", help=message("The file has the trail's numbers of patients, not identifiers.")
        ),
    ] = False,
    basis: Annotated[
        str | None, typer.Option("--basis", help=message("Why, in a word for the trail: art.17"))
    ] = None,
    requested: Annotated[
        str | None, typer.Option("--requested", help=message("When it was asked for: 2026-11-23"))
    ] = None,
    by: By = None,
    lang: options.Lang = None,
) -> int:
    """Erase, and say what holds and from when."""
    from primum.trail.vault.erasure import forget
    from primum.trail.vault.files import identifiers, one_identifier

    people = identifiers(patient_file) if all_listed else [one_identifier(patient_file)]
    language = _language(lang)
    with _opened(keys, vault, master_key, trail) as opened:
        erased = forget(opened, people, by=account(by), basis=basis, requested=requested, numbers=numbers)
        if erased.patients:
            print(language.text(_ERASED, patients=erased.patients, payloads=erased.payloads))
            print(_what_holds(opened, language))
    if erased.resumed:
        print(language.text("Interrupted erasures that are ended now: {count}.", count=erased.resumed))
    # Who repeats an interrupted command is not told that nobody is known: the key went the first time.
    if len(erased.unknown) > erased.resumed:
        raise InputError(
            "Without a key here, so that there was nothing to erase: {count} of {all}, counted among those "
            "listed: {places}.",
            count=len(erased.unknown),
            all=len(people),
            places=", ".join(str(place + 1) for place in erased.unknown),
        )
    return 0


@vault_app.command("number", help=NUMBER_HELP)
def number(
    keys: Keys,
    trail: TrailPlace,
    master_key: Masters,
    patient_file: PatientFile,
    purpose: Annotated[str, typer.Option("--purpose", help=message("Why it is asked for, in a word."))],
    by: By = None,
    lang: options.Lang = None,
) -> int:
    """Print what `primum trail show` and `export` take for --patient."""
    from primum.trail.entry import Entry
    from primum.trail.vault.files import known, one_identifier
    from primum.trail.vault.keys import KeyStore
    from primum.trail.vault.masters import read_master

    identifier = one_identifier(patient_file)
    with closing(KeyStore(keys, *map(read_master, master_key))) as store, _recorder(trail) as recorder:
        patient = known(store, identifier)
        details = {"purpose": purpose, "subject": "number"}
        recorder.append(Entry("access", account(by), patient=patient.patient, details=details))
    print(patient.patient)
    return 0


@vault_app.command("rotate", help=ROTATE_HELP)
def rotate(
    keys: Keys,
    trail: TrailPlace,
    master_key: Masters,
    new_master_key: Annotated[
        str, typer.Option("--new-master-key", help=message("The new one, given like --master-key."))
    ],
    by: By = None,
    lang: options.Lang = None,
) -> int:
    """Turn the epoch."""
    from primum.trail.vault.keys import KeyStore
    from primum.trail.vault.masters import read_master
    from primum.trail.vault.rotation import rotate

    language, new = _language(lang), read_master(new_master_key)
    print(language.text("The old master key is needed until this has ended: keep it."), flush=True)
    with ExitStack() as stack:
        store = stack.enter_context(closing(KeyStore(keys, *map(read_master, master_key), new)))
        recorder = stack.enter_context(_recorder(trail))
        done = rotate(store, new, recorder=recorder, by=account(by))
        device = store.in_device()
    if not done.turned:
        print(
            language.text(
                "This is the master key of epoch {epoch} already: nothing changed.", epoch=done.epoch
            )
        )
        return 0
    print(language.text("Epoch {epoch}: keys wrapped anew {keys}.", epoch=done.epoch, keys=done.keys))
    print(language.text(_AFTER_DEVICE if device else _AFTER_COPIES))
    return 0


@vault_app.command("status", help=STATUS_HELP)
def status(keys: Keys, vault: VaultPlace, master_key: Masters, lang: options.Lang = None) -> int:
    """Count what there is."""
    from primum.trail.vault.signals import count_signals

    language = _language(lang)
    with _opened(keys, vault, master_key) as opened:
        epoch, phases, held = opened.keys.counts()
        signals, late = count_signals(opened, now=datetime.now(UTC))
        lines = [
            language.text("Epoch {epoch}, patients {keys}", epoch=epoch, keys=sum(held.values())),
            language.text("Payloads, every version: {count}", count=opened.count()),
            language.text("Signals: {count}, past their date: {late}", count=signals, late=late),
        ]
        if len(phases) > 1:
            left = sum(count for number, count in held.items() if number != epoch)
            lines.append(
                language.text(
                    "A rotation has not ended, keys left: {count}; repeat primum vault rotate.", count=left
                )
            )
        if unfinished := len(opened.keys.unfinished()):
            lines.append(
                language.text(
                    "Erasures without an end: {count}; any primum vault forget ends them.", count=unfinished
                )
            )
    print("\n".join(lines))
    return 0


@vault_app.command("purge", help=PURGE_HELP)
def purge(
    keys: Keys,
    vault: VaultPlace,
    trail: TrailPlace,
    master_key: Masters,
    before: Annotated[
        datetime | None, typer.Option("--before", help=message("Date, UTC; now by default."))
    ] = None,
    by: By = None,
    lang: options.Lang = None,
) -> int:
    """Delete signals past their date."""
    from primum.trail.vault.signals import purge_signals

    until = before.replace(tzinfo=UTC) if before else datetime.now(UTC)
    if until > datetime.now(UTC):
        raise InputError("--before lies ahead: give a date that is past.")
    with _opened(keys, vault, master_key, trail) as opened:
        gone = purge_signals(opened, until, by=account(by))
    language = _language(lang)
    print(language.text("Deleted signals: {count}.", count=gone))
    return 0


@contextmanager
def _opened(keys: str, vault: str, masters: Sequence[str], trail: str | None = None) -> "Iterator[Vault]":
    """Open everything, and close it however the command ends; without a trail nothing may be recorded."""
    from primum.trail.vault.files import Untold
    from primum.trail.vault.keys import KeyStore
    from primum.trail.vault.masters import read_master
    from primum.trail.vault.payloads import Vault

    with ExitStack() as stack:
        store = stack.enter_context(closing(KeyStore(keys, *map(read_master, masters))))
        recorder = Untold() if trail is None else stack.enter_context(_recorder(trail))
        yield stack.enter_context(closing(Vault(vault, store, recorder)))


def _recorder(url: str) -> "Trail":
    from primum.trail.log import Trail

    return Trail(url)


def _what_holds(opened: "Vault", language: Language) -> str:
    said = [_DEVICE if opened.keys.in_device() else _COPIES]
    if not opened.keys.database.is_sqlite:
        said.append(_LOGS)
    return "\n".join(language.text(one) for one in said)


def _language(lang: str | None) -> Language:
    return Language("fr" if lang == "fr" else "en" if lang == "en" else preferred_language())
