"""The queue of jobs: those whose seeds another worker trains come after the rest."""

import pytest

from hashbench.errors import HashbenchError
from hashbench.executors.base import JobQueue, seeds_together
from hashbench.experiments.jobs import Job
from hashbench.results.sweeps.run_status import EMPTY


def jobs(cells):
    return [Job(at, f"id{at}", EMPTY, cell=cell) for at, cell in enumerate(cells)]


def test_a_worker_is_given_another_row_than_those_that_others_are_at():
    queue = JobQueue(jobs("aabb"))
    taken = []
    for cells in ((), ("a",), ("a", "b"), ()):
        job, wait = queue.next(cells=cells)
        assert not wait
        taken.append(job.at)
    assert taken == [0, 2, 1, 3]
    assert queue.next() is None


def test_jobs_that_were_put_aside_come_last():
    queue = JobQueue(jobs("ab"))
    first, _ = queue.next()
    queue.put_aside(first)
    assert queue.next(cells=("b",))[0].at == 1
    assert queue.next() == (first, True)


def test_no_worker_takes_seeds_that_another_could_train():
    assert seeds_together(None, 5, 1) == 5
    assert seeds_together(None, 5, 2) == 2
    assert seeds_together(None, 1, 2) == 1
    assert seeds_together(3, 5, 2) == 3
    with pytest.raises(HashbenchError, match="together=0 is not possible"):
        seeds_together(0, 5, 2)
