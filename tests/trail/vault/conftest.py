"""A place for keys and payloads on either database."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.trail.vault.support import FileTrail, Place

_MEMORY = Path("/dev/shm")


@pytest.fixture
def sqlite_place() -> Iterator[Place]:
    # In memory where there is such a folder: a killed process loses nothing of it either, and writing through
    # to a disk is most of the time of these tests.
    with tempfile.TemporaryDirectory(prefix="primum-", dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        folder = Path(name)
        trail = FileTrail(folder / "trail.jsonl")
        yield Place(f"sqlite:///{folder / 'keys.db'}", str(folder / "payloads.db"), folder, trail)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, sqlite_place: Place) -> Place:
    if request.param == "sqlite":
        return sqlite_place
    url: str = request.getfixturevalue("postgres")
    data = Path(parse_qs(urlsplit(url).query)["host"][0]) / "data"
    return Place(url, url, sqlite_place.folder, sqlite_place.trail, data)
