"""One row for all parts of a model over several pods."""

import pytest

from pi_cli.models import parts
from pi_cli.models.model_status import Listed
from pi_cli.store.records import Model, Pod
from pi_cli.store.state import State

PEERS = ["dc1", "dc2"]
BOTH = ("dc1", "dc2")


def part(pod: str, role: str, status: str = "ready", *, age: float = 90, peers: list[str] = PEERS) -> Listed:
    model = Model("m/m", 8001, "0", 1, "uid", {"role": role, "peers": peers})
    return Listed(pod, "q", model, status, age=age, memory=(10, 80))


def status(*models: Listed, answered: tuple[str, ...] = BOTH, known: tuple[str, ...] = BOTH) -> tuple[str, str | None]:
    [row] = parts.joined(models, answered, known)
    return row.status, row.cause


def test_all_parts_are_one_row() -> None:
    other = Listed("dc2", "r", Model("m/r", 8002, "1", 2, "other"), "ready")
    [row, alone] = parts.joined([part("dc1", "head"), other, part("dc2", "node")], BOTH, BOTH)
    assert (row.pod, row.where, row.gpu, row.status, row.memory) == ("dc1", "dc1+dc2", "0+0", "ready", (20, 160))
    assert alone == other


@pytest.mark.parametrize(
    ("head", "node", "answered", "expected"),
    [
        ("ready", None, BOTH, ("degraded", "dc2 is gone")),
        ("unhealthy", None, BOTH, ("degraded", "dc2 is gone")),
        ("ready", "dead", BOTH, ("degraded", "dc2 is gone")),
        ("ready", "orphaned", BOTH, ("degraded", "dc2 has lost its main process")),
        ("ready", "unreachable", ("dc1",), ("degraded", "dc2 does not answer")),
        ("unreachable", "ready", ("dc2",), ("unreachable", None)),
        ("starting", "starting", BOTH, ("starting", None)),
        ("unchecked", "unchecked", (), ("unchecked", None)),
    ],
)
def test_a_head_without_its_node_is_degraded_whatever_its_health(
    head: str, node: str | None, answered: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    nodes = [part("dc2", "node", node)] if node else []
    assert status(part("dc1", "head", head), *nodes, answered=answered) == expected


def test_a_start_whose_node_is_not_recorded_yet_is_not_degraded() -> None:
    assert status(part("dc1", "head", "starting", age=2)) == ("starting", None)
    assert status(part("dc1", "head", "starting", age=200))[0] == "degraded"


def test_a_node_without_its_head_is_an_orphan_after_a_minute() -> None:
    assert status(part("dc2", "node", age=30)) == ("degraded", "its head on dc1 is gone")
    assert status(part("dc2", "node", age=61)) == ("orphaned", "its head on dc1 is gone")
    assert status(part("dc2", "node"), answered=("dc2",)) == ("degraded", "dc1 does not answer")
    assert status(part("dc2", "node"), answered=("dc2",), known=("dc2",)) == ("degraded", "dc1 is not on pi's list")
    [row] = parts.joined([part("dc2", "node")], BOTH, BOTH)
    assert (row.where, row.hint) == ("dc1+dc2", "end it with `pi stop q --pod dc2`")


def test_a_pod_that_is_called_otherwise_here_is_not_missing() -> None:
    models = [part("mine", "head"), part("yours", "node")]
    [row] = parts.joined(models, ("mine", "yours"), ("mine", "yours"))
    assert (row.status, row.where) == ("ready", "mine+yours")


def test_all_parts_are_found_on_the_list_by_their_uid() -> None:
    head, node = part("a", "head").model, part("b", "node").model
    state = State({"a": Pod("ssh a", models={"q": head}), "b": Pod("ssh b", models={"q": node}), "dc2": Pod("ssh c")})
    assert [each.pod for each in parts.of(state, "q", head)] == ["dc2", "a", "b"]
    assert parts.head(state, node) == ("a", "q")
    assert set(parts.with_peers(state, {"b": state.pods["b"]})) == {"a", "b", "dc2"}
