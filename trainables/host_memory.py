"""Memory that was freed but that the C library still holds."""

import ctypes
from functools import cache


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def release_freed_memory() -> bool:
    """Give it back to the system; False where the C library can't (it is not glibc)."""
    try:
        _libc().malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True
