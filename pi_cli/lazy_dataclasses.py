"""`dataclass` for modules that are loaded on every run, of whose many classes a command uses a few.

Python makes the methods of a dataclass by compiling text, 0.4 ms for a frozen one; a list of the models loads sixty.
Here a class is completed when its first instance is made. Type checkers see the standard library's own.
"""

import _thread
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "field"]

_completing = _thread.allocate_lock()


class _Later:
    """The default of a field, until its class is completed."""

    def __init__(self, options: Any) -> None:
        self.options = options


def _field(**options: Any) -> Any:
    return _Later(options)


def _dataclass(*, slots: bool = False, **options: Any) -> Any:
    """Complete a class when its first instance is made; without slots, which would need another class."""
    del slots

    def begun(cls: Any) -> Any:
        def begin(self: Any, *values: Any, **named: Any) -> None:
            with _completing:
                if cls.__init__ is begin:
                    del cls.__init__
                    _complete(cls, options)
            cls.__init__(self, *values, **named)

        cls.__init__ = begin
        return cls

    return begun


def _complete(cls: Any, options: Any) -> None:
    import dataclasses

    for name, value in list(vars(cls).items()):
        if isinstance(value, _Later):
            setattr(cls, name, dataclasses.field(**value.options))
    dataclasses.dataclass(**options)(cls)


if TYPE_CHECKING:
    from dataclasses import dataclass, field
else:
    dataclass, field = _dataclass, _field
