"""Fixtures of all tests: an environment of its own for each, the real `pi` command, and embedded pods."""

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.forkserver import FORKSERVER, Run
from tests.groups import GroupScheduling

KEY = "test-api-key-0123456789"
TOKEN = "hf_test_token_0123456789"
NO_HUB = "http://127.0.0.1:9"  # no server listens there; a test that needs a Hub brings its own
QUICK = ("docs", "models", "store")
# The marker and the time-out in seconds that a fixture brings; the first match counts (`engine` uses `openssh_lab`).
TIERS = {"engine": ("engine", 600), "openssh_lab": ("openssh", 300)}
# Until all tests are collected: imports leave little garbage, and looking for it takes a tenth of the time.
gc.disable()

OURS = ("PI_REQUIRE_LAB", "PI_LAB_CACHE")
FOREIGN = ("OPENAI_", "HF_", "PI_", "VLLM_", "SSH_", "ALL_PROXY", "HTTP", "NO_COLOR", "all_proxy", "http")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow tiers. Long files come first and short ones last: then all workers end together."""
    longest: dict[Path, float] = {}
    for item in items:
        _mark_tier(item)
        marker = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: (item.path.parent.name in QUICK, -longest[item.path]))


def _mark_tier(item: pytest.Item) -> None:
    """Add the marker of the tier whose fixture a test uses, and the tier's time-out if it sets none of its own."""
    for fixture, (tier, timeout) in TIERS.items():
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(tier)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(timeout))
            return


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send tests that share a pod to one worker."""
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_finish() -> None:
    """Exclude what is loaded by now from garbage collection: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Take Ctrl+C even where the tests were started with it ignored (`nohup make test &`); children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test as a separate user: a home, a config folder and keys of its own, no variables of the caller's."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name not in OURS]:
        monkeypatch.delenv(name)
    settings = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PI_CONFIG_DIR": str(home / ".pi"),
        "PI_API_KEY": KEY,
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": NO_HUB,
        "PI_RECIPES_URL": NO_HUB,
        # A `python3` of a version manager is often a script that takes longer than Python itself to start.
        "PATH": f"{Path(sys.base_exec_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
        "TERM": "xterm-256color",
        "PI_HOLD": "0",  # its own tests turn it on
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return home


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Pi = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def run_pi() -> Iterator[Run]:
    """Run `pi` in forks of a process that has imported it: the import takes longer than most commands."""
    yield FORKSERVER.run
    FORKSERVER.close()


@pytest.fixture
def pi(run_pi: Run) -> Pi:
    """Run the real command in a separate process, without a terminal."""

    def run(*words: str, input: str = "", timeout: float = 60, **environ: str) -> Result:
        done = run_pi(words, input=input, timeout=timeout, environ=os.environ | environ)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def embed() -> Iterator[Callable[..., EmbeddedPod]]:
    """Make embedded pods that end with the test, set up and registered: `embed("dc1", gpus="2x H100 80GB")`."""
    with ExitStack() as stack:

        def make(name: str, gpus: str = "2x H100 80GB", *, has_private_network: bool = True) -> EmbeddedPod:
            pod = stack.enter_context(EmbeddedPod(gpus, has_private_network=has_private_network))
            register(name, pod, count=2 if gpus.startswith("2x") else 1)
            for program in ("hf", "vllm"):  # as fast as possible; the pauses are for the demo
                (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
            return pod

        yield make


@pytest.fixture
def pod(embed: Callable[..., EmbeddedPod]) -> EmbeddedPod:
    """A pod called `dc1` with two GPUs, ready and active."""
    return embed("dc1")


def register(name: str, pod: EmbeddedPod, *, count: int) -> None:
    """Write a pod into `pods.json` and its key into `known_hosts`, like a user who does it by hand."""
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir(exist_ok=True)
    path = folder / "pods.json"
    state: Any = json.loads(path.read_text()) if path.exists() else {"pods": {}, "active": name}
    gpus = [{"id": id, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"} for id in range(count)]
    state["pods"][name] = {"ssh": pod.ssh, "gpus": gpus, "models": {}}
    path.write_text(json.dumps(state))
    with (folder / "known_hosts").open("a") as file:
        file.write(f"{name} {' '.join(pod.host_key.split()[:2])}\n")


def pods_json() -> Any:
    return json.loads(Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_text())
