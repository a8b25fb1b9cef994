"""Blocks as large as activations, by the page faults that using them again costs."""

import concurrent.futures
import ctypes
import multiprocessing
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from multibox.training.freed_memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")

Found = TypeVar("Found")

BLOCK = 64 * 2**20
ROUNDS = 10
# Huge pages, where the system has them for all, are 2 MiB: the fewest faults there can be.
FEWEST = ROUNDS * BLOCK // 2**21


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


def used_again_three_times() -> tuple[int, int, int, int]:
    """Its page faults before, inside and after, and the bytes that the end gave back."""
    before = faults_of_using_it_again()
    with freed_memory_kept():
        inside = faults_of_using_it_again()
        kept = resident()
    given_back = kept - resident()
    return before, inside, faults_of_using_it_again(), given_back


def used_again_after_an_error() -> int:
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    return faults_of_using_it_again()


def in_a_new_process(function: Callable[[], Found]) -> Found:
    """What earlier tests left in this one's heap may be room for the block."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function).result()


def test_freed_memory_is_used_again_inside_and_given_back_after() -> None:
    before, inside, after, given_back = in_a_new_process(used_again_three_times)
    assert before >= FEWEST
    assert inside < FEWEST
    assert after >= FEWEST
    assert given_back > BLOCK / 2


def test_an_error_passes_and_ends_it_too() -> None:
    assert in_a_new_process(used_again_after_an_error) >= FEWEST
