"""asyncssh, loaded without looking for libraries that pi has no use for: import it from here.

For two of them it asks ldconfig, gcc and ld, as processes of their own; all that depends on them are the MAC `umac` and
the key exchange `sntrup761`, in whose place others are agreed on. Without, its import takes 0.88 of the time (161 ms of
182; what the processes take on other cores not counted).
"""

import ctypes.util

__all__ = ["asyncssh"]


def _find_nothing(name: str) -> str | None:
    del name
    return None


_find_library = ctypes.util.find_library
ctypes.util.find_library = _find_nothing
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find_library
