"""Certificates that live for one test, and servers as processes of their own."""

import datetime
import ipaddress
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Certified:
    """A certificate, its key, and what signed it, in files."""

    certificate: Path
    key: Path
    authority: Path


def certified(folder: Path, name: str = "server", *, host: str = "localhost") -> Certified:
    """Make an authority and a certificate for a machine, by default this one."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed(f"authority of {name}", authority_key, by=None, signer=authority_key)
    certificate = _signed(name, key, by=authority, signer=authority_key, host=host)
    made = Certified(*(folder / f"{name}{end}" for end in (".pem", ".key", ".ca")))
    made.certificate.write_bytes(certificate.public_bytes(_PEM))
    made.authority.write_bytes(authority.public_bytes(_PEM))
    form = serialization.PrivateFormat.PKCS8
    made.key.write_bytes(key.private_bytes(_PEM, form, serialization.NoEncryption()))
    return made


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    by: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    host: str = "",
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if by is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def waited(ready: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def rsyslogd() -> str:
    """Find rsyslogd with TLS; installed when it is missing and we may."""
    program = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
    if program is None or not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        install = [str(ROOT / ".ci" / "debian"), "rsyslog", "rsyslog-gnutls"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"there is no rsyslogd that speaks TLS: {done.stderr.strip()}")
        program = "/usr/sbin/rsyslogd"
    return program


_CONFIGURATION = """
global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{authority}"
  DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}"
  workDirectory="{folder}" maxMessageSize="64k")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="{asks}")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{folder}/port")
if $syslogtag startswith "primum" then action(type="omfile" file="{folder}/log" template="raw")
"""


@dataclass(frozen=True)
class Syslog:
    """An rsyslogd: where it listens, and the file that it writes."""

    port: int
    log: Path

    def lines(self, count: int) -> list[bytes]:
        """Wait for messages and give them."""
        waited(lambda: self.log.exists() and self.log.read_bytes().count(b"\n") >= count)
        return self.log.read_bytes().splitlines()


@contextmanager
def syslog_server(folder: Path, own: Certified, *, asks: str = "anon") -> Iterator[Syslog]:
    """Run rsyslogd over TLS on loopback; `asks` is how it checks who comes."""
    program = rsyslogd()
    facts = {"authority": own.authority, "certificate": own.certificate, "key": own.key, "folder": folder}
    place = folder / "rsyslog.conf"
    place.write_text(_CONFIGURATION.format(asks=asks, **facts), encoding="utf-8")
    command = [program, "-n", "-f", str(place), "-i", str(folder / "pid")]
    with (folder / "said").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as running:
        try:
            port = folder / "port"
            waited(lambda: (port.exists() and port.read_text().strip()) or running.poll() is not None)
            assert running.poll() is None, (folder / "said").read_text()
            yield Syslog(int(port.read_text()), folder / "log")
        finally:
            running.terminate()
            running.wait(30)
