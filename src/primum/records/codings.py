"""Names of code systems, as OMOP vocabularies and FHIR URIs write them, and the MEDS code of a coding."""

import re

# Most telling first: among the codings of one event the first of these is taken.
_PREFERENCE = (
    *("ICD10CM", "ICD10", "CIM10", "ICD10GM", "ICD9CM", "ICD10PCS", "ICD9PROC", "CCAM", "ATC"),
    *("CVX", "LOINC", "RXNORM", "SNOMED"),
)
_DIAGNOSES = ("ICD10CM", "ICD10", "CIM10", "ICD10GM", "ICD9CM")
_PROCEDURES = ("ICD10PCS", "ICD9PROC", "CCAM")
_CLASSIFICATIONS = (*_DIAGNOSES, *_PROCEDURES, "ATC")
# https://hl7.org/fhir/R4/terminologies-systems.html; French systems: https://smt.esante.gouv.fr.
_URIS = {
    "hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "hl7.org/fhir/sid/icd-10": "ICD10",
    "hl7.org/fhir/sid/icd-10-us": "ICD10CM",
    "hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "hl7.org/fhir/sid/icd-9-cm/diagnosis": "ICD9CM",
    "hl7.org/fhir/sid/icd-9-cm/procedure": "ICD9PROC",
    "hl7.org/fhir/sid/cvx": "CVX",
    "fhir.de/codesystem/bfarm/icd-10-gm": "ICD10GM",
    "fhir.de/codesystem/bfarm/atc": "ATC",
    "www.cms.gov/medicare/coding/icd10": "ICD10PCS",
    "www.nlm.nih.gov/research/umls/rxnorm": "RXNORM",
    "www.whocc.no/atc": "ATC",
    "loinc.org": "LOINC",
    "snomed.info/sct": "SNOMED",
    "smt.esante.gouv.fr/terminologie-ccam": "CCAM",
    "smt.esante.gouv.fr/terminologie-cim-10": "CIM10",
    "smt.esante.gouv.fr/terminologie-atc": "ATC",
    "mos.esante.gouv.fr/nos/tre_r211-actesccam/fhir/tre-r211-actesccam": "CCAM",
    "urn:oid:2.16.840.1.113883.6.1": "LOINC",
    "urn:oid:2.16.840.1.113883.6.3": "ICD10",
    "urn:oid:2.16.840.1.113883.6.4": "ICD10PCS",
    "urn:oid:2.16.840.1.113883.6.73": "ATC",
    "urn:oid:2.16.840.1.113883.6.88": "RXNORM",
    "urn:oid:2.16.840.1.113883.6.90": "ICD10CM",
    "urn:oid:2.16.840.1.113883.6.96": "SNOMED",
    "urn:oid:2.16.840.1.113883.6.103": "ICD9CM",
    "urn:oid:2.16.840.1.113883.6.104": "ICD9PROC",
    "urn:oid:2.16.840.1.113883.12.292": "CVX",
}


def system_name(written: str) -> str:
    """Name a code system in capitals, from a URI of FHIR or a vocabulary of OMOP.

    What is not known keeps the last part of its URI.

    Examples
    --------
    >>> system_name("http://hl7.org/fhir/sid/icd-10-cm"), system_name("RxNorm")
    ('ICD10CM', 'RXNORM')
    >>> system_name("https://hospital.example/CodeSystem/local-lab")
    'LOCAL_LAB'
    """
    place = re.sub(r"^https?://", "", written.lower()).partition("|")[0].rstrip("/")
    last = re.split(r"[/:]", place)[-1]
    return _URIS.get(place) or re.sub(r"[^A-Z0-9]+", "_", last.upper()).strip("_") or "UNKNOWN"


def coded(system: str, code: str) -> str:
    """Return the MEDS code: ``DIAGNOSIS//`` and ``PROCEDURE//`` before ICD and CCAM, nothing before others.

    Examples
    --------
    >>> coded("ICD10CM", "E11.9"), coded("LOINC", "2345-7")
    ('DIAGNOSIS//ICD10CM//E11.9', 'LOINC//2345-7')
    """
    kind = "DIAGNOSIS//" if system in _DIAGNOSES else "PROCEDURE//" if system in _PROCEDURES else ""
    return f"{kind}{system}//{code}"


def is_classification(system: str) -> bool:
    """Tell whether this is ICD, CCAM or ATC: what hospitals code for themselves, and families list."""
    return system in _CLASSIFICATIONS


def preference(system: str) -> int:
    """Rank a system among the codings of one event; the least is taken."""
    return _PREFERENCE.index(system) if system in _PREFERENCE else len(_PREFERENCE)
