"""The options of ``primum release``, each said once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from primum.report.language import message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from primum.release.registry import Registry
    from primum.trail.entry import Recorder

RegistryFolder = Annotated[
    Path,
    typer.Option("--registry", envvar="PRIMUM_REGISTRY", help=message("Folder of the registry.")),
]
TrailAddress = Annotated[
    str | None,
    typer.Option(
        "--trail",
        envvar="PRIMUM_TRAIL",
        help=message("SQLite file or PostgreSQL address of the trail, where each change is written first."),
    ),
]
PersonKey = Annotated[
    Path,
    typer.Option("--key", help=message("Your Ed25519 private key, PEM; the policy names its holder.")),
]
OptionalKey = Annotated[
    Path | None,
    typer.Option("--key", help=message("Your Ed25519 private key, PEM; the policy names its holder.")),
]
By = Annotated[
    str | None, typer.Option("--by", help=message("Who does it, for the trail; your account by default."))
]
Comment = Annotated[
    str, typer.Option("--comment", help=message("Why; kept in the registry, signed with the rest."))
]
ForPhase = Annotated[
    Literal["approved", "shadow", "canary", "live"],
    typer.Option("--for", help=message("The step that is approved, where the policy asks for each.")),
]
Registered = Annotated[str, typer.Argument()]


@contextmanager
def opened(folder: Path, trail: str | None) -> Iterator["Registry"]:
    """Open a registry to write in, with the trail that hears of it first."""
    from primum.release.registry import Registry

    with recorder(trail) as heard:
        yield Registry(folder, heard)


@contextmanager
def recorder(trail: str | None) -> Iterator["Recorder"]:
    """Open the trail.

    Raises
    ------
    InputError
        None was named.
    """
    from primum.errors import InputError

    if trail is None:
        raise InputError(
            "A registry is changed only where the trail can be written: give --trail, or set PRIMUM_TRAIL."
        )
    from primum.trail.log import Trail

    with Trail(trail) as one:
        yield one


def account(given: str | None) -> str:
    """Name who acts: as given, else the account of this machine."""
    import getpass
    import re

    return given or re.sub(r"[^\w.:@/+=-]", "_", getpass.getuser(), flags=re.ASCII) or "unknown"


def private_key(path: Path | None) -> "Ed25519PrivateKey | None":
    """Read a key that signs, where one was given."""
    from primum.evidence.signature import read_private_key

    return None if path is None else read_private_key(path)
