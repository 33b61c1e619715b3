"""A real vLLM dies, and an unprivileged process of the pod takes its port: it gets neither key nor prompt."""

import time

import httpx2
import pytest

from tests.commands.staying import staying
from tests.conftest import KEY
from tests.engine.conftest import Engine
from tests.engine.test_main_job import START, clean, vllm_processes
from tests.lab.openssh import heard_by_thief, thief_on
from tests.until import until

__all__ = ["clean"]

PROMPT = "words that nobody else reads"
MOMENTS = (0, 1, 3, 12, 22, 34, 40)  # seconds after the theft at which a client of a running `pi forward` asks


def ask(url: str) -> int:
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx2.post(f"{url}/chat/completions", json=body, headers=headers, trust_env=False, timeout=60).status_code


def kill(engine: Engine, port: int) -> None:
    """Kill vLLM; its port is free once no process has its socket any more."""
    engine.pod.check(f"kill -KILL {' '.join(map(str, vllm_processes(engine)))}")
    until(lambda: not vllm_processes(engine) and port not in engine.pod.listening())


def test_a_thief_of_the_port_gets_no_byte_of_the_key_from_any_command(clean: Engine) -> None:
    started = clean.pi(*START)
    assert started.code == 0, started.err
    [listed] = clean.pi("list", "--json").json
    port = int(listed["port"])
    assert listed["url"] == f"http://{clean.pod.address}:{port}/v1"
    assert f"ready `tiny` on `dc1`: {listed['url']}\n" in started.out
    with staying("forward", "tiny", **clean.settings) as forward:
        [url] = forward.prints()
        assert ask(url) == 200
        assert ask(listed["url"]) == 200, "the public one"
        kill(clean, port)
        with thief_on(clean.pod, port):
            began = time.monotonic()
            assert httpx2.get(f"{listed['url']}/reached", trust_env=False).status_code == 401
            for moment in MOMENTS[:3]:
                with pytest.raises(httpx2.TransportError):
                    ask(url)
                wait_until(began + moment)
            for words in (["prompt", "tiny", PROMPT], ["env", "tiny"], ["check", "tiny"], ["run", "tiny", "--", "env"]):
                result = clean.pi(*words)
                assert (result.code, result.out) == (1, ""), result
            assert clean.pi("start", "--attach", "tiny").code != 0
            for moment in MOMENTS[3:]:
                wait_until(began + moment)
                with pytest.raises(httpx2.TransportError):
                    ask(url)
            assert "http" not in clean.pi("list").out
            told = heard_by_thief(clean.pod)
    assert "/reached" in told
    for secret in (KEY, PROMPT, "Authorization"):
        assert secret not in told


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
