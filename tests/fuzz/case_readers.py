"""Valid cases of every format, the damage that knows these formats, and how cases are read and checked.

``python -m tests.fuzz.case_readers 20000`` tries that many; 2,000 run with the tests.
"""

import io
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from tests.fuzz.cases import Failure, pristine, read
from tests.fuzz.corpus import SECRET, Files, parquet
from tests.fuzz.mutations import json_document, mutate
from tests.fuzz.readers import Reader
from tests.records.case_builders import GREY, dicom, item, npy, npz, picture, record

from primum.records.case_folder import is_cases, open_cases
from primum.records.cases import ATTRIBUTES

_ROWS = b"subject_id,split,label,sex,age,date,%s\n%d,train,a,F,50.5,2020-01-01,%s\n3,held_out,b,,,,%s\n"
_NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40)
_WORDS = (
    *(b"0", b"-1", b"1e400", b"nan", b"9" * 400, b"x" * 70_000, b"\0", b"\xff", b"..", b"/etc/passwd", b"~"),
    *(b"true", b"[[", b"=", b"[x]", b"'", b"{}", b"kind", b"a.dat", b"16x3", b"516", b"\n", b"{0} {name}"),
)


def _cases(column: bytes, first: bytes, second: bytes, **files: bytes) -> Files:
    named = {name.replace("___", "/").replace("__", "."): content for name, content in files.items()}
    return {"cases.csv": _ROWS % (column, SECRET, first, second), **named}


def _rows() -> tuple[Files, ...]:
    images = np.arange(60, dtype=np.uint8).reshape(2, 5, 6)
    plain = _cases(b"row", b"0", b"1", inputs__npy=npy(images), classes__txt=b"b\na\n")
    table = {"subject_id": ["x", str(SECRET)], "label": ["a", "b"], "row": [1, 0], "age": [5.0, None]}
    return (
        plain,
        _cases(b"row", b"1", b"0", inputs__npz=npz(True, inputs=images.astype(np.float32))),
        {"cases.parquet": parquet(table), "inputs.npy": npy(images)},
        _cases(b"sequence", b"ACGT", b"ggn"),
    )


def _one_file() -> tuple[Files, ...]:
    images, labels = np.zeros((4, 3, 3), np.uint8), np.array([[0], [1], [1], [0]])
    made = {
        f"{one}_{what}": each
        for one in ("train", "test")
        for what, each in (("images", images), ("labels", labels))
    }
    return {"set.npz": npz(True, **made)}, {"set.npz": npz(**made)}


def _images() -> tuple[Files, ...]:
    colour = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    palette = io.BytesIO()
    Image.fromarray(colour).convert("P").save(palette, "PNG")
    deep = GREY.astype(np.uint16) * 2000
    return (
        _cases(b"file", b"a.png", b"b.jpg", a__png=picture(colour), b__jpg=picture(colour, "JPEG")),
        _cases(b"file", b"a.png", b"b.png", a__png=palette.getvalue(), b__png=picture(colour)),
        _cases(b"file", b"a.png", b"x/b.png", a__png=picture(deep), x___b__png=picture(deep)),
    )


def _dicom() -> tuple[Files, ...]:
    pixels = GREY.astype(np.uint16) * 100
    window = {"WindowCenter": 1000, "WindowWidth": 500, "RescaleSlope": "2", "RescaleIntercept": "-5"}
    table = item(LUTDescriptor=[256, 0, 16], LUTData=np.arange(256, dtype="<u2").tobytes())
    group = item(PixelValueTransformationSequence=item(RescaleSlope="1", RescaleIntercept="0"))
    place = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SeriesInstanceUID": "1.2",
        "PatientID": str(SECRET),
    }
    slices = {
        f"{one}___{i}__dcm": dicom(pixels, InstanceNumber=i, ImagePositionPatient=[0, 0, i], **place)
        for one in "ab"
        for i in range(2)
    }
    frames = dicom(np.stack([pixels, pixels]), SharedFunctionalGroupsSequence=group)
    return (
        _cases(
            b"file", b"a.dcm", b"b", a__dcm=dicom(pixels, **window), b=dicom(pixels, VOILUTSequence=table)
        ),
        _cases(b"file", b"a", b"b", **slices),
        _cases(b"file", b"a.dcm", b"b.dcm", a__dcm=frames, b__dcm=frames),
    )


def _signals() -> tuple[Files, ...]:
    header, samples = record(np.arange(36, dtype=np.int16).reshape(12, 3))
    other = header.replace("a ", "b ").replace("a.dat", "b.dat")
    arrays = {f"{one}__npz": npz(signal=np.ones((3, 4), np.float32)) for one in "ab"}
    return (
        _cases(
            b"file",
            b"a.hea",
            b"b",
            a__hea=header.encode(),
            a__dat=samples,
            b__hea=other.encode(),
            b__dat=samples,
        ),
        _cases(b"file", b"a.npz", b"b.npz", **arrays),
    )


def _bags() -> tuple[Files, ...]:
    tiles = np.arange(72, dtype=np.uint8).reshape(3, 1, 4, 6)
    return (
        _cases(b"file", b"a.npz", b"b.npz", a__npz=npz(tiles=tiles), b__npz=npz(True, tiles=tiles[:1])),
        _cases(b"file", b"a.npy", b"b.npy", a__npy=npy(tiles), b__npy=npy(tiles)),
        _cases(b"file", b"a.fasta", b"b.txt", a__fasta=b">x\nACGT\nA\n", b__txt=b"ACGTA"),
    )


_SCHEMA = b"""[age]
kind = "number"
minimum = 0
maximum = 100.5
missing = true
[sex]
kind = "category"
values = ["F", "M"]
missing = true
[smoker]
kind = "boolean"
"""


def _tables() -> tuple[Files, ...]:
    table = {"label": ["a", "b"], "age": [1, 2], "sex": ["F", "M"], "smoker": [True, False]}
    return (
        _cases(b"smoker", b"yes", b"0", schema__toml=_SCHEMA),
        {"cases.parquet": parquet(table), "schema.toml": _SCHEMA},
    )


def read_cases(path: Path) -> None:
    """Read every case; labels, ages, shapes and numbers must be what the types say."""
    path = path / "set.npz" if (path / "set.npz").exists() else path
    assert is_cases(path)
    opened = open_cases(path)
    assert len(opened.digest()) == 64 and opened.kind in (
        "image",
        "volume",
        "signal",
        "table",
        "bag",
        "sequence",
    )
    "".join(opened.classes).encode()
    seen: list[int] = []
    for name in opened.splits():
        for cases in opened.split(name).shards():
            seen += cases.case_ids.tolist()
            assert 0 < len(cases) == len(cases.inputs) == len(cases.subject_ids)
            assert 0 <= cases.labels.min() <= cases.labels.max() < len(opened.classes)
            assert set(cases.attributes) <= set(ATTRIBUTES)
            assert not (cases.attributes.get("age", np.zeros(1)) < 0).any()
            shapes = {one.shape[opened.kind == "bag" :] for one in cases.inputs}
            assert len(shapes) == 1 or opened.kind == "sequence"
            assert not any(np.isinf(one).any() for one in cases.inputs) or opened.kind == "bag"
    assert sorted(seen) == list(range(len(opened.index)))


CASE_READERS = (
    Reader("cases in rows", _rows, read_cases, 5),
    Reader("cases in one file", _one_file, read_cases, 2),
    Reader("cases in images", _images, read_cases, 4),
    Reader("cases in DICOM", _dicom, read_cases, 4),
    Reader("cases in signals", _signals, read_cases, 2),
    Reader("cases in bags and letters", _bags, read_cases, 2),
    Reader("cases in tables", _tables, read_cases, 3),
)


def case_schedule(count: int, readers: Sequence[Reader] = CASE_READERS) -> list[tuple[Reader, int]]:
    """Give each reader its share of `count` cases; a longer schedule holds the shorter one."""
    turns = [reader for reader in readers for _ in range(reader.share)]
    Random(0).shuffle(turns)
    return [(turns[number % len(turns)], number // len(turns)) for number in range(count)]


def case_outcome(reader: Reader, seed: int, root: Path) -> str:
    """Damage one file of one valid input and read it; see :func:`tests.fuzz.cases.outcome`."""
    rng = Random(f"{reader.name} {seed}")
    damaged = dict(rng.choice(pristine(reader)))
    name = rng.choice(list(damaged))
    damaged[name] = _damage(name, damaged[name], rng)
    return read(reader, damaged, root, case=f"({reader.name!r}, seed {seed}): {name}")


def _damage(name: str, content: bytes, rng: Random) -> bytes:
    way = FORMATS.get(Path(name).suffix)
    if way is None or rng.random() < 0.4:
        return mutate(name, content, rng)
    for _ in range(rng.choice((1, 1, 2))):
        try:
            content = way(content, rng)
        except (ValueError, LookupError, struct.error, zipfile.BadZipFile, zlib.error):
            return mutate(name, content, rng)
    return content


def _words(content: bytes, rng: Random) -> bytes:
    """Put another word, or none, where one stands in a text."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    words = lines[place].split(b" ")
    words[rng.randrange(len(words))] = rng.choice((b"", *_WORDS, rng.choice(words)))
    lines[place] = b" ".join(words)
    return b"\n".join(lines)


def _array(content: bytes, rng: Random) -> bytes:
    """Lie in the header of an array: its type, order and shape."""
    start = 10
    size = struct.unpack("<H", content[8:start])[0]
    header, data = content[start : start + size], content[start + size :]
    old, new = rng.choice(
        (
            (
                b"|u1",
                rng.choice(
                    (b"|O8", b"<f8", b">f4", b"|V3", b"<U4", b"<M8[us]", b"|b1", b"<f2", b"<i9", b"x")
                ),
            ),
            (b"<f4", rng.choice((b"|O8", b"<u2", b"<c8", b"<f4,<f4"))),
            (b"False", rng.choice((b"True", b"None", b"1e9", b"[]"))),
            (b"(", rng.choice((b"((", b"(-", b"(9,", b"(99999999999,", b"(0,", b"[", b"(" * 300))),
            (b"'shape'", rng.choice((b"'shape '", b"1", b"'descr'"))),
        )
    )
    header = header.replace(old, new, 1)
    return content[:8] + struct.pack("<H", len(header)) + header + data


def _archive(content: bytes, rng: Random) -> bytes:
    """Damage one member of an archive, or how it is packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            held = old.read(name)
            if name == chosen:
                held = _array(held, rng) if rng.random() < 0.5 else mutate("x.bin", held, rng)
                name = rng.choice((name, name, name, "", "../x.npy", "tiles.npy", "\0.npy"))
            if name not in new.namelist():
                packed = rng.choice(
                    (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
                )
                new.writestr(name, held, packed)
    return stream.getvalue()


def _members(content: bytes, rng: Random) -> bytes:
    """Damage one member of a model of skops: its JSON, or an array."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            held = old.read(name)
            if name == chosen:
                way = json_document if name.endswith(".json") else _array
                held = way(held, rng)
            new.writestr(name, held)
    return stream.getvalue()


def _png(content: bytes, rng: Random) -> bytes:
    """Change, drop or repeat a chunk of PNG, whose checksum is right again."""
    chunks, at = [], 8
    while at < len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    place = rng.randrange(len(chunks))
    name, held = chunks[place]
    what = rng.randrange(6)
    if what == 0:
        chunks.insert(rng.randrange(len(chunks)), (name, held))
    elif what == 1:
        del chunks[place]
    elif name == b"IHDR" and what < 5:
        numbers = list(struct.unpack(">IIBBBBB", held))
        one = rng.randrange(7)
        numbers[one] = rng.choice(_NUMBERS[:12]) if one < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[place] = name, struct.pack(">IIBBBBB", *numbers)
    elif name == b"IDAT" and what < 5:
        chunks[place] = name, zlib.compress(mutate("x.bin", zlib.decompress(held), rng))
    else:
        extra = (b"tRNS", b"eXIf", b"acTL", b"PLTE", b"iCCP", b"zTXt", b"gAMA")
        chunks.insert(place, (rng.choice(extra), rng.randbytes(rng.choice((0, 1, 2, 6, 26, 768)))))
    body = (struct.pack(">I", len(h)) + n + h + struct.pack(">I", zlib.crc32(n + h)) for n, h in chunks)
    return content[:8] + b"".join(body)


def _elements(content: bytes, rng: Random) -> bytes:
    """Change the value or the length of one element of DICOM, explicit and little endian."""
    tag = struct.pack(
        "<HH", 0x28, rng.choice((2, 4, 8, 0x10, 0x11, 0x100, 0x101, 0x103, 0x1050, 0x1053, 0x3010))
    )
    tag = rng.choice(
        (tag, tag, b"\xe0\x7f\x10\x00", b"\x02\x00\x10\x00", b"\x20\x00\x32\x00", b"\x00\x52\x29\x92")
    )
    at = content.index(tag)
    what = rng.randrange(4)
    if what == 0:
        return content[: at + 4] + rng.choice((b"US", b"SQ", b"UN", b"DS", b"OW", b"XX")) + content[at + 6 :]
    size = struct.unpack("<H", content[at + 6 : at + 8])[0]
    if what == 1:
        return (
            content[: at + 6] + struct.pack("<H", rng.choice((0, 1, 3, size + 2, 65535))) + content[at + 8 :]
        )
    if what == 2:
        return content[:at] + content[at + 8 + size :]
    value = rng.choice(
        (struct.pack("<H", rng.choice(_NUMBERS[:8])), rng.choice(_WORDS), rng.randbytes(size))
    )[:size]
    return content[: at + 8] + value.ljust(size, b"\0") + content[at + 8 + size :]


FORMATS: dict[str, Callable[[bytes, Random], bytes]] = {
    ".npy": _array,
    ".npz": _archive,
    ".skops": _members,
    ".png": _png,
    ".dcm": _elements,
    ".hea": _words,
    ".toml": _words,
}


def run(readers: Sequence[Reader], count: int) -> None:
    """Try that many cases; print what every failure said, and the counts."""
    seen: Counter[tuple[str, str]] = Counter()
    slowest, started = 0.0, time.process_time()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Libraries may warn while they are loaded.
        for reader in readers:
            read(reader, pristine(reader)[0], Path(folder), case="whole")
        warnings.simplefilter("error")
        for reader, seed in case_schedule(count, readers):
            before = time.perf_counter()
            try:
                seen[reader.name, case_outcome(reader, seed, Path(folder))] += 1
            except Failure as failure:
                seen[reader.name, "failed"] += 1
                print(failure, file=sys.stderr)
            slowest = max(slowest, time.perf_counter() - before)
    for (name, what), number in sorted(seen.items()):
        print(f"{name}: {number} {what}")
    print(f"{time.process_time() - started:.0f} CPU-seconds, the slowest {slowest:.1f} s")


if __name__ == "__main__":
    run(CASE_READERS, int(sys.argv[1]))
