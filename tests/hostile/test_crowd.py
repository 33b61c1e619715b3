"""64 pods, of which 20 are of no use in four ways: the others are listed in half a minute all the same.

On two idle cores, in 32.5 s.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json, register
from tests.demo.model import free_port
from tests.pods.scripted import HANGS, SAYS_NONSENSE, script

GOOD, OF_EACH_KIND = 44, 5
HANGS_FOR = 30.0  # seconds after which a pod that sends nothing is given up
SILENT_HOST = "127.0.0.2"  # another host: pi logs in to few ports of one at once, as sshd asks for


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections, and says nothing."""
    with socket.create_server((SILENT_HOST, 0), backlog=64) as server:
        yield server.getsockname()[1]


def test_the_others_are_listed_in_half_a_minute(pi: Pi, silent: int) -> None:
    with EmbeddedPod() as good, EmbeddedPod() as hanging, EmbeddedPod() as nonsense:
        for number in range(GOOD):
            register(f"good{number}", good, count=1)
        for number in range(OF_EACH_KIND):
            register(f"hanging{number}", hanging, count=1)
            register(f"nonsense{number}", nonsense, count=1)
            register(f"refused{number}", good, count=1)
            register(f"silent{number}", good, count=1)
        script(hanging, HANGS)
        script(nonsense, SAYS_NONSENSE)
        state = pods_json()
        for name, pod in state["pods"].items():
            if name.startswith(("refused", "silent")):
                port = silent if name.startswith("silent") else free_port()
                pod["ssh"] = f"ssh -i {good.key} -p {port} root@{SILENT_HOST}"
                pod["models"] = {"q": {"model": "a/b", "port": 8001, "gpu": "0", "pid": 1, "uid": "a" * 32}}
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
        started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "good0", "--json")
        assert started.code == 0, started.err

        began = time.monotonic()
        assert pi("list", *(word for number in range(GOOD) for word in ("--pod", f"good{number}"))).code == 0
        alone = time.monotonic() - began
        began = time.monotonic()
        result = pi("list", "--all", "--json", timeout=120)
        took = time.monotonic() - began
    listed = {each["pod"]: each["status"] for each in result.json}
    assert [listed.get(f"good{number}") for number in range(GOOD)] == ["ready"] * GOOD
    for kind in ("refused", "silent"):
        assert [listed[f"{kind}{number}"] for number in range(OF_EACH_KIND)] == ["unreachable"] * OF_EACH_KIND
    for kind in ("refused", "silent", "hanging", "nonsense"):
        assert all(f"`{kind}{number}`" in result.err for number in range(OF_EACH_KIND)), result.err
    assert "Traceback" not in result.err
    assert took < HANGS_FOR + 2 * alone + 2, f"it took {took:.1f} s, and {alone:.1f} s without the others"
