"""Where the master key is: a file, an environment variable, or a device that is asked through a program.

The master key wraps one key an epoch, and that one wraps the keys of the patients. A device (PKCS#11, KMS) is
so asked once a process and epoch, and its key never leaves it.
"""

import base64
import binascii
import os
import re
import shlex
import signal
import stat
import string
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag

from primum.errors import InputError, MachineError, clean_text
from primum.trail.vault.sealing import KEY_BYTES, derived, seal, unseal

_HEX: Final = re.compile(rb"[0-9a-fA-F]{64}")
_NAME: Final = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)
_LONGEST: Final = 4096
_PRINTABLE: Final = frozenset(string.printable.encode())
_WITHIN: Final = 20.0


class MasterKey(Protocol):
    """What wraps the key of an epoch."""

    @property
    def source(self) -> str:
        """``file``, ``env`` or ``command``."""
        ...

    @property
    def name(self) -> str:
        """What a device calls the key; empty for a key that is held here."""
        ...

    def wrap(self, secret: bytes) -> bytes:
        """Encrypt the key of an epoch."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Decrypt it; None when another master key wrapped it."""
        ...


@dataclass(frozen=True)
class HeldKey:
    """A master key whose 256 bits this process holds.

    Attributes
    ----------
    source : str
        ``file`` or ``env``.
    key : bytes
        32 random bytes.
    """

    source: str
    key: bytes = field(repr=False)
    name: str = ""

    def wrap(self, secret: bytes) -> bytes:
        """Encrypt the key of an epoch."""
        return seal(derived(self.key, "master"), secret, "master")

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Decrypt it; None when another master key wrapped it."""
        try:
            return unseal(derived(self.key, "master"), wrapped, "master")
        except InvalidTag:
            return None


@dataclass(frozen=True)
class HookKey:
    """A master key in a device that a program asks; the program is run without a shell.

    Attributes
    ----------
    program : tuple of str
        The program and its first arguments; ``wrap NAME`` or ``unwrap NAME`` is added.
    name : str
        What the device calls the key.
    within : float
        Seconds that one answer may take.
    """

    program: tuple[str, ...]
    name: str
    within: float = _WITHIN
    source: str = "command"

    def wrap(self, secret: bytes) -> bytes:
        """Encrypt the key of an epoch.

        Raises
        ------
        MachineError
            The program failed, took too long or answered nonsense.
        """
        wrapped = self._ask("wrap", secret)
        if secret in wrapped:
            raise MachineError(
                "The key program {program} gave the key back unencrypted: see docs/vault.md.",
                program=self._called,
            )
        return wrapped

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Decrypt it. Whether it is the right one, the check value beside it tells."""
        return self._ask("unwrap", wrapped)

    def _ask(self, verb: str, given: bytes) -> bytes:
        try:
            status, answered = self._run([*self.program, verb, self.name], base64.b64encode(given) + b"\n")
        except subprocess.TimeoutExpired as error:
            raise MachineError(
                "The key program {program} gave no answer within {seconds} s: see to its device.",
                program=self._called,
                seconds=self.within,
            ) from error
        except OSError as error:
            raise MachineError(
                "The key program {program} cannot be started ({reason}): give its whole path.",
                program=self._called,
                reason=error.strerror or type(error).__name__,
            ) from error
        if status:
            raise MachineError(
                "The key program {program} ended with status {status}: run it by hand as docs/vault.md says.",
                program=self._called,
                status=status,
            )
        try:
            answer = base64.b64decode(answered.strip(), validate=True)
        except binascii.Error:
            answer = b""
        if not KEY_BYTES <= len(answer) <= _LONGEST:
            raise MachineError(
                "The key program {program} did not answer with a key in base64: run it by hand as "
                "docs/vault.md says.",
                program=self._called,
            )
        return answer

    def _run(self, command: list[str], given: bytes) -> tuple[int, bytes]:
        # Its stderr is dropped: nobody knows what a device prints about keys. In a session of its own, so
        # that what it started ends with it.
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=nothing, start_new_session=True
        ) as running:
            try:
                answered, _ = running.communicate(given, timeout=self.within)
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)
                raise
            return running.returncode, answered

    @property
    def _called(self) -> str:
        return clean_text(self.program[0])


def read_master(given: str) -> MasterKey:
    """Read what ``--master-key`` says.

    Parameters
    ----------
    given : str
        ``file:PATH``, ``env:NAME`` or ``command:PROGRAM ARGUMENTS KEY``; the last word names the key.

    Raises
    ------
    InputError
        There is no such key, or others may read it, or it is not 256 random bits.
    """
    source, _, rest = given.partition(":")
    if source == "file" and rest:
        return HeldKey("file", _key_of(_file(Path(rest)), clean_text(rest)))
    if source == "env" and rest:
        if rest not in os.environ:
            raise InputError(
                "The environment variable {name} is not set: it is to hold the master key.",
                name=clean_text(rest),
            )
        return HeldKey("env", _key_of(os.environ[rest].encode(errors="surrogateescape"), clean_text(rest)))
    try:
        words = shlex.split(rest) if source == "command" else []
    except ValueError:
        words = []
    if len(words) >= 2 and _NAME.fullmatch(words[-1]):
        return HookKey(tuple(words[:-1]), words[-1])
    # Not what was given: it may be the key itself.
    raise InputError(
        "A master key is given as file:PATH, env:NAME or command:PROGRAM ARGUMENTS KEY, where KEY is what "
        "the device calls it."
    )


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise InputError(
                    "{file} may be read by others than its owner, or is no file: chmod 600 {file}.",
                    file=clean_text(path),
                )
            return stream.read(_LONGEST)
    except OSError as error:
        raise InputError(
            "{file} with the master key cannot be read ({reason}): give its path, as the account that owns "
            "it.",
            file=clean_text(path),
            reason=error.strerror or type(error).__name__,
        ) from error


def _key_of(content: bytes, place: str) -> bytes:
    key = content
    if len(content) != KEY_BYTES or set(content) <= _PRINTABLE:
        word = content.strip()
        try:
            key = (
                bytes.fromhex(word.decode())
                if _HEX.fullmatch(word)
                else base64.b64decode(word, validate=True)
            )
        except (binascii.Error, ValueError):
            key = b""
    if len(key) != KEY_BYTES or len(set(key)) < KEY_BYTES // 4:
        raise InputError(
            "{place} holds no master key, which is 32 random bytes, or these in base64 or hexadecimal: make "
            "one with (umask 077; openssl rand -out master.key 32).",
            place=place,
        )
    return key
