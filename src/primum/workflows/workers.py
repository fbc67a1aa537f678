"""More than one process: the same work, a shard or a family of tests at a time, in the order it was given."""

import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Literal, Protocol

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor, process_executor

from primum.errors import InputError

# A process that leaves for want of work just when it is given some would leave everyone waiting.
_IDLE_SECONDS = 3600
# Bytes by which a process may grow.
_MOST_GROWTH = 1 << 34

Backend = Literal["loky", "ray", "dask"]


class Map(Protocol):
    """``map``, here or in other processes: results come in the order of the tasks, each as soon as it may."""

    def __call__(self, function: Callable[[Any], Any], tasks: Iterable[Any], /) -> Iterator[Any]:
        """Apply `function` to each task."""
        ...


@contextmanager
def workers(count: int = 1, *, backend: Backend = "loky") -> Iterator[Map]:
    """Start `count` processes on this machine and stop them at the end; 1 starts none.

    Tasks are taken from their iterable as they are needed, so that no more than a few shards are in memory.
    Threads are divided among the processes.

    Parameters
    ----------
    count : int
    backend : {"loky", "ray", "dask"}

    Raises
    ------
    InputError
        A count below 1, or a backend that is not installed.
    """
    if count < 1:
        raise InputError("--workers must be 1 or more; it is {count}.", count=count)
    if count == 1:
        yield map
        return
    started = {"loky": _loky, "ray": _ray, "dask": _dask}[backend]
    with started(count) as starting:
        yield partial(_spread, count, starting)


def _spread(
    count: int,
    starting: Iterator[None] | Parallel,
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
) -> Iterator[Any]:
    calls = (delayed(function)(task) for task in tasks)
    if isinstance(starting, Parallel):
        # Its joblib backend gives results only when all are there: a few tasks at a time, then.
        while few := list(islice(calls, count)):
            yield from starting(few)
        return
    deque(starting, maxlen=0)
    # Whatever is dispatched waits in memory: one task for each worker, and one to go on with.
    yield from Parallel(n_jobs=count, return_as="generator", pre_dispatch=count + 1, batch_size=1)(calls)


@contextmanager
def _loky(count: int) -> Iterator[Iterator[None]]:
    # Every process is prepared before it takes a task: none keeps one waiting while it starts.
    with parallel_config("loky", n_jobs=count, idle_worker_timeout=_IDLE_SECONDS, initializer=_prepare):
        # They import what they will need while this process reads what it was given.
        starting = Parallel(return_as="generator")(delayed(_nothing)() for _ in range(count))
        try:
            yield starting
        finally:
            deque(starting, maxlen=0)
            get_reusable_executor().shutdown(wait=True)


def _prepare() -> None:
    # loky takes a model that is loaded after its first look for a leak, and starts the process anew.
    process_executor._MAX_MEMORY_LEAK_SIZE = _MOST_GROWTH
    with suppress(ImportError):
        importlib.import_module("primum.models.causal")


def _nothing() -> None:
    """Whoever is given this has started."""


@contextmanager
def _ray(count: int) -> Iterator[Parallel]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _absent("ray") from error
    ray.init(num_cpus=count, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        register_ray()
        # One pool for all work: each of its processes imports torch, some seconds, once.
        with parallel_config("ray", n_jobs=count), Parallel(n_jobs=count, batch_size=1) as pool:
            yield pool
    finally:
        ray.shutdown()


@contextmanager
def _dask(count: int) -> Iterator[Iterator[None]]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _absent("dask") from error
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        parallel_config("dask", n_jobs=count),
    ):
        yield iter(())


def _absent(backend: str) -> InputError:
    return InputError(
        "--backend {backend} is not installed: install primum[{backend}], or use --backend loky.",
        backend=backend,
    )
