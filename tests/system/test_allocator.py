"""What the command does to its process's allocator: memory that is freed is kept, and given back between runs."""

import os
import platform
import subprocess
import sys

import pytest

#: Resident megabytes beyond those before: with 200 MB in use, after these are freed, after free memory is given back.
PROGRAM = """
import re
from hashbench.system import allocator
from hashbench.cli import main

def resident():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmRSS:\\s+(\\d+) kB", file.read())[1]) >> 10

main(["list", "recipes"], standalone_mode=False)
before, ballast = resident(), b"1" * (200 << 20)
used = resident()
del ballast
freed = resident()
allocator.trim()
print("resident", *(each - before for each in (used, freed, resident())))
"""


def resident(**environment: str) -> list[int]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=outside | environment, capture_output=True, text=True, check=True
    )
    return [int(each) for each in ran.stdout.split("resident")[-1].split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_the_command_keeps_what_is_freed_until_a_run_begins() -> None:
    used, freed, given_back = resident()
    assert used > 150
    assert freed > 150
    assert given_back < 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
@pytest.mark.parametrize(
    "chosen",
    [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}],
    ids=lambda chosen: next(iter(chosen)),
)
def test_what_the_environment_says_of_the_allocator_counts(chosen: dict[str, str]) -> None:
    used, freed, _ = resident(**chosen)
    assert used > 150
    assert freed < 50
