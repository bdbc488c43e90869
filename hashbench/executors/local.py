"""The executor `local`: worker processes on this machine, one for each CUDA device, or as many as asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

import torch
from tqdm import tqdm

from hashbench.errors import HashbenchError
from hashbench.executors.base import BEAT, Done, Errand, Executor, Sweep
from hashbench.executors.worker import Worker
from hashbench.experiments.planning import resolve_device

DEATHS = 2  # so many workers may a cell cost
READY = "ready"


@dataclass(frozen=True)
class Local(Executor):
    """Worker processes on this machine, each with its share of the cores; Ctrl-C ends them."""

    threads: int | None = None  # of each worker; by default those of this process, divided among the workers

    def compute(self, sweep: Sweep, errands: Sequence[Errand], *, workers: int | None) -> Generator[Done | None]:
        """Yield each errand as it ends; a worker that dies is replaced, and its cell is tried once more."""
        devices = _devices(sweep.request.settings.device)
        count = min(workers or len(devices), len(errands))
        threads = self.threads or max(1, torch.get_num_threads() // count)
        crew = _Crew(sweep, [devices[at % len(devices)] for at in range(count)], threads)
        try:
            yield from crew.work_off(errands)
        finally:
            crew.end()


def _devices(name: str) -> list[str]:
    """Return the devices that `name` leaves to choose from: all CUDA devices where it names none of them."""
    device = resolve_device(name)
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(device)]


@dataclass
class _Hand:
    """One worker process, the pipe to it, and what it is at."""

    device: str
    process: ForkServerProcess
    pipe: Connection
    ready: bool = False
    errand: Errand | None = None


@dataclass
class _Queue:
    """The errands that nobody is at; those that other sweeps' processes were seen at come last."""

    free: deque[Errand]
    held: deque[Errand] = field(default_factory=deque)

    def next(self) -> tuple[Errand, bool] | None:
        """Return an errand, and whether to wait for who else is at it; None where none is left."""
        if self.free:
            return self.free.popleft(), False
        return (self.held.popleft(), True) if self.held else None

    def __len__(self) -> int:
        return len(self.free) + len(self.held)


class _Crew:
    """The workers of one sweep."""

    def __init__(self, sweep: Sweep, devices: Sequence[str], threads: int):
        self._sweep, self._threads = sweep, threads
        self._context = multiprocessing.get_context("forkserver")  # a fork of ours would take CUDA and threads along
        self._context.set_forkserver_preload([__name__])  # torch is imported once, so that a new worker is quick
        self._hands: dict[Connection, _Hand] = {}
        self._stillborn = 0
        for device in devices:
            self._hire(device)

    def work_off(self, errands: Sequence[Errand]) -> Generator[Done | None]:
        """Hand out the errands one by one, and yield them as they end."""
        queue, deaths = _Queue(deque(errands)), Counter[int]()
        while queue or any(hand.errand for hand in self._hands.values()):
            self._hand_out(queue)
            heard = wait([*self._hands], timeout=BEAT)
            if not heard:
                yield None
            for pipe in heard:
                hand = self._hands[pipe]  # type: ignore[index]  # wait returns what it was given
                try:
                    word = hand.pipe.recv()
                except (EOFError, OSError):
                    done = self._buried(hand, queue, deaths)
                else:
                    done = self._heard(hand, word, queue)
                if done is not None:
                    yield done

    def end(self) -> None:
        """End all workers now; what they were at goes on from its last epoch next time."""
        for hand in self._hands.values():
            hand.process.terminate()
        for hand in self._hands.values():
            hand.process.join()
            hand.pipe.close()
        self._hands.clear()

    def _hire(self, device: str) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._sweep.on(device), self._threads, dict(os.environ))
        process = self._context.Process(target=serve, args=arguments, name=f"hashbench worker on {device}", daemon=True)
        process.start()
        theirs.close()  # or we would never hear that the worker's own end is closed
        self._hands[ours] = _Hand(device, process, ours)

    def _hand_out(self, queue: _Queue) -> None:
        for hand in self._hands.values():
            if hand.ready and hand.errand is None and (turn := queue.next()):
                hand.errand = turn[0]
                with suppress(OSError):  # where it has died, that is heard next
                    hand.pipe.send(turn)

    def _heard(self, hand: _Hand, word: object, queue: _Queue) -> Done | None:
        if word == READY:
            hand.ready, self._stillborn = True, 0
        elif isinstance(word, HashbenchError):
            raise word
        elif word is None and hand.errand is not None:
            queue.held.append(hand.errand)
            hand.errand = None
        elif isinstance(word, Done):
            hand.errand = None
            return word
        return None

    def _buried(self, hand: _Hand, queue: _Queue, deaths: Counter[int]) -> Done | None:
        """Replace a worker that died; return its errand where that has cost too many of them."""
        hand.process.join()
        hand.pipe.close()
        del self._hands[hand.pipe]
        how = _cause_of_death(hand.process.exitcode)
        if not hand.ready:
            self._stillborn += 1
            if self._stillborn >= DEATHS:
                raise HashbenchError(f"The worker processes end while they start: the last one {how}.")
        done = None
        if hand.errand is not None:
            deaths[hand.errand.at] += 1
            if deaths[hand.errand.at] < DEATHS:
                queue.free.append(hand.errand)
            else:
                done = Done(hand.errand.at, f"{DEATHS} worker processes died of it: the last one {how}.")
        if len(queue) > sum(not other.errand for other in self._hands.values()):
            self._hire(hand.device)
        return done


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", as happens when memory runs out; fewer --workers leave each more" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    return f"left with exit code {code}"


def serve(pipe: Connection, sweep: Sweep, threads: int, environment: Mapping[str, str]) -> None:
    """Be a worker process: compute what comes through the pipe until the other side is gone."""
    os.environ.clear()  # it was that of the time when this process's first worker was started
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; who started us decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a worker that is ended leaves behind
    torch.set_num_threads(threads)
    try:
        worker = Worker(sweep)
    except HashbenchError as error:
        pipe.send(error)
        return
    pipe.send(READY)
    while True:
        try:
            errand, patient = pipe.recv()
        except EOFError:
            return
        pipe.send(worker.compute(errand, wait=patient))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
