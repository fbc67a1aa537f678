"""The codes of the synthetic population: laboratory tests, practice changes, the long tail of rare diagnoses.

Codes only, no licensed descriptions: ICD-10-CM and ICD-10-PCS (public domain), LOINC (Regenstrief Institute),
ATC (WHO Collaborating Centre for Drug Statistics Methodology).
"""

from typing import NamedTuple

SITES = ("A", "B")
SEXES = ("F", "M")
BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
GENDERS = tuple(f"GENDER//{sex}" for sex in SEXES)
SITE_CODES = tuple(f"SITE//{site}" for site in SITES)
VISITS = ("VISIT//OUTPATIENT", "ADMISSION//URGENT", "ADMISSION//ELECTIVE")
DISCHARGES = ("DISCHARGE//HOME", "DISCHARGE//FACILITY")
DIAGNOSIS, MEDICATION = "DIAGNOSIS//ICD10CM//", "MEDICATION//ATC//"
PROCEDURE, LAB = "PROCEDURE//ICD10PCS//", "LAB//LOINC//"


class Lab(NamedTuple):
    """A laboratory test: LOINC codes that sites use, median of healthy people, spread of its logarithm."""

    codes: str
    median: float
    spread: float


LABS = {
    "albumin": Lab("1751-7|61151-7", 42, 0.08),
    "albuminuria": Lab("9318-7|14959-1", 12, 0.6),
    "alt": Lab("1742-6|1743-4", 24, 0.35),
    "ast": Lab("1920-8|30239-8", 23, 0.3),
    "bilirubin": Lab("1975-2|14631-6", 0.7, 0.3),
    "bnp": Lab("30934-4|33762-6", 60, 0.6),
    "calcium": Lab("17861-6|2000-8", 9.4, 0.03),
    "cd4": Lab("24467-3", 700, 0.3),
    "cea": Lab("2039-6", 1.8, 0.5),
    "creatinine": Lab("2160-0|38483-4", 0.9, 0.18),
    "crp": Lab("1988-5|30522-7", 2, 0.7),
    "egfr": Lab("33914-3|62238-1", 88, 0.15),
    "esr": Lab("4537-7|30341-2", 12, 0.5),
    "ethanol": Lab("5643-2", 8, 0.8),
    "glucose": Lab("2345-7|2339-0", 95, 0.1),
    "haemoglobin": Lab("718-7|20509-6", 13.9, 0.08),
    "hba1c": Lab("4548-4|17856-6", 5.4, 0.07),
    "hcg": Lab("21198-7", 40, 1.0),
    "hcv_rna": Lab("11011-4", 2e4, 1.2),
    "hdl": Lab("2085-9", 52, 0.2),
    "hiv_rna": Lab("20447-9|25836-8", 60, 1.2),
    "inr": Lab("6301-6|34714-6", 1.0, 0.07),
    "lactate": Lab("2524-7|32693-4", 1.1, 0.3),
    "ldl": Lab("13457-7|18262-6", 110, 0.22),
    "leukocytes": Lab("6690-2|26464-8", 6.8, 0.22),
    "lithium": Lab("14334-7", 0.7, 0.2),
    "opiates": Lab("3879-4", 150, 0.8),
    "phosphate": Lab("2777-1", 3.5, 0.12),
    "platelets": Lab("777-3|26515-7", 245, 0.2),
    "potassium": Lab("2823-3|6298-4", 4.2, 0.07),
    "pressure": Lab("8480-6", 122, 0.08),
    "procalcitonin": Lab("33959-8|75241-0", 0.05, 0.8),
    "psa": Lab("2857-1", 1.1, 0.6),
    "pth": Lab("2731-8", 40, 0.4),
    "rheumatoid_factor": Lab("11572-5", 9, 0.6),
    "saturation": Lab("59408-5|2708-6", 97.5, 0.012),
    "sodium": Lab("2951-2|2947-0", 139.5, 0.015),
    "triglycerides": Lab("2571-8", 120, 0.4),
    "troponin": Lab("10839-9|6598-7", 0.01, 0.8),
    "tsh": Lab("3016-3|11580-8", 1.8, 0.4),
    "urea": Lab("3094-0|22664-7", 14, 0.25),
    "weight": Lab("29463-7", 76, 0.16),
}

# Old practice -> new practice, adopted at a date that the population draws.
SUCCESSORS = {
    MEDICATION + "A10BB12": MEDICATION + "A10BK03",
    MEDICATION + "A10BH01": MEDICATION + "A10BJ06",
    MEDICATION + "B01AA03": MEDICATION + "B01AF02",
    MEDICATION + "C09AA05": MEDICATION + "C09DX04",
    MEDICATION + "C10AX09": MEDICATION + "C10AX13",
    MEDICATION + "J05AR06": MEDICATION + "J05AR20",
    MEDICATION + "J05AP01": MEDICATION + "J05AP55",
    MEDICATION + "L01XA02": MEDICATION + "L01FF02",
    MEDICATION + "N07BC02": MEDICATION + "N07BC51",
    MEDICATION + "R03BB01": MEDICATION + "R03AL08",
    LAB + "10839-9": LAB + "89579-7",
    LAB + "6598-7": LAB + "67151-1",
}

TAIL_BLOCKS = (
    "A02-A09 A15-A19 A26-A28 D55-D58 D60-D61 D80-D84 E20-E27 E70-E72 G10-G13 G50-G59 H15-H19 H30-H35 H46-H49 "
    "H60-H62 I70-I73 I80-I83 J30-J34 J60-J67 K20-K22 K35-K38 K50-K52 K55-K57 L10-L13 L20-L29 L40-L44 "
    "M30-M35 M60-M63 M65-M67 N00-N05 Q20-Q25 Q60-Q64"
)


def tail_codes() -> tuple[str, ...]:
    """Return the rare diagnoses: ``.8`` and ``.9`` of categories outside every sensitive family."""
    categories = []
    for block in TAIL_BLOCKS.split():
        first, last = block.split("-")
        categories += [f"{first[0]}{number:02d}" for number in range(int(first[1:]), int(last[1:]) + 1)]
    return tuple(f"{DIAGNOSIS}{category}.{digit}" for category in categories for digit in "89")
