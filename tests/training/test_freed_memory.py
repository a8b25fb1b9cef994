"""Blocks as large as activations, by the page faults that using them again costs."""

import ctypes
import platform
import resource
from pathlib import Path

import pytest

from multibox.training.freed_memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")

BLOCK = 64 * 2**20
ROUNDS = 10


def faults_of_using_it_again() -> int:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for turn in range(ROUNDS + 1):
        if turn == 1:  # The first use of memory always faults.
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        place = libc.malloc(BLOCK)
        ctypes.memset(place, 1, BLOCK)
        libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_freed_memory_is_used_again_inside_and_given_back_after() -> None:
    # Huge pages, where the system has them for all, are 2 MiB: the fewest faults there can be.
    fewest = ROUNDS * BLOCK // 2**21
    assert faults_of_using_it_again() >= fewest
    with freed_memory_kept():
        assert faults_of_using_it_again() < fewest
        kept = resident()
    assert kept - resident() > BLOCK / 2
    assert faults_of_using_it_again() >= fewest


def test_an_error_passes_and_ends_it_too() -> None:
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    assert faults_of_using_it_again() >= ROUNDS * BLOCK // 2**21
