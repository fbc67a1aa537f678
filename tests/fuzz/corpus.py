"""Valid inputs of every reader, as the bytes of their files."""

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests import tiny
from tests.report import samples

from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.claims import Measurements, Overlap, findings_of, order_of
from primum.evidence.contrast import Frame
from primum.evidence.identity import ModelRef
from primum.evidence.measured import Curve, Guesses, Measured
from primum.evidence.membership import CanaryScores, PatientScores
from primum.evidence.signature import sign
from primum.models.hf_folder import save_folder
from primum.records.histories import Histories
from primum.records.opened import open_records
from primum.records.profile import TokenProfile
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary
from primum.report.files import write_audit
from primum.report.language import Language
from primum.workflows.confidential import write_measurements

SECRET = 777_000_111


TOKENS = 20


Files = Mapping[str, bytes]


def files_of(folder: Path) -> Files:
    """Every file of a folder by its relative name."""
    files = (one for one in sorted(folder.rglob("*")) if one.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def made(write: Callable[[Path], object]) -> Files:
    """Take the files that a function writes into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return files_of(Path(folder))


def put(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def parquet(rows: Mapping[str, Any]) -> bytes:
    """Write a table."""
    stream = io.BytesIO()
    pl.DataFrame(rows).write_parquet(stream)
    return stream.getvalue()


@cache
def cohort() -> dict[str, Histories]:
    """Six and four patients, two of the former canaries or their twins."""
    return tiny.cohort(train=6, held_out=4)


def meds() -> tuple[Files, ...]:
    """Two splits with a list of splits and of canaries."""

    def write(folder: Path) -> None:
        tiny.records_folder(folder / "meds", cohort())
        ids = [int(one) for one in cohort()["train"].subject_ids[:2]]
        plan = {"subject_id": ids, "canary": [0, 0], "copies": [1, 1], "planted": [True, False]}
        (folder / "meds/metadata/canaries.parquet").write_bytes(parquet(plan))

    plain = {name.removeprefix("meds/"): content for name, content in made(write).items()}
    events = {
        "subject_id": [SECRET, SECRET, 5],
        "time": np.array(["NaT", "2018-01-01", "2019-01-01"], "datetime64[us]"),
        "code": ["GENDER//F", "DIAGNOSIS//ICD10CM//B20", "LAB//1"],
        "numeric_value": [None, None, 1.5],
    }
    return plain, {"data/train/0.parquet": parquet(events)}


def omop_tables() -> dict[str, str]:
    """Four persons with a row or two in every table."""
    event = "person_id,{0}_concept_id,{1}_date,{1}_datetime,{0}_source_concept_id,value_as_number,"
    rows = (
        f"value_as_concept_id\n{SECRET},201826,2019-05-02,2019-05-02 10:00:00,0,1.5,\n"
        "3,0,2018-01-01,,45533023,,201826\n5,201826,2020-01-01,,0,,\n7,0,2020-01-01,,0,,\n"
    )
    names = {
        "visit_occurrence": ("visit", "visit_start"),
        "condition_occurrence": ("condition", "condition_start"),
        "drug_exposure": ("drug", "drug_exposure_start"),
        "procedure_occurrence": ("procedure", "procedure"),
        "measurement": ("measurement", "measurement"),
        "observation": ("observation", "observation"),
    }
    return {
        "person": "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime,"
        f"race_concept_id,care_site_id\n{SECRET},8532,1950,2,28,,8527,12\n"
        "3,8507,1974,,,1974-12-06 08:30:00,0,\n5,8551,2001,,,,,\n7,8551,2002,,,,,\n",
        **{table: event.format(*pair) + rows for table, pair in names.items()},
        "death": "person_id,death_date,death_datetime\n3,2018-02-01,2018-02-01 23:59:59+02\n",
        "concept": "concept_id,vocabulary_id,concept_code\n201826,SNOMED,44054006\n45533023,ICD10CM,E11.9\n",
        "subject_splits": f"subject_id,split\n{SECRET},train\n3,train\n5,held_out\n7,held_out\n",
    }


def omop_folders() -> tuple[Files, ...]:
    """The same as CSV, as TSV, compressed and as parquet."""
    tables = omop_tables()
    frames = {name: pl.read_csv(io.StringIO(text), try_parse_dates=True) for name, text in tables.items()}
    return (
        {f"{name}.csv": text.encode() for name, text in tables.items()},
        {f"{name}.tsv": text.replace(",", "\t").encode() for name, text in tables.items()},
        {f"{name}.csv.gz": gzip.compress(text.encode(), 1) for name, text in tables.items()},
        {f"{name}.parquet": parquet(frame.to_dict(as_series=True)) for name, frame in frames.items()},
    )


def omop_archives() -> tuple[Files, ...]:
    """The CSV in a ``.tar.gz``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        for name, text in omop_tables().items():
            member = tarfile.TarInfo(f"cdm/{name}.csv")
            member.size = len(text.encode())
            opened.addfile(member, io.BytesIO(text.encode()))
    return ({"omop.tar.gz": gzip.compress(stream.getvalue(), 1)},)


def fhir_folders() -> tuple[Files, ...]:
    """Four patients with an event of most kinds, as NDJSON and as one bundle."""
    who = {"subject": {"reference": f"Patient/a{SECRET}"}}
    sct = {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}
    drug = {"reference": "Medication/m1"}
    patients: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": f"a{SECRET}", "gender": "female", "birthDate": "1950-02",
         "deceasedDateTime": "2021-03-01T23:30:00+01:00",
         "managingOrganization": {"reference": "Organization/n"}},
        *({"resourceType": "Patient", "id": name, "birthDate": "1974"} for name in ("b.2", "c-3", "d")),
    ]  # fmt: skip
    events: list[dict[str, Any]] = [
        {"resourceType": "Medication", "id": "m1", "code": sct},
        {"resourceType": "Condition", **who, "code": sct, "onsetPeriod": {"start": "2011-01-01"},
         "verificationStatus": sct},
        {"resourceType": "Encounter", **who, "period": {"start": "2012-05-06T07:08Z"},
         "class": {"code": "IMP"}},
        {"resourceType": "Observation", **who, "status": "final", "code": sct,
         "issued": "2013-01-02T00:00:00Z", "valueQuantity": {"value": 5.5},
         "component": [{"code": sct, "valueCodeableConcept": sct}]},
        {"resourceType": "MedicationRequest", **who, "medicationReference": drug, "authoredOn": "2014-01-01"},
        *({"resourceType": "Immunization", "patient": {"reference": f"Patient/{name}"}, "vaccineCode": sct,
           "occurrenceDateTime": f"201{day}-01-01"} for name in ("b.2", "c-3", "d") for day in (5, 6)),
    ]  # fmt: skip
    entries = [{"fullUrl": f"urn:uuid:{one.get('id')}", "resource": one} for one in (*patients, *events)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return (
        {
            "Patient.ndjson": b"\n".join(json.dumps(one).encode() for one in patients),
            "events.ndjson": b"\n".join(json.dumps(one).encode() for one in events),
            "subject_splits.csv": b"subject_id,split\na%d,train\nb.2,train\nc-3,held_out\nd,held_out\n"
            % SECRET,
        },
        {"bundle.json": json.dumps(bundle).encode()},
    )


@cache
def _audited() -> Files:
    """A model that knows the codes of every seed here."""
    codes: set[str] = set()
    for files in (*meds(), omop_folders()[0], fhir_folders()[0]):
        with tempfile.TemporaryDirectory() as place:
            put(Path(place), files)
            opened = open_records(Path(place))
            for name in opened.splits():
                codes.update(*(shard.codes for shard in opened.split(name).shards()))
    tokenizer = Tokenizer(Vocabulary(tuple(sorted(codes))), tiny.BARE)
    return made(lambda folder: save_folder(folder, tiny.build(vocabulary=len(codes)), tokenizer))


def audited() -> tuple[Files, ...]:
    """Records of each format beside a model."""
    model = {f"model/{name}": content for name, content in _audited().items()}
    records = (meds()[0], omop_folders()[0], fhir_folders()[0])
    return tuple({**model, **{f"records/{name}": one for name, one in files.items()}} for files in records)


def vocabularies() -> tuple[Files, ...]:
    """One folder for each of the six forms; the specials of three models among the tokens."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[EOS]", "AGE_0-65", "AGE_65+", "GAP//1d", "GAP//2d", "Q1", "Q2",
              "GENDER//F", "DIAGNOSIS//ICD10CM//B20", "LAB//50912//mEq/L", "é"]  # fmt: skip
    ids = {token: index for index, token in enumerate(tokens)}
    lines = "".join(f"{token}\n" for token in tokens).encode()
    word_level = {
        "model": {"type": "WordLevel", "vocab": ids},
        "added_tokens": [{"id": 0, "content": "[PAD]"}],
    }
    entries = [
        {"code": "LAB//1", "type": "code", "tokenization": {}},
        {
            "code": "LAB//1",
            "type": "numerical_range",
            "tokenization": {"unit": "g", "range_start": 0, "range_end": 2},
        },
        {"code": "LAB//2", "type": "categorical", "tokenization": {"categories": ["a", "b"]}},
    ]
    return (
        {"vocab.json": json.dumps(ids).encode()},
        {"tokenizer.json": json.dumps(word_level).encode()},
        {"tokenizer.json": json.dumps({"tokenizer_vocab": ids}).encode()},
        {"vocab_t6.csv": lines},
        {"labels.csv": lines},
        {"codes.parquet": parquet({"code": tokens[1:], "code/vocab_index": list(range(1, len(tokens)))})},
        {"tokenizer_config.json": json.dumps({"tokens": entries}).encode()},
    )


def profiles() -> tuple[Files, ...]:
    """A profile with every key, and its vocabulary."""
    profile = TokenProfile(
        value_tokens=("Q1", "Q2"), value_edges={"LAB//1": (1.5,)}, code_prefixes={"DIAGNOSIS//": "DX/"}
    )
    tokenizer = Tokenizer(Vocabulary((*profile.special_tokens(), "DX/ICD10CM//B20")), profile)

    def write(folder: Path) -> None:
        tokenizer.vocabulary.write(folder / "vocab.json")
        profile.write(folder / "token_profile.json")

    return (made(write),)


def families() -> tuple[Files, ...]:
    """A file of two families."""
    return (
        {
            "families.toml": b'[rare]\nICD10CM = ["E84"]\n'.replace(b"10CM", b"10")
            + b'[b]\nATC = ["A10-A11", "B"]\n'
        },
    )


def models() -> tuple[Files, ...]:
    """A small model, its weights in one file and in two."""
    tokenizer = Tokenizer(Vocabulary(tuple(f"c{token}" for token in range(TOKENS))), tiny.BARE)
    model = tiny.build(vocabulary=TOKENS)

    def write_parts(folder: Path) -> None:
        save_folder(folder, model, tokenizer)
        (folder / "model.safetensors").unlink()
        module: Any = model.module
        module.save_pretrained(folder, max_shard_size="8KB")

    return made(lambda folder: save_folder(folder, model, tokenizer)), made(write_parts)


RECORDED = tiny.random_batch([4, 3], vocabulary=TOKENS, seed=1, first_subject=SECRET)


def recordings() -> tuple[Files, ...]:
    """Scores, embeddings and trajectories of two patients, tokens as ids and as names."""
    names = [f"c{token}" for token in range(TOKENS)]
    ids = [SECRET, SECRET + 1]
    shown = [RECORDED.tokens_of(row)[:2].tolist() for row in (0, 1)]
    whole = {
        "vocab.json": json.dumps({name: number for number, name in enumerate(names)}).encode(),
        "token_profile.json": b"{}",
        "scores.parquet": parquet({"subject_id": ids, "log_probs": [[-1.0, -2.0, -0.5], [-1.0, 0.0]]}),
        "embeddings.parquet": parquet({"subject_id": ids, "embedding": [[0.5, 1.5], [1.0, -2.0]]}),
        "trajectories.parquet": parquet(
            {"patient_id": ids, "event_tokens": shown, "predicted_tokens": [[1, 2], [3]]}
        ),
    }
    named = parquet(
        {
            "patient_id": ids,
            "event_tokens": [[names[token] for token in row] for row in shown],
            "predicted_tokens": [["c1", "c2"], ["c3"]],
        }
    )
    return whole, {**whole, "trajectories.parquet": named}


def replies() -> tuple[Files, ...]:
    """What an honest server sends, with a length and in chunks."""
    described = {
        "protocols": ["log_probs", "token_scores", "log_masses", "embed", "continue_from"],
        "vocabulary": [f"c{token}" for token in range(TOKENS)],
        "context": 16,
        "declared_identity": {"name": "peer", "digest": "ab" * 32},
        "token_profile": {},
        "width": 3,
    }
    moments = {"log_probs": [-1.0, -2.0], "means": [-1.0, -1.0], "deviations": [0.5, 0.5]}
    answers: dict[str, tuple[dict[str, Any], ...]] = {
        "log_probs": ({"log_probs": [-1.0, -2.0]}, {"log_probs": [-0.5]}),
        "token_scores": (moments, {name: values[:1] for name, values in moments.items()}),
        "log_masses": ({"log_masses": [[-1.0, None]] * 3}, {"log_masses": [[-1.0, -2.0]] * 2}),
        "embed": ({"embedding": [0.0, 1.0, 2.0]}, {"embedding": [0.0, 1.0, 2.5]}),
        "continue_from": ({"samples": [[1, 2], []]}, {"samples": [[3], [4]]}),
    }
    bodies = {"model": json.dumps(described).encode() + b"\n"}
    for name, (first, second) in answers.items():
        lines = ({"id": 0, **first}, {"id": 2, **second}, {"end": 2})
        bodies[name] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    head, chunked = b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
    return (
        {
            f"{name}.http": head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            for name, body in bodies.items()
        },
        {
            f"{name}.http": head + chunked + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
            for name, body in bodies.items()
        },
    )


def audits() -> tuple[Files, ...]:
    """Audits with and without harm, plots and hostile names."""
    return tuple(
        {"findings.json": canonical_bytes(make()), "run.json": canonical_bytes(samples.RUN)}
        for make in (samples.leaking, samples.with_canaries, samples.hostile)
    )


@cache
def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@cache
def signed() -> Files:
    def write(folder: Path) -> None:
        write_audit(folder, samples.clean(), run=samples.RUN, language=Language("en"))
        (folder / "report.html").write_bytes(b"<!doctype html><p>report</p>")
        sign(folder, _key())
        private = _key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = _key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "private.pem").write_bytes(private)
        (folder / "public.pem").write_bytes(public)
        (folder / "token").write_bytes(b"a-token\n")

    return made(write)


def signatures() -> tuple[Files, ...]:
    """A signed audit, both keys, and the token of a model server."""
    return (signed(),)


def kept_numbers() -> tuple[Files, ...]:
    """Findings beside the confidential folder from which they were made."""
    rng, size = np.random.default_rng(1), 40
    is_member = np.arange(size) < size // 2
    scores = PatientScores(
        is_member,
        rng.normal(size=size),
        rng.integers(0, 3, size),
        {name: rng.normal(size=size) + is_member for name in ("loss", "min_k", "min_k_pp")},
        {"sex=F": rng.random(size) < 0.5},
    )
    guessed = Guesses(("hiv",), rng.normal(size=(size, 1)), rng.random((size, 1)) < 0.4, None)
    curve = Curve((0.0, 1.5), rng.random((size, 2)), "nats")
    family = Measured(
        np.arange(size),
        scores={"knowledge.depth": rng.normal(size=size), "knowledge.cost": rng.random(size)},
        guesses={"sensitive.inferred": guessed},
        curves={"knowledge.depth": {"curve": curve}},
    )
    canaries = CanaryScores(rng.normal(size=20), np.arange(20) % 2 == 0, np.repeat((1, 16), 10))
    frame = Frame("m" * 64, "d" * 64, "scores", "observed", 3)
    given = Measurements(scores, [family], canaries, frame, Overlap(0, size // 2, size // 2), {})

    def write(folder: Path) -> None:
        audit = Audit(ModelRef("m", "m" * 64, "computed", {}), {}, {}, "primum", 3, findings_of(given))
        (folder / "confidential").mkdir()
        (folder / "findings.json").write_bytes(canonical_bytes(audit))
        write_measurements(folder / "confidential", given, order=order_of(given))

    return (made(write),)
