"""The rooms of docs/architecture.md: imports go down only, and every library has one owner."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.every import every

ROOT = Path(__file__).parent.parent / "pi_cli"
# Each room may import those of the floors before its own, and none beside it.
FLOORS = [
    {"store"}, {"vllm"}, {"hub"}, {"planning", "ssh"}, {"diagnosis", "hold"}, {"pods"}, {"models"},
    {"chat", "fleet", "gateway"}, {"view"}, {"demo"}, {"commands"},
]  # fmt: skip
ROOMS = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
APART = {("diagnosis", "ssh")}  # though below it: what explains a log computes, and reaches nothing
OWNERS = {
    "typer": {"commands"},
    "rich": {"view"},
    "markdown_it": {"view"},
    "pygments": {"view"},
    "openai": set(),
    "prompt_toolkit": {"chat"},
    "huggingface_hub": {"hub"},
    "httpx2": {"hub", "planning", "models", "chat", "gateway"},
    "asyncssh": {"ssh", "demo"},
    "filelock": {"store"},
    "platformdirs": {"store"},
    "tomlkit": {"fleet"},
}
GROUND = {"errors", "events", "hints", "interrupts", "lazy_dataclasses", "safe", "units", "waits", "__init__"}


def imported(module: str) -> Iterator[str]:
    """Yield the names that a module imports, be it only when it is called."""
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_imports_are_found() -> None:
    assert {"re", "httpx2", "pi_cli.errors.PiError"} <= set(imported("chat/client.py"))


@every(lambda: sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")))
def test_imports_go_down_and_libraries_stay_with_their_owner(module: str) -> None:
    room = module.partition("/")[0].removesuffix(".py")
    for name in imported(module):
        head, _, rest = name.partition(".")
        assert room in OWNERS.get(head, {room}), f"{module} imports {head}"
        other = rest.partition(".")[0]
        if head == "pi_cli" and other in ROOMS and room in ROOMS and other != room:
            assert ROOMS[other] < ROOMS[room], f"{module} imports upward: {name}"
            assert (room, other) not in APART, f"{module} imports {name}"
        if head == "pi_cli" and room in GROUND:
            assert other in GROUND | {""}, f"{module} is the ground floor and imports {name}"


BUG_HANDLER = r"except Exception as (\w+):.*\n.*bug\(\1"  # an unhandled exception becomes one error, in one place


def test_no_code_catches_what_must_pass() -> None:
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.relative_to(ROOT).parts[0] != "demo":
            handlers = text.count("except Exception")
            assert handlers == 0 or (
                path.name in ("main.py", "debug.py") and handlers == len(re.findall(BUG_HANDLER, text))
            ), path
            assert "except KeyboardInterrupt" not in text or path.name in ("__main__.py", "main.py"), path
            assert "except asyncio.CancelledError" not in text, path


def test_host_key_checking_cannot_be_off() -> None:
    """Security check 13."""
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] != "demo":
            assert "known_hosts=None" not in path.read_text(encoding="utf-8")


def test_nothing_is_decided_by_a_clock_that_may_jump() -> None:
    """Fault 44. Only `pi logs --since` asks the time: the pod's, which its log is written by."""
    allowed = {"log_search.py", "provision.py"}  # the second writes the time into the log of a setup
    allowed |= {"costs.py", "idle.py", "require_key.py"}  # days, over reboots; only estimates are made of them
    allowed |= {"lease_words.py", "lease_ends.py", "lease_watch.py"}  # when a lease has ended a model, for people
    allowed |= {"benchmarks.py", "port_verdicts.py"}  # when a benchmark was run, and a port was asked, for people
    allowed |= {"kv_cache.py"}  # the day on which the memory was measured, for people
    for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "remote").rglob("*.py")]:
        if path.name not in allowed and "demo" not in path.parts:
            assert not re.search(r"time\.time\(|datetime\.(now|utcnow|today)", path.read_text(encoding="utf-8")), path
