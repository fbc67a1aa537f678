"""What is said on stderr with ``--log-json``: one JSON object a line, for machines.

Only the fields named here are ever written; none can hold an identifier or anything of a record.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Literal

from primum.errors import clean_text

Level = Literal["info", "error"]


def write_line(
    level: Level,
    event: Literal["stage", "end"],
    *,
    stage: str | None = None,
    patients: int | None = None,
    seconds: float | None = None,
    status: int | None = None,
    message: str | None = None,
) -> None:
    """Write one line; `stage` and `message` are sentences, the latter of an error."""
    fields = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        "stage": stage,
        "patients": patients,
        "seconds": None if seconds is None else round(seconds, 3),
        "status": status,
        "message": None if message is None else clean_text(message),
    }
    line = json.dumps({name: value for name, value in fields.items() if value is not None})
    print(line, file=sys.stderr, flush=True)
