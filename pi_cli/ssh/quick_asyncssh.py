"""asyncssh, imported without the parts that pi does not use: import it from here.

asyncssh searches for two libraries by running ldconfig, gcc and ld. Only the MAC `umac` and the key exchange
`sntrup761` need them: another MAC is negotiated instead, and pi has that key exchange itself (`sntrup`). Without the
search the import takes 161 ms instead of 182, not counting those processes on other cores. X.509 certificates as host
keys are another tenth (112 ms instead of 126); few servers have them, and pi trusts none.
"""

import ctypes.util
import sys

__all__ = ["asyncssh"]


def _find_nothing(name: str) -> str | None:
    del name
    return None


_find_library = ctypes.util.find_library
ctypes.util.find_library = _find_nothing
sys.modules.setdefault("asyncssh.crypto.x509", None)  # type: ignore[arg-type]  # asyncssh does without
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find_library
