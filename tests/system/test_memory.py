"""How much memory is free, from the kernel's files, and which tier follows from it."""

import logging

import pytest
import torch

from hashbench.datasets.loading import streaming
from hashbench.datasets.loading.streaming import choose_tier
from hashbench.errors import HashbenchError
from hashbench.system.memory import host_free_bytes

CPU = torch.device("cpu")


@pytest.fixture
def kernel(tmp_path):
    """Return a function that writes the kernel's files below a root of their own."""

    def write(**files):
        for name, text in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 1000 kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_without_control_groups_it_is_what_the_system_has(kernel):
    assert host_free_bytes(kernel()) == 1000 * 1024


def test_a_limit_of_any_group_above_counts_less_what_is_used_for_good(kernel):
    files = {
        "proc/self/cgroup": "0::/jobs/one\n",
        "sys/fs/cgroup/jobs/one/memory.max": "max\n",
        "sys/fs/cgroup/jobs/one/memory.current": "5000\n",
        "sys/fs/cgroup/jobs/memory.max": "100000\n",
        "sys/fs/cgroup/jobs/memory.current": "90000\n",
        "sys/fs/cgroup/jobs/memory.stat": "anon 1\ninactive_file 30000\n",
    }
    assert host_free_bytes(kernel(**files)) == 100_000 - 90_000 + 30_000


def test_the_older_control_groups(kernel):
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/box\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "70000\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "80000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "80000\n",
    }
    assert host_free_bytes(kernel(**files)) == 0


def test_this_machine_has_some_memory():
    with open("/proc/meminfo") as file:
        total = 1024 * int(file.readline().split()[1])
    assert 0 < streaming.free_bytes(CPU) <= total


def test_free_memory_decides_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(streaming, "free_bytes", lambda device: 1000)
    with caplog.at_level(logging.INFO, logger="hashbench"):
        assert choose_tier(500, CPU) == "resident"
        assert choose_tier(501, CPU) == "streamed"
    assert [word for word in ("resident", "streamed") if f"are {word} on cpu" in caplog.text] == [
        "resident",
        "streamed",
    ]


def test_the_environment_goes_before(monkeypatch):
    for tier, needed in (("resident", 10**30), ("streamed", 1)):
        monkeypatch.setenv(streaming.OVERRIDE, tier)
        assert choose_tier(needed, CPU) == tier
    monkeypatch.setenv(streaming.OVERRIDE, "streaming")
    with pytest.raises(HashbenchError, match=r"HASHBENCH_LOADER.*'streaming'.*Did you mean 'streamed'"):
        choose_tier(1, CPU)
