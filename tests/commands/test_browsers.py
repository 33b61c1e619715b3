"""A page in a browser uses a model that was started with `--cors`: preflight, request, and the limit of open files."""

import json
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.conftest import KEY, Pi

pytestmark = pytest.mark.xdist_group("browsers")

PAGE = "http://localhost:3000"
ASKS = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    module_pod.register("dc1")
    module_pod.started(pi, "open", "--cors", PAGE)
    module_pod.started(pi, "own", "--vllm", "--allowed-origins", json.dumps([PAGE]))
    module_pod.started(pi, "closed")
    return module_pod.pod


def preflight(served: Served, name: str, **headers: str) -> httpx2.Response:
    url = f"http://127.0.0.1:{served.entries[name]['port']}/v1/chat/completions"
    return httpx2.request("OPTIONS", url, headers={**ASKS, **headers}, trust_env=False)


@pytest.mark.parametrize("name", ["open", "own"])
def test_a_page_of_the_origin_may_use_it(shared: EmbeddedPod, module_pod: Served, name: str) -> None:
    assert shared.processes()
    asked = preflight(module_pod, name)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PAGE)
    assert asked.headers["access-control-allow-headers"] == "authorization"
    url = f"http://127.0.0.1:{module_pod.entries[name]['port']}/v1/models"
    for key, status in ((KEY, 200), ("wrong", 401)):
        answer = httpx2.get(url, headers={"origin": PAGE, "authorization": f"Bearer {key}"}, trust_env=False)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)


def test_other_pages_and_other_models_stay_closed(shared: EmbeddedPod, module_pod: Served) -> None:
    assert shared.processes()
    assert "access-control-allow-origin" not in preflight(module_pod, "open", origin="http://other.example").headers
    closed = preflight(module_pod, "closed")
    assert (closed.status_code, closed.headers.get("access-control-allow-origin")) == (401, None)


def test_vllm_may_have_as_many_open_files_as_the_machine_allows(shared: EmbeddedPod, module_pod: Served) -> None:
    assert shared.processes()
    limits = Path(f"/proc/{module_pod.entries['closed']['pid']}/limits").read_text()
    [soft, hard] = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(soft) == min(int(hard), 1 << 20)


def test_the_dry_run_shows_what_is_allowed(pi: Pi, shared: EmbeddedPod) -> None:
    assert shared.processes()
    shown = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--cors", "https://Chat.Example", "--dry-run", "--json").json[0]
    assert "--allowed-origins '[\"https://chat.example\"]'" in shown["command"]
    assert shown["environment"]["PI_ALLOWED_ORIGINS"] == "https://chat.example"
    refused = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--cors", "https://chat.example/")
    assert (refused.code, refused.err.splitlines()[0]) == (
        2,
        "error: `https://chat.example/` is not the origin of a page",
    )
