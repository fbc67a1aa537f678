"""A disk that fills while several append: ``unshare -rm python -m tests.trail.full_disk FOLDER SEED``.

Prints how many appends were acknowledged before and after there was room again, and what refused the others.
"""

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

from tests.trail.changes import PUBLIC
from tests.trail.world import KEY, entry

from primum.errors import MachineError
from primum.trail.log import Trail
from primum.trail.store import Store
from primum.trail.verification import verify_all

CLIENTS, MOST = 6, 5_000


def mount(place: Path, *more: str) -> None:
    subprocess.run(["mount", *more, "-t", "tmpfs", "tmpfs", str(place)], check=True)


def fill(trail: Trail, seed: int) -> tuple[list[int], set[str]]:
    """Append from several threads until each was refused; the numbers that were acknowledged, and why not."""
    numbers: list[int] = []
    refused: set[str] = set()

    def client(one: int) -> None:
        draw = random.Random(seed * CLIENTS + one)
        for _ in range(MOST):
            for waiting in [trail.submit(entry(2)) for _ in range(draw.choice([1, 1, 5, 40]))]:
                try:
                    numbers.append(waiting.result().number)
                except MachineError as error:
                    refused.add(str(error))
            if refused:
                return

    clients = [threading.Thread(target=client, args=(one,)) for one in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return numbers, refused


def main(place: Path, seed: int) -> None:
    place.mkdir()
    mount(place, "-o", f"size={1500 + 137 * seed}k")
    url = str(place / "trail.db")
    Trail.create(url, key=KEY)
    with Trail(url, key=KEY, head_every=3600) as trail:
        numbers, refused = fill(trail, seed)
        full = verify_all(Store(url), key=PUBLIC, deep=True)
        mount(place, "-o", "remount,size=16m")
        after = [trail.append(entry(2)).number for _ in range(50)]
    (seen,) = verify_all(Store(url), key=PUBLIC, deep=True)
    print(
        json.dumps(
            {
                "acknowledged": sorted(numbers),
                "refused": sorted(refused),
                "when_full": [one.code for one in full[0].problems],
                "size_when_full": full[0].size,
                "after": after,
                "at_the_end": [one.code for one in seen.problems],
                "size": seen.size,
                "heads": seen.heads,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "disk", int(sys.argv[2]))
