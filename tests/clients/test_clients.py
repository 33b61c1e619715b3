"""Each client answers from the pod with no setting of its own, and tells no other server the key or the prompt."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.clients import internet
from tests.clients.internet import Internet

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".clients"
KEY, TOKEN = "key-of-the-endpoint-0123456789", "hf_" + "token0123456789" * 2 + "token"
MARK = "aubergine"  # a word of the prompt
PROMPT = f"What is 2+2? {MARK}"
TOOLS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
LIMIT = 120.0  # seconds for one answer
OPENAI = """
import openai, os, sys
with openai.OpenAI() as client:
    messages = [{"role": "user", "content": sys.argv[1]}]
    answer = client.chat.completions.create(model=os.environ["OPENAI_MODEL"], messages=messages)
    print(answer.choices[0].message.content)
"""
ANTHROPIC = """
import anthropic, os, sys
with anthropic.Anthropic() as client:
    messages = [{"role": "user", "content": sys.argv[1]}]
    answer = client.messages.create(model=os.environ["ANTHROPIC_MODEL"], max_tokens=500, messages=messages)
    print([block.text for block in answer.content if block.type == "text"][0])
"""
OTHERS = {  # with PI_CLIENTS=all
    "qwen": ["qwen", "-p", PROMPT],
    "cn": ["cn", "-p", PROMPT],
    "gptme": ["gptme", "--non-interactive", "--no-confirm", PROMPT],
}
COMMANDS = {
    "claude": ["claude", "-p", PROMPT],
    "codex": ["codex", "exec", "--skip-git-repo-check", PROMPT],
    "opencode": ["opencode", "run", PROMPT],
    "aider": ["aider", "--yes-always", "--no-git", "--message", PROMPT],
    "llm": ["llm", PROMPT],
    "openai": [sys.executable, "-c", textwrap.dedent(OPENAI), PROMPT],
    "anthropic": [sys.executable, "-c", textwrap.dedent(ANTHROPIC), PROMPT],
    **(OTHERS if os.environ.get("PI_CLIENTS") == "all" else {}),
}


@dataclass(frozen=True)
class Place:
    """A network without an internet, and a home with a pod on which `my-model` runs."""

    net: Internet
    environ: dict[str, str]
    work: Path

    def pi(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pi_cli", *words]
        return subprocess.run(
            command,
            env=self.environ,
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if not os.environ.get("PI_OWN_NETWORK"):
        pytest.skip("run it with `make test-clients`: it needs a network namespace of its own")
    folder = tmp_path_factory.mktemp("clients")
    (folder / "work").mkdir()
    programs = [CLIENTS / "node_modules/.bin", *(CLIENTS / name / "bin" for name in ("aider", "llm", "gptme"))]
    with internet.pretended(folder) as net, EmbeddedPod() as pod:
        environ = {"PATH": ":".join([*map(str, programs), os.environ["PATH"]]), "HOME": str(folder), "LANG": "C.UTF-8"}
        environ |= {"PI_API_KEY": KEY, "HF_TOKEN": TOKEN, "TERM": "dumb", **net.variables}
        place = Place(net, environ, folder / "work")
        for words in (
            ["pods", "setup", "dc1", pod.ssh],
            ["start", "Qwen/Qwen3-8B", "--name", "my-model", "--vllm", "--max-model-len", "32768", *TOOLS.split()],
        ):
            done = place.pi(*words)
            assert done.returncode == 0, done.stderr
        yield place


@pytest.mark.parametrize("client", COMMANDS)
def test_it_answers_from_the_pod_and_tells_no_other_server(place: Place, client: str) -> None:
    place.net.sent.clear()
    done = place.pi("run", "my-model", "--", *COMMANDS[client])
    said = done.stdout + done.stderr
    answer = "Sorry, that is beyond me." if client == "opencode" else "4"  # it puts quotes around the prompt
    assert (done.returncode, answer in done.stdout) == (0, True), said[-3000:]
    for name, data in place.net.sent.items():
        for secret in (KEY, TOKEN, "pi-run-", MARK):
            assert secret.encode() not in data, f"{client} has sent {secret} to {name}"


def test_what_is_sent_elsewhere_is_seen(place: Place) -> None:
    """The test of the others: a client that reports a prompt is found."""
    place.net.sent.clear()
    report = f"import urllib.request as r; r.urlopen('https://vendor.example/log', data=b'{MARK}')"
    done = place.pi("run", "my-model", "--", sys.executable, "-c", report)
    assert "503" in done.stderr
    assert MARK.encode() in place.net.sent["vendor.example"]
