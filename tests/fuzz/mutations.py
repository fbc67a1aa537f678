"""Ways to damage a file: blindly, and by knowing its format."""

import gzip
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Mutation = Callable[[bytes, Random], bytes]
_DEEP = 100_000
_BROKEN = (tarfile.TarError, struct.error, zlib.error)
_JSON = (
    *(b"null", b"true", b"-1", b"0", b"1.5", b'""', b"[]", b"{}", b'"x"', b"[null]", b"[[1]]", b'[""]'),
    *(
        b"1e308",
        b"1e999",
        b"-1e999",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"9" * 400,
        b"9" * 5000,
    ),
    *(b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"', b'"\\u0000"', b'{"\\ud800": 0}', b'["\\ud800"]'),
    *(b"[" * _DEEP, b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP, b'"' + b"x" * 200_000 + b'"'),
    *(b'"../../etc/passwd"', b'"{0} {name}"', b'"\xff"', b'"1e5"', b"[1e999]", b"[" + b"9" * 400 + b"]"),
)
_CELLS = (
    *(b"", b'"', b'""', b'"a', b"\0", b"NaN", b"inf", b"-1", b"1e400", b"1e5", b"0.5", b"NULL", b"\\N", b" "),
    *(b"9223372036854775808", b"-9223372036854775809", b"9999-99-99", b"0000-00-00", b"99999-01-01"),
    *(b"0001-01-01", b"-0001-01-01", b"9999-12-31 23:59:60", b"2018-01-01T25:00:00", b"1600-01-01+99:99"),
    *(
        b"a,b",
        b"a\tb",
        b"\r\n",
        b"\r",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "é".encode(),
        b"=1+1",
        b"../x",
        b"x" * 140_000,
    ),
)
_MARKS = (
    *(b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"[" * 5000, b"{" * 5000, b'"' * 7, b"\\", b"\x1b[31m"),
    *(b"-----BEGIN", b"1979-05-27T07:32:00Z", b"a.b.c = 1\n", b"[[x]]\n", b"x = {", b"9" * 5000, b"'''"),
    *(b"x = " + b"[" * 5000, b"x = " + b"{a=" * 5000, b"x.y = [1]\n"),
    *(b"a." * 3000, b"x = 0x" + b"f" * 5000, b"[x]\nSNOMED = [1]\n", b"x = nan\n"),
)
_CAST: tuple[Any, ...] = (
    *(pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int32(), pa.uint64(), pa.float16()),
    *(pa.float32(), pa.float64(), pa.bool_(), pa.date32(), pa.date64(), pa.time64("us"), pa.duration("us")),
    *(pa.timestamp("ns"), pa.timestamp("s"), pa.timestamp("us", "Europe/Paris"), pa.decimal128(38, 4)),
    *(pa.list_(pa.int64()), pa.list_(pa.string()), pa.list_(pa.list_(pa.float64())), pa.list_(pa.null(), 2)),
    *(pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.int64()), pa.null(), pa.large_list(pa.float64())),
    *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.int64()), pa.decimal128(5, -2)),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63 - 1, -(2**63), 1.5, float("nan"), float("inf"), -float("inf"), 1e308, ""),
    *("x", "\0", "é", b"\xff", "../x", "9" * 400, [], [None], [1.0], [float("nan")], [float("inf")], ["x"]),
    *([[]], [2**62], [-1], {}, {"a": None}, "2018-01-01", [0.0] * 1000),
)


def mutate(name: str, content: bytes, rng: Random) -> bytes:
    """Damage the content of a file of this name once to three times."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = [one for ending, one in _FORMATS.items() if name.endswith(ending)]
        way = ways[0] if ways and rng.random() < 0.7 else rng.choice(_BLIND)
        try:
            content = way(content, rng)
        except (ValueError, TypeError, LookupError, OSError, EOFError, RecursionError, *_BROKEN):
            # Too broken already for its format.
            content = rng.choice(_BLIND)(content, rng)
    return content


def _flip(content: bytes, rng: Random) -> bytes:
    flipped = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _span(content: bytes, rng: Random) -> tuple[int, int]:
    low = rng.randrange(len(content) + 1)
    return low, min(len(content), low + rng.choice((1, 4, 8, 64, 1024)))


def _swap(content: bytes, rng: Random) -> bytes:
    (low, middle), (start, stop) = sorted((_span(content, rng), _span(content, rng)))
    start = max(start, middle)
    stop = max(stop, start)
    return content[:low] + content[start:stop] + content[middle:start] + content[low:middle] + content[stop:]


def _repeat(content: bytes, rng: Random) -> bytes:
    low, high = _span(content, rng)
    return content[:high] + content[low:high] * rng.choice((1, 2, 100)) + content[high:]


def _cut(content: bytes, rng: Random) -> bytes:
    low, high = _span(content, rng)
    return content[:low] + content[high:]


def _noise(content: bytes, rng: Random) -> bytes:
    low, high = _span(content, rng)
    return content[:low] + rng.randbytes(high - low) + content[high:]


def _mark(content: bytes, rng: Random) -> bytes:
    low = rng.choice((0, rng.randrange(len(content) + 1)))
    return content[:low] + rng.choice(_MARKS) + content[low:]


_BLIND: tuple[Mutation, ...] = (_flip, _truncate, _swap, _repeat, _cut, _noise, _mark)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with every key in it."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        pairs = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, inner in pairs:
            found.append((one, key))
            waiting.append(inner)
    return found


def json_document(content: bytes, rng: Random) -> bytes:
    """Give one place of a JSON document another value, another key, or none."""
    document = {"whole": json.loads(content)}
    container, key = rng.choice(_places(document))
    what = rng.randrange(6)
    if what == 0 and container is not document:
        del container[key]
    elif what == 1:
        other, name = rng.choice(_places(document))
        container[key] = json.loads(json.dumps(other[name]))
    elif what == 2 and isinstance(container, dict) and container is not document:
        container["@twice"] = container[key]
        return json.dumps(document["whole"]).encode().replace(b'"@twice"', json.dumps(key).encode())
    elif what == 3 and isinstance(container, dict) and container is not document:
        container[rng.choice(("", "\ud800", "x", "__proto__", "{0}", "é" * 300))] = container.pop(key)
    else:
        container[key], raw = "@raw", rng.choice(_like(container[key]) if what == 5 else _JSON)
        return json.dumps(document["whole"]).encode().replace(b'"@raw"', raw)
    return json.dumps(document["whole"]).encode()


def _like(value: Any) -> tuple[bytes, ...]:
    """Values of the same kind, so that what looks at the whole is reached."""
    if isinstance(value, str):
        return (b'""', b'"x"', b'"\\u0000"', b'"\\u202e<b>"', json.dumps(value + value).encode())
    if isinstance(value, int | float):
        return (b"0", b"1", b"-1", b"2", b"0.25", b"1e-320", b"-0.0", b"1e300", b"9" * 400)
    return _JSON


def json_lines(content: bytes, rng: Random) -> bytes:
    """Damage one line of NDJSON, or their order."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    what = rng.randrange(10)
    if what == 0:
        rng.shuffle(lines)
    elif what == 1:
        lines.insert(place, rng.choice((b"", b" ", lines[place], rng.choice(_JSON))))
    else:
        lines[place] = json_document(lines[place], rng)
    return b"\n".join(lines)


def table_of_text(content: bytes, rng: Random) -> bytes:
    """Damage a cell, a row, the header or the encoding of CSV or TSV."""
    what = rng.randrange(12)
    if what == 0:
        return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\0\n")))
    if what == 1:
        return rng.choice((b"\xef\xbb\xbf", b"\n", b"\xff\xfe", b'"')) + content
    if what == 2:
        return content.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "cp500", "utf-7")))
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    if what == 3:
        lines.insert(place, rng.choice(lines))
    elif what == 4:
        del lines[place]
    else:
        mark = b"\t" if b"\t" in lines[0] else b","
        cells = lines[place].split(mark)
        column = rng.randrange(len(cells))
        # Without the cell, with another, or with one more.
        cells[column : column + (what > 5)] = [] if what == 6 else [rng.choice(_CELLS)]
        lines[place] = mark.join(cells)
    return b"\n".join(lines)


def compressed(content: bytes, rng: Random) -> bytes:
    """Damage what a gzip file holds, or put another behind it."""
    inner = gzip.decompress(content)
    if rng.random() < 0.1:
        return content + rng.choice((content, b"\0" * 100, gzip.compress(b"\0" * (1 << 22))))
    return gzip.compress(table_of_text(inner, rng), 1)


def _column(table: Any, place: int, rng: Random) -> Any:
    """Make another column out of one: of another type, with nulls, or with values that it cannot hold."""
    values = table.column(place)
    what = rng.randrange(3)
    try:
        if what == 0:
            return values.cast(rng.choice(_CAST), safe=False)
        if what == 1:
            return pa.array([None if rng.random() < 0.3 else one for one in values.to_pylist()], values.type)
        listed = values.to_pylist()
        listed[rng.randrange(len(listed))] = rng.choice(_VALUES)
        return pa.array(listed, values.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, UnicodeError):
        kind = rng.choice(_CAST)
        try:
            return pa.array([rng.choice(_VALUES)] * len(table))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return pa.nulls(len(table), kind)


def parquet(content: bytes, rng: Random) -> bytes:
    """Write a table again with another column, other rows or another layout."""
    try:
        table = pq.read_table(io.BytesIO(content))
        place = rng.randrange(table.num_columns)
        name, what = table.column_names[place], rng.randrange(10)
        if what == 0:
            table = table.remove_column(place)
        elif what == 1:
            table = table.append_column(rng.choice((name, name.upper(), "", "a.b")), table.column(place))
        elif what == 2:
            table = table.slice(0, rng.choice((0, 0, 1, 2)))
        elif what == 3:
            table = table.take([rng.randrange(len(table)) for _ in range(rng.choice((1, len(table), 300)))])
        else:
            table = table.set_column(place, name, _column(table, place, rng))
        stream = io.BytesIO()
        with pq.ParquetWriter(
            stream,
            table.schema,
            compression=rng.choice(("snappy", "none", "zstd", "gzip")),
            use_dictionary=rng.random() < 0.5,
            data_page_version=rng.choice(("1.0", "2.0")),
        ) as writer:
            if rng.random() < 0.2:
                writer.write_table(table.slice(0, 0))
            writer.write_table(table, row_group_size=rng.choice((1, 3, 1000)))
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ValueError from error
    return stream.getvalue()


def safetensors(content: bytes, rng: Random) -> bytes:
    """Lie in the header of weights: its length, offsets, types, shapes; sometimes touch the numbers."""
    size = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + size], content[8 + size :]
    what = rng.randrange(8)
    if what == 0:
        lie = rng.choice((0, 1, size - 1, size + 1, len(content), 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
        return struct.pack("<Q", lie) + header + data
    if what == 1:
        return content[: 8 + size] + rng.choice(_BLIND)(data, rng)
    if what == 2:
        header = json_document(header, rng)
    else:
        described = json.loads(header)
        name = rng.choice([key for key in described if key != "__metadata__"])
        one = described[name]
        begin, end = one["data_offsets"]
        if what == 3:
            lies = ([end, begin], [begin, end + 4], [0, end], [begin, 1 << 62], [-4, end], [0, 0], [begin])
            one["data_offsets"] = rng.choice(lies)
        elif what == 4:
            one["dtype"] = rng.choice(
                ("F64", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3", "F4", "X", "", 3)
            )
        elif what == 5:
            shapes: tuple[Any, ...] = (
                [],
                [0],
                [1 << 62, 1 << 62],
                [1 << 40],
                [-1],
                [end - begin],
                None,
                ["4"],
            )
            one["shape"] = rng.choice((*shapes, list(reversed(one["shape"])), [1, *one["shape"]]))
        elif what == 6:
            described[rng.choice(list(described))] = described.pop(name)
        else:
            described["__metadata__"] = rng.choice(({}, None, {"format": "tf"}, {"format": 1}, [], {"a": {}}))
        header = json.dumps(described).encode()
    return struct.pack("<Q", len(header)) + header + data


def archive(content: bytes, rng: Random) -> bytes:
    """Change one member of a ``.tar.gz`` into what an archive must not hold, or damage it."""
    inner = gzip.decompress(content)
    if rng.random() < 0.3:
        return gzip.compress(rng.choice(_BLIND)(inner, rng), 1)
    stream, bomb = io.BytesIO(), rng.random() < 0.05
    with tarfile.open(fileobj=io.BytesIO(inner)) as old, tarfile.open(fileobj=stream, mode="w") as new:
        members = old.getmembers()
        chosen = rng.choice(members)
        for member in members:
            opened = old.extractfile(member)
            held = opened.read() if opened else b""
            if member is chosen:
                member, held = _member(member, held, rng, bomb=bomb)
            new.addfile(member, io.BytesIO(held))
            if member is chosen and rng.random() < 0.1:
                new.addfile(member, io.BytesIO(held))
    return gzip.compress(stream.getvalue(), 1)


def _member(
    member: tarfile.TarInfo, held: bytes, rng: Random, *, bomb: bool
) -> tuple[tarfile.TarInfo, bytes]:
    what = rng.randrange(6)
    if bomb:
        held = held + b"\n" * (1 << 25)
    elif what == 0:
        names = (
            "../person.csv",
            "/tmp/person.csv",
            "a\\..\\..\\person.csv",
            "x/" * 300 + "person.csv",
            "",
            ".",
        )
        member.name = rng.choice((*names, "PERSON.CSV", "person.csv/x", "\udcff.csv", "person.csv\0"))
    elif what == 1:
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        member.type, member.linkname = rng.choice((*kinds, tarfile.CONTTYPE, b"Z")), "../../etc/passwd"
    elif what == 2:
        sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
        paths = ({"path": "../../x.csv"}, {"size": "99999999999"}, {"linkpath": "/etc"}, {"size": "-1"})
        member.pax_headers = rng.choice((sparse, *paths, {"GNU.sparse.map": "0,1,99999999999,1"}))
    elif what == 3:
        member.type = tarfile.GNUTYPE_SPARSE
    else:
        held = table_of_text(held, rng)
    member.size = len(held)
    return member, held


def http_reply(content: bytes, rng: Random) -> bytes:
    """Damage the body of a reply and declare its length anew, or damage status and headers."""
    head, _, body = content.partition(b"\r\n\r\n")
    what = rng.randrange(10)
    if what == 0:
        status = rng.choice((b"100", b"204", b"301", b"401", b"404", b"429", b"500", b"999", b"abc", b""))
        return head.replace(b"200", status) + b"\r\n\r\n" + body
    if what == 1:
        lengths = (b"0", b"-1", b"5", b"99999999999", b"abc", b"9" * 5000, b"\xff")
        return head.replace(str(len(body)).encode(), rng.choice(lengths)) + b"\r\n\r\n" + body
    if what == 2:
        more = (b"X: " + b"y" * 70_000, b"X: 1\r\n" * 200, b"Transfer-Encoding: chunked", b"\0: 1")
        return head + b"\r\n" + rng.choice(more) + b"\r\n\r\n" + body
    body = json_lines(body, rng) if what < 9 else rng.choice(_BLIND)(body, rng)
    return _RULE + str(len(body)).encode() + b"\r\n\r\n" + body


_RULE = b"HTTP/1.1 200 OK\r\nContent-Length: "
_FORMATS: dict[str, Mutation] = {
    ".tar.gz": archive,
    ".csv.gz": compressed,
    ".csv": table_of_text,
    ".tsv": table_of_text,
    ".parquet": parquet,
    ".ndjson": json_lines,
    ".json": json_document,
    ".sig": json_document,
    ".safetensors": safetensors,
    ".http": http_reply,
}
