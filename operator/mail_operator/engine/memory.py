"""Memory that large steps leave behind."""

import ctypes
import gc


def trim_memory() -> None:
    """To the system, what was freed: the C library keeps it, tens of MiB after a large compile.

    Cycles are looked for first: among very many objects that live long, Python does so hardly ever by itself.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
