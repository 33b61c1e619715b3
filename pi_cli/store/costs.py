"""What a pod has cost, estimated here from its price per hour and the time since its first setup."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pi_cli.store.records import Pod

HOUR = 3600  # seconds
DAY = 24 * HOUR
SINCE_SETUP_IN_HOURS = 100  # longer times are given in days
QUIET_AFTER = HOUR  # a pod without a request for this long is named
MAX_IDLE = 10 * 365 * DAY  # a pod may say anything
RECENTLY = 60  # seconds; an answer of the pod that is younger counts as the present state


def now() -> str:
    """Return the present time as `pods.json` has it."""
    return _text(datetime.now(UTC))


def estimate(pod: Pod) -> float | None:
    """Return what a pod has cost since its first setup; None without a price or that time."""
    seconds = _seconds_since(pod.since)
    return None if pod.price is None or seconds is None else round(pod.price.amount * seconds / HOUR, 2)


def describe(pod: Pod) -> str | None:
    """Return the price of a pod, how long it has been one, and what it has cost; None without a price.

    >>> from pi_cli.store.records import Price
    >>> describe(Pod("ssh h", price=Price(2.49, "$")))
    '$2.49/h'
    """
    if pod.price is None:
        return None
    since = f"{total} since setup" if (total := up(pod)) else None
    return ", ".join(filter(None, [f"{pod.price}/h", since]))


def up(pod: Pod) -> str | None:
    """Return how long a pod with a price is up, and what that has cost: `31 h, ≈ $77`; None if either is unknown."""
    seconds, total = _seconds_since(pod.since), estimate(pod)
    return (
        f"{hours(seconds)}, ≈ {pod.price.sum(total)}"
        if pod.price and seconds is not None and total is not None
        else None
    )


def quiet(pod: Pod) -> str | None:
    """Return for how long a pod with a price had no request, and what that time cost; None below an hour."""
    asked, since_quiet = _seconds_since(pod.asked), _seconds_since(pod.quiet_since)
    if pod.price is None or asked is None or since_quiet is None or since_quiet - asked < QUIET_AFTER:
        return None
    seconds = since_quiet - asked
    text = f"no request for {hours(seconds)}, ≈ {pod.price.sum(pod.price.amount * seconds / HOUR)}"
    return text if asked < RECENTLY else f"{text}, when pi last asked, {hours(asked)} ago"


def lines(pods: Mapping[str, Pod]) -> list[str]:
    """Return a line for each pod with a price, and another one if it had no request for an hour."""
    return [f"{name}: {text}" for name, pod in pods.items() for text in (describe(pod), quiet(pod)) if text]


def as_json(pod: Pod) -> dict[str, object]:
    """Return the fields of `--json`; `estimate` is what the pod has cost since `since`, in `currency`."""
    return {
        "price": pod.price.amount if pod.price else None,
        "currency": pod.price.currency if pod.price else None,
        "since": pod.since,
        "estimate": estimate(pod),
    }


def after_look(pod: Pod, idle: Sequence[float | None]) -> Pod:
    """Return an entry with the time since when its pod had no request, by what its models say (seconds, None: unknown).

    Without models, that is the time known before, or now if there were models at the last look.
    """
    known = [seconds for seconds in idle if seconds is not None]
    since = pod.quiet_since if not pod.models else None
    if not idle:
        since = since or now()
    elif len(known) == len(idle):
        since = _text(datetime.now(UTC) - timedelta(seconds=min([*known, MAX_IDLE])))
    else:
        since = None
    return replace(pod, quiet_since=since, asked=now())


def has_news(before: Pod, after: Pod) -> bool:
    """Return whether a look is worth a write of `pods.json`: the pod has a price, and what is shown of it changes."""
    asked, ages = _seconds_since(before.asked), [_seconds_since(pod.quiet_since) for pod in (before, after)]
    if before.price is None:
        return False
    is_other = None in ages and ages != [None, None]
    return asked is None or asked > RECENTLY or is_other or abs((ages[0] or 0) - (ages[1] or 0)) > RECENTLY


def hours(seconds: float) -> str:
    """Format a time that is paid for.

    >>> hours(1500), hours(31.4 * 3600), hours(12 * 86400)
    ('25 min', '31 h', '12 d')
    """
    if seconds < HOUR:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // HOUR)} h" if seconds < SINCE_SETUP_IN_HOURS * HOUR else f"{int(seconds // DAY)} d"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _seconds_since(text: str | None) -> float | None:
    """Return the age of a time in `pods.json`; 0 if this machine's clock was set back since."""
    return None if text is None else max(0.0, (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())
