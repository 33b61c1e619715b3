"""What a machine knows about the death of a model, as its agent reports it."""

from pi_cli.lazy_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeathEvidence:
    """What a pod knows about a death, as in the protocol; None for what it cannot read."""

    kills: int | None = None
    machine_kills: int | None = None
    limit: int | None = None
    least: int | None = None
    total: int | None = None
    is_log_readable: bool = False
    kernel: tuple[str, ...] = ()
