"""The leases of models as a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.models import lease_words
from pi_cli.view import tables
from pi_cli.view.columns import Cell, Column

if TYPE_CHECKING:
    from pi_cli.pods.reports import Lease

COLUMNS = (Column("POD"), Column("NAME"), Column("LEASE"), Column("LEFT"), Column("NOW"), Column("THEN", 1))
NOW = {
    "loading": "it loads", "busy": "it works", "idle": "no work", "silent": "no answer", "died": "it is dead",
    "ending": "it is being ended", "stuck": "it cannot be killed", "stopping-pod": "the pod is being stopped",
}  # fmt: skip


def show(found: "Mapping[str, Sequence[Lease]]") -> None:
    """Print a line for each lease, by pod."""
    rows = [
        {
            "POD": Cell(pod),
            "NAME": Cell(lease.name),
            "LEASE": Cell(units.span(lease.seconds)),
            "LEFT": Cell(lease_words.left(lease) if lease.left is not None else "-"),
            "NOW": Cell(f"{NOW[lease.phase]}, {units.age(lease.phase_seconds)}"),
            "THEN": Cell(lease.then or "-"),
        }
        for pod in sorted(found)
        for lease in found[pod]
    ]
    tables.show(COLUMNS, rows)
