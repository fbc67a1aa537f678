"""The latent diseases of the synthetic population: who gets them, how they progress, what they write.

Prevalences and effects are invented, plausible at the order of magnitude only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

YEAR = 365.25


@dataclass(frozen=True)
class Stage:
    """What one stage writes in a record: slots separated by spaces, interchangeable codes separated by ``|``.

    A lab is named as in the catalogue, with a shift in spreads of its log: ``hba1c+3`` is clearly raised.
    """

    diagnoses: str = ""
    labs: str = ""
    drugs: str = ""
    procedures: str = ""


@dataclass(frozen=True)
class Programme:
    """A latent disease.

    Attributes
    ----------
    share : float
        Probability at the worst age, before sex and comorbidity, in [0, 1].
    age, spread : float
        Worst age and how far around it the disease is common, in years.
    female : float
        Weight of women against men, in [0, 1]; .5 is equal, 1 is women only.
    pace : float
        Days in a stage, median over patients.
    stages : tuple of Stage
    after : mapping of programme name to factor
        How much more likely the disease is, and never earlier, in patients who have that other one.
    acute : bool
        It starts at some visit, brings an admission when `admits`, and is over after the last stage.
    lethal : float
        Probability to die after the last visit when in the last stage.
    """

    name: str
    share: float
    age: float
    spread: float
    pace: float
    stages: tuple[Stage, ...]
    female: float = 0.5
    after: Mapping[str, float] = field(default_factory=dict)
    acute: bool = False
    admits: bool = False
    lethal: float = 0.0


_DIABETES = (
    Stage("R73.03|R73.09", "glucose+1 hba1c+1", "A10BA02"),
    Stage("E11.9|E11.65", "glucose+3 hba1c+3 albuminuria", "A10BA02 A10BB12|A10BH01"),
    Stage("E11.65|E11.9 E11.42|E11.319", "glucose+5 hba1c+5", "A10AE04|A10AB05 A10BA02"),
    Stage("E11.22 E11.51|E11.621", "hba1c+5 albuminuria+3 creatinine+1", "A10AE04|A10AB05 A10AB01"),
)
_KIDNEY = (
    Stage("N18.30|N18.31", "creatinine+2 egfr-3 urea+1"),
    Stage("N18.4 D63.1", "creatinine+4 egfr-6 potassium+1 haemoglobin-2 pth+2", "V03AE02"),
    Stage("N18.6 Z99.2", "creatinine+8 urea+4 phosphate+4 pth+4", "B03XA01 V03AE02", "5A1D70Z 02HV33Z"),
)
_LUNG = (
    Stage("J44.9|J43.9 F17.210", "saturation-1", "R03AC02 R03BB01|R03BB04"),
    Stage("J44.1|J44.0", "saturation-3 leukocytes+1 crp+1", "R03AK06|R03AK07 H02AB06 R03BB04"),
    Stage("J96.11 Z99.81", "saturation-5", "R03AK06|R03AK07 V03AN01", "5A09357"),
)
_HEART = (
    Stage("I50.9|I50.22", "bnp+2 potassium sodium", "C03CA01 C09AA05|C07AB07"),
    Stage("I50.23|I50.33", "bnp+4 creatinine+1 sodium-2", "C03CA01 C03DA01 C07AB07|C07AG02", "B245ZZZ"),
    Stage("I50.84 I42.0", "bnp+6 sodium-3 urea+3", "C03CA01 C01AA05 C09DX04", "0JH609Z|02HA0QZ"),
)
_HIV = (
    Stage("B20 Z21", "hiv_rna+5 cd4-2", "J05AR06|J05AR13"),
    Stage("B20 Z79.899", "hiv_rna cd4", "J05AR06|J05AR13"),
    Stage("B20 B59|B37.81", "hiv_rna+3 cd4-5", "J01EE01 J05AR10"),
)
_ALCOHOL = (
    Stage("F10.10", "ast+1 ethanol+1"),
    Stage("F10.20|F10.230", "ast+3 alt+2 ethanol+2", "N07BB03|N07BB04 A11DA01", "HZ2ZZZZ"),
    Stage("K70.30|K70.31 F10.20", "bilirubin+4 inr+4 albumin-3 platelets-3", "C03DA01 A06AD11", "0W9G3ZZ"),
)
_OPIOID = (
    Stage("F11.10|G89.4", "opiates+1", "N02AA05|N02AX02"),
    Stage("F11.20", "opiates+3", "N07BC02|N07BC01", "HZ81ZZZ"),
    Stage("T40.2X1A|T40.1X1A F11.23", "opiates+5 saturation-4", "V03AB15", "5A1935Z"),
)
_DEPRESSION = (
    Stage("F32.9|F32.1", "tsh", "N06AB10|N06AB06|N06AX16"),
    Stage("F33.1|F33.9 F41.1", "", "N06AB10|N06AX21 N05BA12|N05BB01"),
    Stage("F33.2|F32.2 R45.851", "", "N06AX11|N06AX21 N05AH04", "GZB4ZZZ"),
)
_CANCER_DRUGS = "V03AF03|A04AA01 L03AA02"


def _cancer(site: str, marker: str, surgery: str, drugs: str) -> tuple[Stage, ...]:
    """Stages of a tumour: found and operated on, treated, spread."""
    return (
        Stage(f"{site} Z51.11", f"{marker}+2 haemoglobin", "", surgery),
        Stage(f"{site} Z51.11 D70.1", "leukocytes-3 haemoglobin-2", f"{drugs} {_CANCER_DRUGS}", "3E03305"),
        Stage(f"{site} C78.00|C79.51|C78.7 Z51.5", f"{marker}+5 calcium+2 albumin-3", f"{drugs} N02AA01"),
    )


PROGRAMMES = (
    Programme(
        "general",
        1.0,
        50,
        1e6,
        1e6,
        (
            Stage(
                "Z00.00|Z23|M54.50|R05.9|J06.9|R10.9|M25.561|R51.9|K21.9",
                "glucose haemoglobin weight pressure",
                "N02BE01|M01AE01|A02BC01|A02BC02|J01CA04|R06AE07",
                "B020ZZZ|BW40ZZZ|4A02X4Z",
            ),
        ),
    ),
    Programme(
        "hypertension",
        0.55,
        78,
        26,
        1600,
        (
            Stage("I10", "pressure+2 potassium", "C09AA05|C09CA01|C08CA01"),
            Stage("I10 I11.9|I13.10", "pressure+3 creatinine+1 sodium", "C09CA01|C09AA05 C08CA01 C03AA03"),
        ),
    ),
    Programme(
        "lipids",
        0.4,
        68,
        22,
        2000,
        (
            Stage("E78.5|E78.00", "ldl+2 hdl triglycerides+1", "C10AA05|C10AA01"),
            Stage("E78.2", "ldl+1 triglycerides+2", "C10AA07|C10AA05 C10AX09"),
        ),
        after={"hypertension": 1.4},
    ),
    Programme("diabetes", 0.22, 68, 22, 800, _DIABETES, after={"hypertension": 1.5, "lipids": 1.3}),
    Programme("kidney", 0.07, 75, 22, 700, _KIDNEY, after={"diabetes": 3.5, "hypertension": 2.0}, lethal=0.1),
    Programme("copd", 0.12, 70, 16, 900, _LUNG, female=0.45, lethal=0.08),
    Programme(
        "asthma",
        0.08,
        25,
        25,
        1500,
        (
            Stage("J45.909|J45.20", "", "R03AC02 R03BA02|R03AK06"),
            Stage("J45.901|J45.41", "saturation-1", "R03AK07 H02AB06 R03DC03"),
        ),
        female=0.6,
    ),
    Programme(
        "coronary",
        0.16,
        75,
        18,
        900,
        (
            Stage("I25.10", "troponin ldl", "B01AC06 C07AB07|C07AB02"),
            Stage(
                "I21.4|I20.0|I21.9", "troponin+5 bnp+1", "B01AC06 B01AC04|B01AC24", "4A023N7 027034Z|027035Z"
            ),
            Stage("I25.2 Z95.5|Z95.1", "ldl-1", "B01AC06 C10AA07 C01DA14", "B2111ZZ"),
        ),
        female=0.35,
        after={"diabetes": 1.6, "lipids": 1.7},
    ),
    Programme(
        "heart_failure", 0.08, 80, 18, 600, _HEART, after={"coronary": 3.0, "hypertension": 1.6}, lethal=0.15
    ),
    Programme(
        "fibrillation",
        0.11,
        80,
        16,
        1200,
        (
            Stage("I48.91|I48.0", "inr tsh", "B01AA03|B01AF01 C07AB02"),
            Stage("I48.20|I48.21", "inr+6", "B01AA03|B01AF01 C01BD01", "5A2204Z|02583ZZ"),
        ),
        after={"heart_failure": 2.5},
    ),
    Programme(
        "stroke",
        0.05,
        78,
        18,
        150,
        (
            Stage("I63.9|I63.50", "pressure+3 ldl+1", "B01AC06 B01AD02", "B030ZZZ 3E03317"),
            Stage("I69.351|I69.320 Z86.73", "pressure+1", "B01AC04 C10AA05", "F07L0ZZ|F06Z0ZZ"),
        ),
        after={"fibrillation": 3.0, "hypertension": 1.5},
        acute=True,
        admits=True,
        lethal=0.05,
    ),
    Programme(
        "breast_cancer",
        0.06,
        65,
        18,
        300,
        _cancer("C50.911|C50.912|C50.411", "cea", "0HBU0ZZ|0HTT0ZZ", "L02BG03|L01CD01|L02BA01"),
        female=1.0,
        lethal=0.25,
    ),
    Programme(
        "bowel_cancer",
        0.04,
        72,
        14,
        300,
        _cancer("C18.9|C18.7|C20", "cea", "0DTF4ZZ|0DTN4ZZ", "L01BC02|L01XA03|L01FG01"),
        lethal=0.3,
    ),
    Programme(
        "lung_cancer",
        0.025,
        70,
        12,
        200,
        _cancer("C34.11|C34.90|C34.32", "calcium", "0BTC4ZZ|0BBC8ZX", "L01XA02|L01BA04"),
        after={"copd": 4.0},
        lethal=0.45,
    ),
    Programme(
        "prostate_cancer",
        0.06,
        75,
        12,
        500,
        _cancer("C61", "psa", "0VT04ZZ|0VB03ZX", "L02AE02|L02BB04"),
        female=0.0,
        lethal=0.15,
    ),
    Programme("hiv", 0.06, 42, 16, 500, _HIV, female=0.3, lethal=0.05),
    Programme(
        "hepatitis_c",
        0.03,
        50,
        16,
        500,
        (
            Stage("B18.2", "hcv_rna+3 alt+3 ast+2", "J05AP01|J05AP51"),
            Stage("B18.2 K74.60|K74.00", "alt+2 platelets-2 albumin-1", "J05AP01|J05AP57"),
        ),
        female=0.4,
        after={"hiv": 3.0},
    ),
    Programme("depression", 0.16, 42, 28, 500, _DEPRESSION, female=0.65),
    Programme(
        "psychosis",
        0.03,
        38,
        20,
        1000,
        (
            Stage("F31.9|F20.9", "lithium+1 tsh", "N05AN01|N05AH03"),
            Stage("F31.2|F20.0 Z91.14", "lithium weight+1", "N05AX08|N05AH02 N05AN01"),
        ),
        after={"depression": 1.5},
    ),
    Programme("alcohol", 0.07, 50, 18, 900, _ALCOHOL, female=0.3, after={"depression": 1.8}, lethal=0.1),
    Programme("opioid", 0.04, 38, 16, 500, _OPIOID, after={"depression": 1.8, "alcohol": 1.8}, lethal=0.05),
    Programme(
        "thyroid",
        0.09,
        60,
        24,
        2000,
        (Stage("E03.9|E06.3", "tsh+4", "H03AA01"), Stage("E03.9|E03.8", "tsh", "H03AA01")),
        female=0.82,
    ),
    Programme(
        "arthritis",
        0.035,
        60,
        20,
        1200,
        (
            Stage("M06.9|M05.79", "rheumatoid_factor+3 esr+2 crp+2", "L04AX03 H02AB07"),
            Stage("M05.79 M06.09|M08.00", "esr+1 crp+1 alt", "L04AX03 L04AB04|L04AB01"),
        ),
        female=0.7,
    ),
    Programme(
        "dementia",
        0.18,
        92,
        12,
        900,
        (
            Stage("G31.84|R41.3", "tsh", ""),
            Stage("F03.90|G30.9", "weight-1", "N06DA02|N06DX01"),
            Stage("G30.9 F02.81|R13.10", "albumin-2 weight-2", "N06DX01 N05AX08"),
        ),
        lethal=0.12,
    ),
    Programme(
        "pregnancy",
        0.3,
        29,
        7,
        95,
        (
            Stage("Z34.90|Z34.80", "hcg+3 haemoglobin-1", "B03BB01"),
            Stage("Z34.80|O24.419|O13.9", "glucose+1 haemoglobin-2", "B03AA07"),
            Stage("O80|O34.211 Z37.0", "haemoglobin-3", "H01BB02", "10E0XZZ|10D00Z1"),
        ),
        female=1.0,
        acute=True,
    ),
    Programme(
        "pregnancy_loss",
        0.1,
        29,
        8,
        60,
        (Stage("O04.80|Z33.2|O03.9|O02.1", "hcg+2 haemoglobin-1", "G03XB01|G02AD06", "10A07ZX|10D17ZZ"),),
        female=1.0,
        acute=True,
    ),
    Programme(
        "sexual_infection",
        0.12,
        26,
        10,
        90,
        (Stage("A56.00|A54.00|A51.0|A60.00", "", "J01FA10|J01DD04|J01CE08"),),
        after={"hiv": 3.0},
        acute=True,
    ),
    Programme(
        "pneumonia",
        0.08,
        78,
        26,
        40,
        (
            Stage(
                "J18.9|J15.9", "crp+3 leukocytes+3 saturation-3 procalcitonin+2", "J01CR02|J01DD04", "BW03ZZZ"
            ),
        ),
        after={"copd": 2.5, "dementia": 2.0},
        acute=True,
        admits=True,
        lethal=0.05,
    ),
    Programme(
        "sepsis",
        0.04,
        80,
        24,
        30,
        (
            Stage(
                "A41.9|A41.51 R65.21|R65.20",
                "lactate+5 procalcitonin+4 crp+4 platelets-2",
                "J01CR05|J01DH02 C01CA03",
                "5A1945Z|02HV33Z",
            ),
        ),
        after={"pneumonia": 3.0, "bowel_cancer": 3.0, "kidney": 2.0},
        acute=True,
        admits=True,
        lethal=0.25,
    ),
    Programme(
        "hip_fracture",
        0.1,
        92,
        13,
        120,
        (
            Stage("S72.001A|S72.141A W19.XXXA", "haemoglobin-3", "B01AB05 N02AA05", "0SRR0J9|0QS634Z"),
            Stage("Z96.641|Z47.1 M81.0", "calcium", "M05BA04|M05BX04", "F07L0ZZ"),
        ),
        female=0.7,
        acute=True,
        admits=True,
        lethal=0.08,
    ),
)
