"""asyncssh, loaded without what pi has no use for: import it from here.

For two libraries it asks ldconfig, gcc and ld, as processes of their own; all that depends on them are the MAC `umac`
and the key exchange `sntrup761`, in whose place others are agreed on. Without, its import takes 161 ms of 182 (not
counting what those take on other cores). X.509 certificates in place of host keys, which few servers have and pi trusts
none of, are another tenth: 112 ms of 126.
"""

import ctypes.util
import sys

__all__ = ["asyncssh"]


def _find_nothing(name: str) -> str | None:
    del name
    return None


_find_library = ctypes.util.find_library
ctypes.util.find_library = _find_nothing
sys.modules.setdefault("asyncssh.crypto.x509", None)  # type: ignore[arg-type]  # asyncssh goes on without
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find_library
