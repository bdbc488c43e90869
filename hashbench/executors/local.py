"""The executor `local`: worker processes on this machine, one for each CUDA device, or as many as asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

import torch
from tqdm.auto import tqdm

from hashbench.errors import HashbenchError
from hashbench.executors.base import TICK, Executor, JobQueue, seeds_together
from hashbench.executors.worker import Worker
from hashbench.experiments.jobs import Job, JobEnd, JobEvent, JobHeld, Sweep
from hashbench.experiments.planning import resolve_device
from hashbench.metrics.workers import end_with_parent

MAX_LOST_WORKERS = 2  # by one job
READY = "ready"


@dataclass(frozen=True)
class Local(Executor):
    """Worker processes on this machine, each with its share of the cores; Ctrl-C ends them."""

    threads: int | None = None  # of each worker; by default those of this process, divided among the workers
    together: int | None = (
        None  # seeds of a row that a worker trains at once, at most; by default as many as leave work for all
    )

    def compute(self, sweep: Sweep, jobs: Sequence[Job], *, workers: int | None) -> Generator[JobEvent | None]:
        """Yield each job as it ends; a worker that dies is replaced, and its job is tried once more."""
        devices = _devices(sweep.request.settings.device)
        count = min(workers or len(devices), len(jobs))
        threads = self.threads or max(1, torch.get_num_threads() // count)
        together = seeds_together(self.together, len(jobs), count)
        pool = _WorkerPool(sweep, [devices[at % len(devices)] for at in range(count)], threads, together)
        try:
            yield from pool.run(jobs)
        finally:
            pool.end()


def _devices(name: str) -> list[str]:
    """Return the devices that `name` leaves to choose from: all CUDA devices where it names none of them."""
    device = resolve_device(name)
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(device)]


@dataclass
class _WorkerProcess:
    """One worker process, the pipe to it, and the job that it has."""

    device: str
    process: ForkServerProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None


class _WorkerPool:
    """The worker processes of one sweep."""

    def __init__(self, sweep: Sweep, devices: Sequence[str], threads: int, together: int):
        self._sweep, self._threads, self._together = sweep, threads, together
        self._context = multiprocessing.get_context("forkserver")  # a plain fork would copy CUDA's state and threads
        self._context.set_forkserver_preload([__name__])  # torch is imported once, so that a new worker is quick
        _start_fork_server()
        self._workers: dict[Connection, _WorkerProcess] = {}
        self._failed_starts = 0
        for device in devices:
            self._start_worker(device)

    def run(self, jobs: Sequence[Job]) -> Generator[JobEvent | None]:
        """Give the jobs to the workers one by one, and yield their events."""
        queue, lost_workers = JobQueue(jobs), Counter[int]()
        while queue or any(worker.job for worker in self._workers.values()):
            self._assign(queue)
            readable = wait([*self._workers], timeout=TICK)
            if not readable:
                yield None
            for pipe in readable:
                worker = self._workers[pipe]  # type: ignore[index]  # wait returns what it was given
                event: JobEvent | None
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    event = self._replace(worker, queue, lost_workers)
                else:
                    event = self._received(worker, message, queue)
                if event is not None:
                    yield event

    def end(self) -> None:
        """End all workers now; their runs resume from the last epoch next time."""
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _start_worker(self, device: str) -> None:
        own_end, worker_end = self._context.Pipe()
        arguments = (worker_end, self._sweep.on(device), self._threads, self._together, dict(os.environ))
        process = self._context.Process(target=serve, args=arguments, name=f"hashbench worker on {device}", daemon=True)
        process.start()
        worker_end.close()  # while it is open here, the end of the worker would not be seen
        self._workers[own_end] = _WorkerProcess(device, process, own_end)

    def _assign(self, queue: JobQueue) -> None:
        for worker in self._workers.values():
            cells = {other.job.cell for other in self._workers.values() if other.job} if self._together > 1 else ()
            if worker.ready and worker.job is None and (turn := queue.next(cells=cells)):
                worker.job = turn[0]
                with suppress(OSError):  # a dead worker is found at its pipe next
                    worker.pipe.send(turn)

    def _received(self, worker: _WorkerProcess, message: object, queue: JobQueue) -> JobEvent | None:
        if message == READY:
            worker.ready, self._failed_starts = True, 0
        elif isinstance(message, HashbenchError):
            raise message
        elif message is None and worker.job is not None:
            held, worker.job = worker.job, None
            queue.put_aside(held)
            return JobHeld(held.at)
        elif isinstance(message, JobEnd):
            worker.job = None
            return message
        return None

    def _replace(self, worker: _WorkerProcess, queue: JobQueue, lost_workers: Counter[int]) -> JobEnd | None:
        """Start a worker for one that died; return the end of its job where too many workers died of it."""
        worker.process.join()
        worker.pipe.close()
        del self._workers[worker.pipe]
        how = _exit_reason(worker.process.exitcode)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_LOST_WORKERS:
                raise HashbenchError(f"The worker processes end while they start: the last one {how}.")
        end = None
        if worker.job is not None:
            lost_workers[worker.job.at] += 1
            if lost_workers[worker.job.at] < MAX_LOST_WORKERS:
                queue.put_back(worker.job)
            else:
                end = JobEnd(worker.job.at, f"{MAX_LOST_WORKERS} worker processes died of it: the last one {how}.")
        if len(queue) > sum(not other.job for other in self._workers.values()):
            self._start_worker(worker.device)
        return end


def _start_fork_server() -> None:
    """Start the process that workers are forked from, which Ctrl-C goes past: it imports torch for seconds."""
    if threading.current_thread() is not threading.main_thread():  # no other may say what a signal does
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", as happens when memory runs out; fewer --workers leave each more" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    return f"left with exit code {code}"


def serve(pipe: Connection, sweep: Sweep, threads: int, together: int, environment: Mapping[str, str]) -> None:
    """Run a worker process: compute the jobs that come through the pipe until it is closed at the other end."""
    os.environ.clear()  # it was that of the time when this process's first worker was started
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent process decides
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a worker that is ended leaves behind
    torch.set_num_threads(threads)
    try:
        worker = Worker.start(sweep, together=together)
    except HashbenchError as error:
        pipe.send(error)
        return
    pipe.send(READY)
    while True:
        try:
            job, wait_for_it = pipe.recv()
        except EOFError:
            return
        end = worker.compute(job, wait=wait_for_it)
        pipe.send(None if end is None else JobEnd(end.at, end.error))  # an exception may not survive pickling
