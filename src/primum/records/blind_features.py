"""What can be known of patients without asking the model: the columns of the blind baseline.

A classifier on these columns that tells members from held-out patients shows that the two groups differ,
whatever the model remembers (Das, Zhang and Tramèr, arXiv:2406.16201).
"""

from zlib import crc32

import numpy as np
from scipy import sparse

from primum.records.attributes import PatientTable, owners
from primum.records.families import BoolArray
from primum.records.histories import Histories

DENSE_COLUMNS = 9
HASHED_COLUMNS = 1024
_DAY_2000 = 10957.0
_DAYS_A_YEAR = 365.25


def blind_features(
    histories: Histories, table: PatientTable, *, without: BoolArray | None = None
) -> sparse.csr_matrix:
    """Return the features of each patient, float64, shape (n, DENSE_COLUMNS + HASHED_COLUMNS).

    Dense columns come first: log(1 + events), log(1 + span in days), first and last date (years since 2000),
    no date, age (years), no age, sex F, sex M. What is missing is 0 and its flag 1. Then log(1 + count) of
    the codes, hashed by CRC-32 into 1,024 columns, demographic codes such as ``SITE//A`` included. Rows do
    not depend on each other, so that shards can be stacked.

    Parameters
    ----------
    histories : Histories
        A shard.
    table : PatientTable
        Its own description, from :func:`primum.records.attributes.describe`.
    without : bool, shape (codes,), or None
        Codes of `histories` that are not counted, in the number of events neither.
    """
    owner, code_ids, events = owners(histories), histories.code_ids, table.events
    if without is not None:
        kept = ~without[code_ids]
        events = events - np.bincount(owner[~kept], minlength=len(histories))
        owner, code_ids = owner[kept], code_ids[kept]
    dates = (np.stack([table.first_day, table.last_day], axis=1) - _DAY_2000) / _DAYS_A_YEAR
    dense = np.column_stack(
        [
            np.log1p(events),
            np.log1p(np.nan_to_num(table.span_days)),
            np.nan_to_num(dates),
            np.isnan(table.first_day),
            np.nan_to_num(table.age),
            np.isnan(table.age),
            table.sex == "F",
            table.sex == "M",
        ]
    )
    bucket = np.array([crc32(code.encode()) % HASHED_COLUMNS for code in histories.codes], np.int64)
    place = (owner, bucket[code_ids])
    hashed = sparse.csr_matrix((np.ones(len(code_ids)), place), shape=(len(histories), HASHED_COLUMNS))
    hashed.data = np.log1p(hashed.data)
    return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(dense), hashed], format="csr"))
