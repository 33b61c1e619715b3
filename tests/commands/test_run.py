"""`pi run`: a command with a model in its environment, on our terminal, and nothing left behind it."""

import json
import os
import pty
import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served, write_entry
from tests.commands.staying import staying
from tests.conftest import KEY, Pi, pods_json
from tests.forkserver import FORKSERVER
from tests.lab.relay import Relay
from tests.until import until

pytestmark = pytest.mark.xdist_group("test_run")
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
SHOW = "import os; print({k: v for k, v in os.environ.items() if k.startswith(('OPENAI', 'ANTHR', 'OPENR'))})"
ASK = """\
import os, openai
with openai.OpenAI() as client:
    asked = client.chat.completions.create(
        model=os.environ["OPENAI_MODEL"], messages=[{"role": "user", "content": "What is 2+2?"}]
    )
print(asked.choices[0].message.content.strip())
"""
PATIENT = """\
import signal, sys
signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # one that arrives before the wait is not lost
print("ready", flush=True)
print("told", int(signal.sigwait(signals)), flush=True)
sys.exit(7)
"""

RETRYING = """\
answers() { curl -sf "$OPENAI_BASE_URL/models" -H "Authorization: Bearer $OPENAI_API_KEY" > /dev/null; }
echo ready
while answers; do sleep 0.1; done
echo lost
until answers; do sleep 0.1; done
echo back
"""


@pytest.fixture
def model(pi: Pi, served: Served) -> Served:
    """The module's pod with a model `q` that is reached through SSH only."""
    served.started(pi, "q", "--private", "--vllm", *TOOLS)
    return served


@pytest.mark.usefixtures("model")
def test_the_official_client_needs_no_settings(pi: Pi) -> None:
    """Fault 18: nor does a proxy come in between."""
    proxies = {"HTTP_PROXY": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}
    result = pi("run", "q", "--", sys.executable, "-c", ASK, **proxies)
    assert (result.code, result.out, result.err) == (0, "4\n", "")


@pytest.mark.usefixtures("model")
def test_it_gets_what_it_needs_and_nothing_of_other_accounts(pi: Pi) -> None:
    """Security check 32."""
    others = {"OPENAI_API_KEY": "sk-other", "OPENAI_ORG_ID": "org", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    others |= {"ANTHROPIC_API_KEY": "other", "ANTHROPIC_CUSTOM_HEADERS": "X-Org: other", "OPENROUTER_API_KEY": "or"}
    result = pi("run", "--keep-env", "OPENAI_ORG_ID", "q", "--", sys.executable, "-c", SHOW, **others)
    told = eval(result.out)
    key = told["OPENAI_API_KEY"]
    assert key.startswith("pi-run-")
    url = told["OPENAI_BASE_URL"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
    assert told == {
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": key,
        "OPENAI_ORG_ID": "org",
        "OPENAI_MODEL": "q",
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": key,
        "ANTHROPIC_MODEL": "q",
    }


@pytest.mark.usefixtures("model")
def test_the_commands_key_is_worth_nothing_elsewhere(pi: Pi, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "key"
    result = pi("run", "q", "--", "sh", "-c", f"env; echo $OPENAI_API_KEY > {file}", HF_TOKEN="hf_" + "x" * 34)
    assert "OPENAI_API_KEY=pi-run-" in result.out
    assert KEY not in result.out
    assert "HF_TOKEN" not in result.out
    key = file.read_text().strip()
    url = f"http://127.0.0.1:{served.entries['q']['port']}/v1/models"
    statuses = [
        httpx2.get(url, headers=headers, trust_env=False).status_code
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"authorization": f"Bearer {KEY}"})
    ]
    assert statuses == [401, 401, 200]


@pytest.mark.usefixtures("model")
def test_its_streams_and_its_exit_code_are_passed_on(pi: Pi) -> None:
    result = pi("run", "q", "--", "sh", "-c", "cat; echo no >&2; exit 7", input="yes\n")
    assert (result.code, result.out, result.err) == (7, "yes\n", "no\n")
    assert pi("run", "q", "--", "sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM
    assert pi("run", "q", "--", "sh", "-c", "kill -KILL $$").code == 128 + signal.SIGKILL


@pytest.mark.usefixtures("model")
def test_its_options_are_its_own(pi: Pi) -> None:
    show = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]
    for words in (["--pod", "x", "--help", "--", "-x"], []):
        assert pi("run", "q", "--", *show, *words).out == f"{words}\n"
        assert pi("run", "--pod", "dc1", "q", *show, *words).out == f"{words}\n"


def test_what_a_known_program_gets_is_shown(pi: Pi, model: Served) -> None:
    assert model
    shown = pi("run", "--for", "codex", "q")
    assert "OPENAI_BASE_URL=http://127.0.0.1:PORT/v1" in shown.out
    assert shown.out.splitlines()[-1].startswith("codex -c ")
    late = pi("run", "q", "--for", "codex")
    assert (late.code, late.out) == (2, "")
    assert "hint: give them before it: `pi run --for codex q`" in late.err


@pytest.mark.usefixtures("model")
def test_its_port_is_closed_when_it_has_ended(pi: Pi) -> None:
    url = pi("run", "q", "--", "sh", "-c", "echo $OPENAI_BASE_URL").out.strip()
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("model")
def test_a_signal_is_the_commands_to_answer(number: signal.Signals) -> None:
    """Fault 26."""
    with staying("run", "q", "--", sys.executable, "-c", PATIENT) as running:
        assert running.prints() == ["ready"]
        assert running.end(number) == 7
        assert running.prints(2)[1] == f"told {int(number)}"
        assert running.err == []


@pytest.mark.usefixtures("model")
def test_ctrl_c_on_the_terminal_reaches_the_command_once() -> None:
    said, code = on_a_terminal("run", "q", "--", sys.executable, "-c", PATIENT, typed=b"\x03")
    assert (said.count("told 2"), code) == (1, 7)
    assert "Traceback" not in said


@pytest.mark.usefixtures("model")
def test_the_command_has_the_terminal() -> None:
    said, code = on_a_terminal("run", "q", "--", "sh", "-c", "echo ready; read line; test -t 0 && echo got $line")
    assert "got this" in said
    assert code == 0


def on_a_terminal(*words: str, typed: bytes = b"this\n") -> tuple[str, int]:
    """Run pi on a terminal of its own, type something once it says "ready", and return what stands there."""
    leader, follower = pty.openpty()
    said = b""
    with FORKSERVER.start(words, stdin=follower, stdout=follower, stderr=follower, terminal=follower) as process:
        os.close(follower)
        with suppress(OSError):  # nobody has the terminal any more
            while chunk := os.read(leader, 4096):
                said += chunk
                if b"ready" in said:
                    os.write(leader, typed)
                    typed = b""
        os.close(leader)
        return said.decode(), process.wait()


def test_ctrl_c_before_the_command_runs_is_ours(model: Served, embed: Callable[..., EmbeddedPod]) -> None:
    pod = embed("stuck")  # it never comes as far as the model
    write_entry("q", "stuck", model.entries["q"])
    pod.install("python3", "#!/bin/sh\nexec sleep 600\n")
    with staying("run", "stuck/q", "--", "true") as running:
        until(lambda: any("sleep" in process.command for process in pod.processes()))
        assert running.end(signal.SIGINT) == 130
        assert running.err == []


def test_a_link_that_is_lost_during_the_command_is_restored_and_reported_at_the_end(model: Served) -> None:
    with Relay(model.pod.address, model.pod.port) as way:
        state = pods_json()
        state["pods"]["dc1"]["ssh"] = f"ssh -p {way.port} -i {model.pod.key} root@127.0.0.1"
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
        with staying("run", "q", "--", "sh", "-c", RETRYING) as running:
            assert running.prints() == ["ready"]
            way.block()
            assert running.prints(2)[1] == "lost"
            way.unblock()
            assert running.prints(3)[2] == "back"
            assert running.process.wait(10) == 0
            assert re.search(
                r"note: `q` on `dc1` was unreachable once, for \d+s: cannot reach pod", running.says("note")
            )


def test_a_command_that_cannot_run_is_reported_before_any_connection(pi: Pi, served: Served) -> None:
    before = len(served.pod.commands)
    for words, said in (
        (["q"], "there is nothing to run"),
        (["q", "--"], "there is nothing to run"),
        (["q", "--", "no-such-command"], "there is no command `no-such-command` here"),
        (["q", "--", "true"], "there is no model `q`"),
    ):
        result = pi("run", *words)
        assert (result.code, said in result.err) == (2, True), result.err
    assert len(served.pod.commands) == before


def test_a_model_that_cannot_answer_is_reported_and_the_command_does_not_run(
    pi: Pi, model: Served, embed: Callable[..., EmbeddedPod]
) -> None:
    """Fault 83."""
    touch = ["--", "touch", os.environ["HOME"] + "/ran"]
    model.started(pi, "slow", "--detach", "--vllm", "--simulate", "slow=60")
    starting = pi("run", "slow", *touch)
    assert (starting.code, "error: `slow` on `dc1` cannot be reached: it is still starting" in starting.err) == (
        1,
        True,
    )
    locked = pi("run", "q", *touch, PI_API_KEY="another-key-entirely")
    assert (locked.code, "error: `q` does not accept the key in PI_API_KEY" in locked.err) == (1, True)
    embed("lost").close()
    write_entry("q", "lost", model.entries["q"])
    gone = pi("run", "lost/q", *touch)
    assert (gone.code, "error: cannot reach pod `lost`" in gone.err) == (3, True)
    assert not Path(os.environ["HOME"], "ran").exists()
