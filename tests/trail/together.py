"""Several processes, each with several threads, append to two shards of one trail at once.

``python -m tests.trail.together URL PROCESSES THREADS APPENDS`` prints the numbers that each shard gave out.
A process of its own: it forks.
"""

import json
import os
import sys
import threading

from tests.trail.world import entry

from primum.trail.log import Trail

SHARDS = 2


def _appends(url: str, threads: int, appends: int) -> list[list[int]]:
    trails = [Trail(url, shard=shard) for shard in range(SHARDS)]
    numbers: list[list[int]] = [[] for _ in trails]

    def client(one: int) -> None:
        for turn in range(appends):
            shard = (one + turn) % SHARDS
            numbers[shard].append(trails[shard].append(entry(3 * turn + 2)).number)

    clients = [threading.Thread(target=client, args=(one,)) for one in range(threads)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for trail in trails:
        trail.close()
    return numbers


def main() -> None:
    """Fork, append, and gather what each was told."""
    url, *counts = sys.argv[1:]
    processes, threads, appends = map(int, counts)
    pipes = []
    for _ in range(processes):
        pipe, other = os.pipe()
        if os.fork() == 0:
            try:
                with os.fdopen(other, "w") as said:
                    json.dump(_appends(url, threads, appends), said)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(other)
        pipes.append(pipe)
    found = [json.loads(os.fdopen(pipe).read()) for pipe in pipes]
    print(json.dumps([sorted(number for one in found for number in one[shard]) for shard in range(SHARDS)]))


if __name__ == "__main__":
    main()
