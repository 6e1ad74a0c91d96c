"""Where the parts of a long work on many photos are done: in this program, or in several.

Several programs are Dask's (https://distributed.dask.org), on this machine or on a cluster that
runs already. The function is the same in each of them, and photos and cache (``KIN_CACHE``) lie on
a disk that all of them see under the same names.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

ADDRESS = "dask://"  # a cluster that runs already: dask://HOST:PORT of its scheduler
WAITING = 4  # tasks handed out for each program: the scheduler never holds a whole archive
PATIENCE = 20  # seconds until a scheduler must have answered


@dataclass(frozen=True)
class Engine:
    """Does a work part by part.

    Attributes:
        client: Dask's. None: everything is done in this program.
        programs: how many work.
    """

    client: Client | None = None
    programs: int = 1

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What the function gives for each item, in their order.

        Args:
            function: of a module, as another program must find it by its name.
            items: what it takes; a part of the work that takes seconds.

        Raises:
            WorkerError: a program was killed, again and again. And what the function raises.

        Example:
            >>> list(Engine().map(str.upper, ["a", "b"]))
            ['A', 'B']
        """
        if self.client is None:
            yield from map(function, items)
            return
        # a window over the items: as one is done, the next is handed out
        items, tasks = iter(items), collections.deque[Any]()
        for item in itertools.islice(items, WAITING * self.programs):
            tasks.append(self._submitted(function, item))
        while tasks:
            yield self._result(tasks.popleft())
            for item in itertools.islice(items, 1):
                tasks.append(self._submitted(function, item))

    def _submitted(self, function: Callable, item: Any) -> Any:
        """A task of Dask's; the same item twice is done twice."""
        assert self.client is not None
        return self.client.submit(function, item, pure=False)

    def _result(self, task: Any) -> Any:
        """What a task gives. Raises WorkerError: the program that did it was killed."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        try:
            return task.result()
        except (KilledWorker, FutureCancelledError, CommClosedError) as error:
            raise WorkerError(
                "A program of the cluster was killed or cannot be reached, perhaps for want of "
                f"memory ({type(error).__name__}); start fewer at a time, and run the command "
                "again: what was done is kept."
            ) from error


@contextlib.contextmanager
def opened(workers: int | None = None, address: str | None = None) -> Iterator[Engine]:
    """The engine that a user asks for; it is closed afterwards.

    Args:
        workers: programs on this machine. None or 1, without an address: this one.
        address: of a cluster that runs already, such as ``dask://host:8786``.

    Raises:
        WorkerError: Dask is not installed, or there is no such cluster.

    Example:
        >>> with opened() as engine:
        ...     sum(engine.map(abs, [-1, 2]))
        3
    """
    if address is None and workers in (None, 1):
        yield Engine()
        return
    with _client(workers, address) as client:
        programs = len(client.scheduler_info(n_workers=-1)["workers"])
        yield Engine(client, max(1, programs))


@contextlib.contextmanager
def _client(workers: int | None, address: str | None) -> Iterator[Client]:
    """Dask's client of a cluster, which is started here where no address is given.

    Args:
        workers: programs on this machine.
        address: of a cluster that runs already.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise WorkerError(
            "Work in several programs needs Dask, which is not installed: "
            "pip install 'kinship-course[scale]'."
        ) from error
    if address is None:
        # each program has its share of the cores, and no page of Dask's is served
        threads = {"TF_NUM_INTRAOP_THREADS": str(max(1, (os.cpu_count() or 1) // (workers or 1)))}
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                env=threads,
                silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    host = address.removeprefix(ADDRESS)
    try:
        client = Client(f"tcp://{host}", timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise WorkerError(
            f"There is no Dask scheduler at {host}; start one (dask scheduler) and its workers "
            "(dask worker), or leave out --engine."
        ) from error
    with client:
        yield client
