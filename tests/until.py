"""Wait for a condition, never for time."""

import time
from collections.abc import Callable

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.3  # seconds


def until(condition: Callable[[], object], what: str = "the condition holds", *, seconds: float = 30.0) -> None:
    """Return once the condition holds. Raises `TimeoutError` saying `what` did not come true in time.

    What a condition looks at may vanish while it looks, or not be there yet: a process, a file, the first model of a
    list. Then it does not hold. Pauses are as long as looking takes, so that this leaves time for what is waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        missing: Exception | None = None
        try:
            if condition():
                return
        except (FileNotFoundError, ProcessLookupError, IndexError) as error:
            missing = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {seconds} s: {what}") from missing
        time.sleep(min(max(SHORTEST_PAUSE, time.monotonic() - began), LONGEST_PAUSE))
