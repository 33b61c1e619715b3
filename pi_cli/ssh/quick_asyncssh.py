"""asyncssh, imported without the parts that pi does not use: import it from here.

asyncssh searches for two libraries by running ldconfig, gcc and ld. Only the MAC `umac` and the key exchange
`sntrup761` need them: another MAC is negotiated instead, and pi has that key exchange itself (`sntrup`). Without the
search the import takes 161 ms instead of 182, not counting those processes on other cores. X.509 certificates as host
keys are another tenth (112 ms instead of 126); few servers have them, and pi trusts none. SFTP and scp, which takes
`argparse`, are a twelfth more: pi sends files through a command's stdin.
"""

import ctypes.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["asyncssh"]

UNUSED = ("asyncssh.sftp", "asyncssh.scp")


class _Unused(ModuleType):
    """A module that is not loaded: every name that is imported from it is an empty class, good for types only."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {})
        setattr(self, name, value)
        return value


def _find_nothing(name: str) -> str | None:
    del name
    return None


def _begin(unused: Sequence[str]) -> None:
    """Keep what pi does not use from being imported."""
    ctypes.util.find_library = _find_nothing
    sys.modules.setdefault("asyncssh.crypto.x509", None)  # type: ignore[arg-type]  # asyncssh does without
    for name in unused:
        sys.modules.setdefault(name, _Unused(name))


def _end() -> None:
    """Let another `import asyncssh.sftp` find the real module."""
    ctypes.util.find_library = _find_library
    for name in UNUSED:
        if isinstance(sys.modules.get(name), _Unused):
            del sys.modules[name]


def _forget() -> None:
    """Remove an asyncssh whose import has failed: it uses a part of itself that pi has left out."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "asyncssh"]:
        del sys.modules[name]


_find_library = ctypes.util.find_library
try:
    try:
        _begin(UNUSED)
        import asyncssh
    except (ImportError, AttributeError, TypeError, ValueError):
        _forget()
        _begin(())
        import asyncssh
finally:
    _end()
