"""Wait for a condition, never for time."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str = "the condition holds", *, seconds: float = 30.0) -> None:
    """Return once the condition holds. Raises `TimeoutError` saying `what` did not come true in time.

    What a condition looks at may vanish while it looks, or not be there yet: a process, a file, the first model of a
    list. Then it does not hold.
    """
    deadline = time.monotonic() + seconds
    while True:
        missing: Exception | None = None
        try:
            if condition():
                return
        except (FileNotFoundError, ProcessLookupError, IndexError) as error:
            missing = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {seconds} s: {what}") from missing
        time.sleep(0.02)
