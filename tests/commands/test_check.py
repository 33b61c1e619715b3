"""`pi check`: a mark for each thing that agents need."""

import os
import re
import signal
from contextlib import suppress

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served, write_entry
from tests.conftest import KEY, Pi

pytestmark = pytest.mark.xdist_group("test_check")
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
FIT = """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 40960 tokens
✓ answer                    <s> s
✓ streamed answer           <s> s  first chunk after <s> s
✓ reasoning separate        <s> s
✓ tool call                 <s> s
✓ parallel tool calls       <s> s
✓ tool result               <s> s
✓ JSON schema               <s> s
"""
BARE = """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 40960 tokens
✓ answer                    <s> s
✓ streamed answer           <s> s  first chunk after <s> s
✗ reasoning separate        <s> s  the answer contains its reasoning
✗ tool call                 <s> s  it was started without tools
– parallel tool calls       <s> s  it was started without tools
– tool result               <s> s  it was started without tools
✗ JSON schema               <s> s  the answer does not follow the schema
"""
UNGUARDED = """#!/bin/sh
# A vLLM behind its own key check only.
for word; do shift; [ "$word" = --middleware ] || [ "$word" = require_key.RequireKey ] || set -- "$@" "$word"; done
exec {vllm} "$@"
"""


def seen(screen: str) -> str:
    return re.sub(r"\d+\.\d s\b", "<s> s", screen)


def test_a_model_with_all_its_parsers_is_fit(pi: Pi, served: Served) -> None:
    served.started(pi, "q", "--private", "--vllm", *TOOLS)
    result = pi("check", "q")
    assert (result.code, seen(result.out), result.err) == (0, FIT, "")


def test_the_missing_arguments_of_a_model_without_parsers_are_named(pi: Pi, served: Served) -> None:
    """Fault 85."""
    served.started(pi, "bare", "--private", "--vllm", "--max-model-len", "40960")
    result = pi("check", "bare")
    assert (result.code, seen(result.out)) == (1, BARE)
    lacking = "--reasoning-parser qwen3 --enable-auto-tool-choice --tool-call-parser hermes"
    assert f"`pi start Qwen/Qwen3-8B --name bare --pod dc1 --vllm … {lacking}`" in result.err


def test_json_has_every_check_with_its_reason_and_its_time(pi: Pi, served: Served) -> None:
    served.started(pi, "tools", "--private", "--vllm", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    result = pi("check", "tools", "--json")
    assert result.code == 1
    assert (result.json["name"], result.json["fit"]) == ("tools", False)
    checks = {each["check"]: each for each in result.json["checks"]}
    assert [name for name, each in checks.items() if each["passed"] is False] == ["reasoning separate", "JSON schema"]
    apart = checks["reasoning separate"]
    assert (apart["reason"], apart["hint"]) == ("the answer contains its reasoning", "--reasoning-parser qwen3")
    assert checks["answer"]["seconds"] > 0


def test_a_key_that_opens_nothing_ends_it(pi: Pi, served: Served) -> None:
    """Fault 83."""
    served.started(pi, "q", "--private", "--vllm", *TOOLS)
    result = pi("check", "q", PI_API_KEY="another-key-entirely")
    assert result.code == 1
    assert "error: `q` does not accept the key in PI_API_KEY" in result.err
    assert "another-key-entirely" not in result.out + result.err
    assert KEY not in result.out + result.err


def test_a_door_that_vllm_leaves_open_is_found(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 12, on a server that somebody started without what pi puts before it."""
    vllm = pod.install("vllm-itself", (pod.home.parent / "bin" / "vllm").read_text())
    pod.install("vllm", UNGUARDED.format(vllm=vllm))
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--private", "--vllm", *TOOLS)
    assert started.code == 0, started.err
    result = pi("check", "q")
    assert result.code == 1
    assert re.search(r"^✗ key required .* POST /invocations answers \d+ without the key$", result.out, re.MULTILINE)


def test_a_model_that_is_still_starting_is_reported(pi: Pi, served: Served) -> None:
    served.started(pi, "slow", "--detach", "--vllm", "--simulate", "slow=60")
    result = pi("check", "slow")
    assert (result.code, result.out) == (1, "")
    assert "error: `slow` on `dc1` cannot be reached: it is still starting" in result.err


def test_a_model_that_has_stopped_is_reported(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--detach").code == 0
    for process in pod.processes():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    result = pi("check", "q")
    assert (result.code, result.out) == (1, "")
    assert "error: `q` on `dc1` cannot be reached: it is not running" in result.err


def test_a_model_whose_pod_is_gone_is_reported(pi: Pi, pod: EmbeddedPod) -> None:
    pod.close()
    write_entry("q", "dc1", {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 1})
    result = pi("check", "q")
    assert (result.code, result.out) == (3, "")
    assert "error: cannot reach pod `dc1`" in result.err
