"""How each damaged input is read, and what must hold of whatever comes out."""

import io
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console
from tests import tiny
from tests.fuzz import corpus
from tests.fuzz.corpus import SECRET, TOKENS, Files

from primum.cli.main import run
from primum.errors import InputError
from primum.evidence.documents import read_audit
from primum.evidence.signature import read_private_key, read_public_key
from primum.models import wire_connection
from primum.models.doors import open_model
from primum.models.opened import OpenedModel
from primum.models.protocols import Sampling
from primum.models.wire_address import server_at
from primum.records.attributes import describe
from primum.records.families import families_of, read_families
from primum.records.opened import open_records
from primum.records.profile_guess import read_tokenizer
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch
from primum.records.vocabulary import Vocabulary
from primum.report.check import VALID, check
from primum.report.language import Language
from primum.report.show import summary_table
from primum.workflows.recompute import recompute


@dataclass(frozen=True)
class Reader:
    """One way in: folders that it accepts, and how a folder is read and what comes out is checked.

    Attributes
    ----------
    share : int
        How often its turn comes.
    kept : tuple of str
        Files that are never damaged.
    """

    name: str
    seeds: Callable[[], tuple[Files, ...]]
    read: Callable[[Path], None]
    share: int
    kept: tuple[str, ...] = ()


def read_records(path: Path) -> None:
    """Read every patient; ids, order, times and numbers must be what the type says."""
    archive = path / "omop.tar.gz"
    opened = open_records(archive if archive.is_file() else path)
    opened.digest()
    opened.canaries()
    tokenizer, seen = Tokenizer(Vocabulary(("GENDER//F", "LAB//1")), tiny.BARE), set[int]()
    for name in opened.splits():
        for shard in opened.split(name).shards():
            assert seen.isdisjoint(shard.subject_ids.tolist())
            seen.update(shard.subject_ids.tolist())
            assert (np.diff(shard.offsets) > 0).all() and shard.offsets[-1] == len(shard.times)
            later = shard.times[1:].view("int64") >= shard.times[:-1].view("int64")
            later[shard.offsets[1:-1] - 1] = True
            assert later.all() and not np.isinf(shard.values).any()
            "".join(shard.codes).encode()
            describe(shard)
            tokenizer.encode(shard)


def audit(path: Path) -> None:
    """Run the command; it leaves a whole folder, or nothing."""
    out = path.parent / "private" / "out"
    asked = ("--records", str(path / "records"), "--out", str(out), "--only", "data.overlap", "--lang", "fr")
    said = io.StringIO()
    with mock.patch.dict("os.environ", PRIMUM_TRACEBACK="1"), redirect_stdout(said), redirect_stderr(said):
        status = run(["audit", str(path / "model"), *asked])
    assert status in (0, 1, 2, 3), status
    assert str(SECRET) not in said.getvalue() and "Warning" not in said.getvalue()
    assert out.exists() == (status != 2)
    if out.exists():
        assert {"findings.json", "report.html", "run.json", "confidential"} == {
            one.name for one in out.iterdir()
        }
        read_audit(out)
        shutil.rmtree(out)
    elif status == 2:
        raise InputError("The command refused.")


def read_words(path: Path) -> None:
    """Read vocabulary and profile and put a patient through both."""
    tokenizer, _, guessed = read_tokenizer(path)
    "\n".join((*tokenizer.vocabulary.tokens, *guessed)).encode()
    assert sorted(tokenizer.vocabulary.id_of.values()) == list(range(len(tokenizer.vocabulary)))
    batch = tokenizer.encode(corpus.cohort()["train"])
    assert (
        not len(batch.token_ids)
        or 0 <= batch.token_ids.min() <= batch.token_ids.max() < batch.vocabulary_size
    )
    for token in tokenizer.vocabulary.tokens:
        tokenizer.code_of(token)


def read_family_file(path: Path) -> None:
    """Read the families and look for codes of them."""
    families_of(("DIAGNOSIS//ICD10CM//E84.0", "ATC//A10BA02", "é"), read_families(path / "families.toml"))


def ask(opened: OpenedModel, tokens: TokenBatch) -> None:
    """Put every question that the model takes; answers must be finite where the protocol says so."""
    scorer: Any = opened.scorer
    for row in scorer.log_probs(tokens) if hasattr(scorer, "log_probs") else ():
        assert (row <= 0).all() and not np.isnan(row).any()
    if hasattr(scorer, "embed"):
        assert scorer.embed(tokens).shape[0] == len(tokens)
    for name in ("recorded",):
        if hasattr(opened.answering, name):
            times = np.full(len(tokens.token_ids), np.datetime64("2020-01-01"), "datetime64[us]")
            getattr(opened.answering, name)(tokens, times)


def read_model(path: Path) -> None:
    """Open a folder and score a batch."""
    ask(open_model(path), tiny.random_batch([3, 2], vocabulary=TOKENS))


def read_recording(path: Path) -> None:
    """Open the folder and ask about both patients."""
    ask(open_model(path), corpus.RECORDED)


class _Server:
    """Answers ``/v1/<name>`` with the bytes of ``<name>.http`` in a folder, whatever they are."""

    def __init__(self) -> None:
        self.folder = Path()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self.listening.accept()[0] as connection:
                try:
                    connection.settimeout(5)
                    self._reply(connection)
                except OSError:
                    """The client hung up, as it should."""

    def _reply(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            name, length = stream.readline().split()[1].rpartition(b"/")[2].decode(), 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            stream.read(length)
            connection.sendall((self.folder / f"{name}.http").read_bytes())


server = cache(_Server)


_ASKED = tiny.random_batch([3, 0, 2], vocabulary=TOKENS, seed=2)


_GROUPS = np.arange(TOKENS)[None] == np.array([[3], [5]])


def read_server(path: Path) -> None:
    """Ask a server on a real socket everything that it offers."""
    server().folder = path
    with mock.patch.object(wire_connection, "_PAUSES", (0.0, 0.0, 0.0)):
        opened = open_model(server().url)
        asked: Any = opened.scorer
        assert all(np.isfinite(row).all() and (row <= 0).all() for row in asked.log_probs(_ASKED))
        if hasattr(asked, "token_scores"):
            asked.token_scores(_ASKED)
        if hasattr(asked, "log_masses"):
            assert all((row <= 1e-6).all() for row in asked.log_masses(_ASKED, _GROUPS))
        if hasattr(asked, "embed"):
            asked.embed(_ASKED)
        if hasattr(asked, "continue_from"):
            how = {"samples": 2, "max_tokens": 3, "sampling": Sampling(stop=(7,)), "seed": 1}
            for batch in asked.continue_from(_ASKED, **how):
                assert not len(batch.token_ids) or batch.token_ids.max() < len(opened.tokenizer.vocabulary)


def read_report(path: Path) -> None:
    """Read an audit back and show it in French."""
    audit, _ = read_audit(path)
    language = Language("fr")
    Console(file=io.StringIO(), width=120).print(summary_table(audit, language, width=120))


def read_signature(path: Path) -> None:
    """Read keys and token and check; what was altered must not be found valid."""
    server_at("https://localhost/", token_file=path / "token")
    private, public = read_private_key(path / "private.pem"), read_public_key(path / "public.pem")
    intact = all(
        (path / name).read_bytes() == corpus.signed()[name] for name in ("findings.json", "report.html")
    )
    assert intact or check(path, public).status != VALID
    assert len(private.sign(b"")) == 64


def read_numbers(path: Path) -> None:
    """Recompute the findings."""
    recompute(path)


READERS = (
    Reader("MEDS", corpus.meds, read_records, 6),
    Reader("OMOP tables", corpus.omop_folders, read_records, 6),
    Reader("OMOP archive", corpus.omop_archives, read_records, 3),
    Reader("FHIR", corpus.fhir_folders, read_records, 6),
    Reader("vocabularies", corpus.vocabularies, read_words, 7),
    Reader("token profile", corpus.profiles, read_words, 4, ("vocab.json",)),
    Reader("families", corpus.families, read_family_file, 2),
    Reader("model folder", corpus.models, read_model, 6, ("vocab.json", "token_profile.json")),
    Reader("recorded answers", corpus.recordings, read_recording, 5, ("vocab.json", "token_profile.json")),
    Reader("wire", corpus.replies, read_server, 6),
    Reader("findings", corpus.audits, read_report, 3),
    Reader("signature and keys", corpus.signatures, read_signature, 3),
    Reader("kept numbers", corpus.kept_numbers, read_numbers, 3, ("findings.json",)),
    Reader("audit command", corpus.audited, audit, 1),
)
