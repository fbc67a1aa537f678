"""``primum trail witness``: keep the heads of trails that others write."""

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primum.cli import options
from primum.errors import InputError, clean_text
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from primum.trail.heads import Head

HELP = message(
    "Keep the signed heads of trails, and countersign only those that follow from the last.\n\n"
    "It belongs on a machine that those who write the trail cannot change. Ctrl-C stops it; it goes on from "
    "its folder.\n\n"
    "Example: primum trail witness --state witness/ --key witness.pem --host 0.0.0.0 "
    "--certificate w.pem --certificate-key w.key"
)
LISTENING = message("The witness with the public key {key} listens at {url}.")
REFUSED = message(
    "Refused: {size} records of the trail {trail}, shard {shard}, do not follow from what was seen before: "
    "find out why."
)


def witness_command(
    state: Annotated[Path, typer.Option("--state", help=message("Folder for the heads; made if need be."))],
    key: Annotated[Path, typer.Option("--key", help=message("The witness's own Ed25519 private key, PEM."))],
    host: Annotated[str, typer.Option("--host", help=message("Address to listen at."))] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help=message("Port; 0: any that is free."))
    ] = 9094,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help=message("The witness's certificate for TLS, PEM."))
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option("--certificate-key", help=message("Its private key, PEM."))
    ] = None,
    trail_key: Annotated[
        list[str] | None,
        typer.Option(
            "--trail-key",
            help=message(
                "TRAIL=KEY: take heads of this trail only, signed with this key, hexadecimal; repeatable. "
                "Without it, the first key seen of a trail counts."
            ),
        ),
    ] = None,
    lang: options.Lang = None,
) -> int:
    """Listen until told to stop."""
    from primum.evidence.signature import read_private_key
    from primum.trail.heads import public_hex
    from primum.trail.witness_book import WitnessBook
    from primum.trail.witness_server import WitnessServer

    language, own = Language(lang or preferred_language()), read_private_key(key)

    def refused(head: "Head") -> None:
        facts = {"size": head.size, "trail": head.trail, "shard": head.shard}
        print(language.text(REFUSED, **facts), file=sys.stderr, flush=True)

    book = WitnessBook(state, own, trail_keys=_trail_keys(trail_key or []))
    server = WitnessServer(
        book,
        host=host,
        port=port,
        certificate=certificate,
        key=certificate_key,
        refused=refused,
    )
    for one in (signal.SIGINT, signal.SIGTERM):
        # From another thread: this one is inside serve_forever, which shutdown waits for.
        signal.signal(one, lambda *_: threading.Thread(target=server.shutdown).start())
    print(language.text(LISTENING, key=public_hex(own), url=server.url), flush=True)
    with server:
        server.serve_forever()
    book.close()
    return 0


def _trail_keys(given: list[str]) -> dict[str, str]:
    from primum.trail.witness_book import KEY, TRAIL

    found = {}
    for one in given:
        trail, _, key = one.partition("=")
        if not (TRAIL.fullmatch(trail) and KEY.fullmatch(key)):
            raise InputError(
                "--trail-key {given} is not TRAIL=KEY: give the name of a trail, 32 hexadecimal digits, and "
                "its public key, 64.",
                given=clean_text(one),
            )
        found[trail] = key
    return found
