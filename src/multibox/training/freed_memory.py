"""What a step on the CPU frees stays with the process, for the next step."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# glibc's malloc.h: the parameters of mallopt, and their defaults (man 3 mallopt).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536
NEVER, NONE = -1, 0


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While inside, glibc's malloc gives no freed memory back to the system.

    Left alone it maps every tensor above 32 MiB afresh and unmaps it when freed: each step the
    kernel clears the same gigabytes once more, page by page (docs/training.md, Speed). Holds for
    the whole process, and for those forked from it. What was kept is given back at the end. Does
    nothing where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    libc.mallopt(M_MMAP_MAX, NONE)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.malloc_trim(0)
