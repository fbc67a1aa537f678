"""Master keys: where they may come from, and everything that a key program can do wrong."""

import base64
import hashlib
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from tests.trail.vault.support import Place

from primum.errors import InputError, MachineError
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import HeldKey, HookKey, read_master
from primum.trail.vault.rotation import rotate

HOOK = Path(__file__).parents[3] / "examples" / "vault_hook.py"
# The same in every process that collects these tests.
KEY = hashlib.sha256(b"master").digest()


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", base64.b64encode(KEY) + b"\r\n"]
)
def test_a_file_or_a_variable_in_each_form(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_master(f"file:{written(tmp_path / 'master.key', content)}")
    assert read == HeldKey("file", KEY)
    assert KEY.hex() not in repr(read)
    assert repr(KEY) not in repr(read)
    if b"\0" not in content:
        monkeypatch.setitem(os.environb, b"PRIMUM_TEST_KEY", content)
        assert read_master("env:PRIMUM_TEST_KEY") == HeldKey("env", KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InputError, match="chmod 600"):
        read_master(f"file:{written(tmp_path / 'master.key', KEY, mode)}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        KEY[:31],
        KEY + b"\n1",
        bytes(32),
        b"correct horse battery staple 123",
        KEY.hex().encode()[:-1],
        b"\xff" * 44,
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="32 random bytes") as refused:
        read_master(f"file:{written(tmp_path / 'master.key', content)}")
    assert not content or content.decode("latin-1") not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    ["", "file:", "env:", "command:", "command:hook", "command:hook 'a", KEY.hex(), "https://kms/key"],
)
def test_what_says_no_place_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(InputError) as refused:
        read_master(given)
    assert len(given) < 10 or given not in str(refused.value)


def test_places_that_are_not_there(tmp_path: Path) -> None:
    for given in (f"file:{tmp_path}/none", f"file:{tmp_path}", "env:PRIMUM_NOT_SET"):
        with pytest.raises(InputError):
            read_master(given)


def device(tmp_path: Path, *names: str) -> str:
    for name in names:
        written(tmp_path / name, os.urandom(32))
    return f"command:{shlex.join([sys.executable, str(HOOK), str(tmp_path)])} "


def test_a_device_keeps_the_key_and_turns_it(sqlite_place: Place, tmp_path: Path) -> None:
    """The example as it is published, run as a program."""
    command = device(tmp_path, "first", "second")
    first, second = read_master(command + "first"), read_master(command + "second")
    keys = KeyStore.create(sqlite_place.keys, first)
    patient = keys.patient("somebody").patient
    # One epoch is unwrapped once: afterwards the device may be away.
    (tmp_path / "first").rename(tmp_path / "away")
    assert [keys.patient(f"P{one}").epoch for one in range(3)] == [1, 1, 1]
    (tmp_path / "away").rename(tmp_path / "first")
    rotate(keys, second, recorder=sqlite_place.trail, by="test")
    keys.close()
    with pytest.raises(InputError, match="not the master key"):
        KeyStore(sqlite_place.keys, first)
    (tmp_path / "first").unlink()
    keys = KeyStore(sqlite_place.keys, second)
    found = keys.find("somebody")
    assert found is not None
    assert found.patient == patient
    keys.close()
    assert sqlite_place.holding((tmp_path / "second").read_bytes()) == []
    written(tmp_path / "second", os.urandom(32))
    with pytest.raises(MachineError, match="status 3"):
        KeyStore(sqlite_place.keys, second)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit(9)", "status 9"),
        ("import os; os.kill(os.getpid(), 15)", "status -15"),
        ("import time; time.sleep(30)", "no answer within 0.5 s"),
        ("print('not base64 !')", "did not answer with a key"),
        ("pass", "did not answer with a key"),
        ("print('AAAA')", "did not answer with a key"),
        ("print('A' * 100000)", "did not answer with a key"),
        ("import sys; sys.stdout.write(sys.stdin.read())", "unencrypted"),
    ],
)
def test_a_program_that_fails_hangs_or_answers_nonsense(sqlite_place: Place, program: str, said: str) -> None:
    hook = HookKey((sys.executable, "-c", program), "key", within=0.5 if "sleep" in program else 10)
    with pytest.raises(MachineError, match=said) as refused:
        KeyStore.create(sqlite_place.keys, hook)
    assert refused.value.exit_status == 4
    with pytest.raises(InputError, match="no key store"):
        KeyStore(sqlite_place.keys, HeldKey("file", KEY))


def test_what_a_hanging_program_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    program = (
        "import pathlib, subprocess; one = subprocess.Popen(['sleep', '30']); "
        f"pathlib.Path({str(told)!r}).write_text(str(one.pid)); one.wait()"
    )
    with pytest.raises(MachineError, match="no answer"):
        HookKey((sys.executable, "-c", program), "key", within=2).wrap(KEY)
    status = Path("/proc") / told.read_text(encoding="utf-8") / "stat"
    until = time.monotonic() + 5
    while (alive := status.exists() and status.read_text().split()[2] != "Z") and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(MachineError, match="cannot be started"):
        HookKey(("/nowhere/hook",), "key").wrap(KEY)


def test_a_device_that_unwraps_to_another_key_is_found_out(sqlite_place: Place) -> None:
    wraps = "import sys,base64; print(base64.b64encode(bytes(40)).decode())"
    hook = HookKey((sys.executable, "-c", wraps), "key")
    with pytest.raises(InputError, match="not the master key"):
        KeyStore.create(sqlite_place.keys, hook)
