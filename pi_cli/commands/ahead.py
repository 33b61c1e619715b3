"""Loading what is needed later while a pod is waited for, which leaves the processor idle."""

import threading
from importlib import import_module


def load(*modules: str) -> None:
    """Begin to import modules, in order, in a thread of their own; whoever imports one of them waits for it."""
    threading.Thread(target=lambda: [import_module(name) for name in modules], daemon=True).start()
