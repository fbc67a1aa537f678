"""A small cohort whose codes and site names attack whatever prints them."""

import numpy as np

from primum.records.histories import Histories

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "[bold]shouting[/bold]",
    "[/]",
    "$x_{2}$ and $x_",
    "{{7*7}}",
    "{% raise %}",
    "%(name)s {0} {name}",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnimoc eciuj\u202c",
    "\u2066isolated\u2069",
    "\x01\x08\x0b\x7f\x85",
    "two\nlines\r\tand a tab",
    "=1+1",
    "@SUM(A1:A9)",
    "../../etc/passwd",
    "😀 \u0301 ﷽",
)
_EVENTS = 8


def hostile_histories(patients: int = 24, *, first_subject_id: int = 1) -> Histories:
    """Make patients of hostile codes, at sites of hostile names, in otherwise valid histories."""
    sites = tuple(f"SITE//{text}" for text in HOSTILE)
    clinical = tuple(f"DIAGNOSIS//{text}" for text in HOSTILE) + HOSTILE
    codes = ("GENDER//F", "GENDER//M", "MEDS_BIRTH", *sites, *clinical)
    number = np.arange(patients)[:, None]
    step = np.arange(_EVENTS)
    events = 3 + len(sites) + (number * _EVENTS + step * (1 + number % 5)) % len(clinical)
    head = [number % 2, 3 + number % len(sites), np.full((patients, 1), 2)]
    code_ids = np.concatenate([*head, events], axis=1)
    days = 16_000 + 11 * number + 30 * step
    born = np.broadcast_to(-365 * (20 + number), (patients, 1))
    times = np.concatenate([born, born, born, days], axis=1).astype("datetime64[D]").astype("datetime64[us]")
    times[:, :2] = np.datetime64("NaT")
    values = np.full(code_ids.shape, np.nan)
    values[:, 5] = 1.5 + number[:, 0]
    return Histories(
        np.arange(first_subject_id, first_subject_id + patients),
        np.arange(patients + 1) * code_ids.shape[1],
        codes,
        code_ids.ravel(),
        times.ravel(),
        values.ravel(),
    )
