"""One record of each kind, with every field that the kind may hold."""

import random
from typing import Any

from primum.trail.entry import KINDS, Entry, Value
from primum.trail.record import Place, read_record, record_bytes

TRAIL = "5eed" * 8
HOSTILE = ("<script>", "a&b", '"', "\x1b[31m", "é", "a b", "\u202e", "]]>", "\x00", "a\nb", "")
_WHOLE = frozenset({"records", "first", "last", "cases", "payloads", "epoch", "from_epoch", "to_epoch"})
_LISTS = frozenset({"signals", "passed", "failed"})


def entry(kind: str, *, seed: int = 0, patient: bool = True) -> Entry:
    draw = random.Random(f"{kind} {seed}")
    details: dict[str, Value] = {}
    for name in sorted(KINDS[kind]):
        if name in _WHOLE:
            details[name] = draw.randrange(1 << 40)
        elif name in _LISTS:
            details[name] = tuple(f"{name}.{one}" for one in range(draw.randrange(3)))
        else:
            details[name] = f"{name}:{draw.getrandbits(64):x}"
    return Entry(
        kind,
        f"dr.{draw.getrandbits(16):x}@ward",
        patient=draw.randbytes(16).hex() if patient else None,
        model=draw.randbytes(32).hex() if draw.random() < 0.7 else None,
        on_behalf_of="service/reading-room" if draw.random() < 0.5 else None,
        refers_to=draw.randrange(1 << 30) if draw.random() < 0.5 else None,
        details=details,
    )


def document(one: Entry, *, number: int = 7, shard: int = 2) -> dict[str, Any]:
    place = Place(shard, number, bytes(range(32)), "2026-11-23T04:05:06.123456Z")
    return read_record(record_bytes(one, place))
