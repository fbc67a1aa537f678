"""The page for a data-protection officer: careful words, and everything such a reader asks first."""

from dataclasses import replace

import pytest
from tests.report import samples, suite_samples

from primum.evidence.audit import Audit
from primum.evidence.finding import Verdict
from primum.report.answers import answer
from primum.report.html import render
from primum.report.language import Language
from primum.report.summary import summary

ENGLISH = Language("en")


def told(audit: Audit, **run: object) -> dict[str, str]:
    return {row.title: " ".join(row.lines) for row in summary(audit, run, language=ENGLISH)}


def test_it_says_what_by_whom_and_of_whom() -> None:
    rows = told(samples.leaking(), date="2026-11-22", signer="ab" * 32)
    assert list(rows) == [
        "What was audited, and by whom",
        "Who is concerned",
        "What it means for data protection",
        "What to do next",
        "What was not tested",
    ]
    audited = rows["What was audited, and by whom"]
    assert (
        "ehr-llama-0.9M, whose fingerprint begins with 3f9a3f9a3f9a; with Primum 0.1.0, November 22"
        in audited
    )
    assert "ab" * 32 in audited
    assert rows["Who is concerned"].startswith("300 patients whose records trained the model.")
    assert "HIV codes" in rows["Who is concerned"]
    assert "Not signed" in told(samples.leaking())["What was audited, and by whom"]


@pytest.mark.parametrize(
    ("audit", "said", "unsaid"),
    [
        (samples.leaking(), "found it not insignificant", "evidence neither way"),
        (samples.clean(), "does not prove it", "personal data concerning health"),
        (samples.inconclusive(), "evidence neither way", "not insignificant"),
        (samples.confounded(), "evidence neither way", "not insignificant"),
        (
            samples.audit(samples.finding("data.overlap", "tainted", primary=True)),
            "evidence neither way",
            "breach",
        ),
    ],
)
def test_what_it_means_follows_the_answer(audit: Audit, said: str, unsaid: str) -> None:
    meaning = told(audit)["What it means for data protection"]
    assert meaning.startswith("EDPB Opinion 28/2024 asks")
    assert said in meaning
    assert unsaid not in meaning


def test_attacks_left_out_are_named() -> None:
    missing = "Attacks that this model or this command left out: Reading the model's inner summaries."
    assert missing in told(suite_samples.clean_suite())["What was not tested"]
    assert "left out" not in told(suite_samples.leaking_suite())["What was not tested"]


def test_few_patients_are_not_counted_out() -> None:
    small = replace(samples.leaking(), patients={"members": 3, "held_out": 1000})
    assert told(small)["Who is concerned"].startswith("<\u00a05 patients")


def test_it_opens_the_page_and_is_a_printed_page_of_its_own() -> None:
    text = render(samples.leaking(), samples.RUN, language=ENGLISH)
    assert text.index('<section id="summary"') < text.index("<h1") < text.index("What was not tested")
    assert text.index("What was not tested") < text.index('<section id="answer"')
    assert "#summary { break-after: page; }" in text[text.index("@media print") :]


@pytest.mark.parametrize(
    ("verdict", "headline", "said", "unsaid"),
    [
        (
            "leak",
            "can be drawn out of what hospitals send",
            "what hospitals send as personal",
            "of the model",
        ),
        (
            "none_found",
            "No patient was found in what hospitals send",
            "smaller batches",
            "personal data conc",
        ),
        ("inconclusive", "cannot tell whether what hospitals send", "evidence neither way", "batches"),
    ],
)
def test_updates_have_words_of_their_own(verdict: Verdict, headline: str, said: str, unsaid: str) -> None:
    finding = replace(
        samples.finding("updates.reconstruction", verdict, primary=True), settings={"updates": 7}
    )
    audit = samples.audit(finding)
    rows = told(audit)
    assert "Captured updates, 7 in all" in rows["What was audited, and by whom"]
    assert "patients of the hospitals that sent updates" in rows["Who is concerned"]
    meaning = rows["What it means for data protection"]
    assert "whatever becomes of the model" in meaning and "EDPB" not in meaning
    assert said in meaning
    assert unsaid not in meaning.replace("becomes of the model", "")
    assert "primum audit asks" in rows["What was not tested"]
    assert headline in answer(audit, language=ENGLISH).headline
