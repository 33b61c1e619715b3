"""`pi env`: lines for a shell, with a URL that has answered and without the key."""

import os
import signal
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.commands.served import Served
from tests.commands.staying import staying
from tests.conftest import KEY, Pi

pytestmark = pytest.mark.xdist_group("test_env")
FAMILY = {
    "bash": "bash",
    "/usr/bin/zsh": "bash",
    "/bin/dash": "bash",
    "/usr/bin/fish": "fish",
    "/opt/pwsh": "powershell",
}


@pytest.fixture
def url(pi: Pi, served: Served) -> str:
    """The public URL of a model `q`."""
    return str(served.started(pi, "q").json[0]["url"])


@pytest.fixture
def private(pi: Pi, served: Served) -> None:
    """A model `p` without a public URL."""
    served.started(pi, "p", "--private")


def test_what_it_prints_sets_the_variables_in_a_shell(pi: Pi, url: str) -> None:
    result = pi("env", "q", SHELL="/bin/bash")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        f"export OPENAI_BASE_URL={url}",
        "export OPENAI_MODEL=q",
        'export OPENAI_API_KEY="$PI_API_KEY"',
        f"export ANTHROPIC_BASE_URL={url.removesuffix('/v1')}",
        "export ANTHROPIC_MODEL=q",
        'export ANTHROPIC_AUTH_TOKEN="$PI_API_KEY"',
    ]
    other = pi("env", "q", ANTHROPIC_API_KEY="sk-ant-mine")
    assert other.out == result.out + "unset ANTHROPIC_API_KEY\n"
    told = subprocess.run(
        [
            "bash",
            "-uc",
            'eval "$1"; printf "%s|" "$OPENAI_BASE_URL" "$OPENAI_API_KEY" "$OPENAI_MODEL"',
            "-",
            result.out,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == f"{url}|{KEY}|q|"


def test_the_key_is_printed_only_if_asked_for(pi: Pi, url: str) -> None:
    """Security check 23."""
    for words in ([], ["--shell", "fish"], ["--shell", "powershell"], ["--json"]):
        result = pi("env", "q", *words)
        assert KEY not in result.out + result.err
        assert KEY in pi("env", "q", "--show-key", *words).out
    assert url


@pytest.mark.parametrize(
    ("shell", "lines"),
    [
        (
            "fish",
            ["set -gx OPENAI_BASE_URL '{url}'", "set -gx OPENAI_MODEL 'q'", 'set -gx OPENAI_API_KEY "$PI_API_KEY"'],
        ),
        (
            "powershell",
            ["$env:OPENAI_BASE_URL = '{url}'", "$env:OPENAI_MODEL = 'q'", "$env:OPENAI_API_KEY = $env:PI_API_KEY"],
        ),
    ],
)
def test_other_shells_get_lines_of_their_own(pi: Pi, url: str, shell: str, lines: list[str]) -> None:
    assert pi("env", "q", "--shell", shell).out.splitlines()[:3] == [line.format(url=url) for line in lines]


def test_the_shell_is_the_users_unless_it_is_named(pi: Pi, url: str) -> None:
    beginnings = {"bash": "export ", "fish": "set -gx ", "powershell": "$env:"}
    for shell, family in FAMILY.items():
        assert pi("env", "q", SHELL=shell).out.startswith(beginnings[family]), shell
    assert pi("env", "q", SHELL="").out.startswith("export ")
    unknown = pi("env", "q", SHELL="/bin/tcsh")
    assert (unknown.code, "`pi env` does not support `tcsh` (your $SHELL)" in unknown.err) == (2, True)
    assert pi("env", "q", "--shell", "cmd").code == 2
    assert url


def test_json_has_the_same_for_programs(pi: Pi, url: str) -> None:
    told = pi("env", "q", "--json").json
    assert told["env"] == {
        "OPENAI_BASE_URL": url,
        "OPENAI_MODEL": "q",
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_MODEL": "q",
    }
    assert (told["pod"], told["name"], told["via"], told["api_key_env"]) == ("dc1", "q", "public", "PI_API_KEY")
    assert pi("env", "q", "--json", "--show-key").json["env"]["OPENAI_API_KEY"] == KEY


def test_a_public_url_is_named_as_plain_http(pi: Pi, url: str) -> None:
    assert "note: that URL is plain HTTP" in pi("env", "q").err
    assert url


@pytest.mark.usefixtures("private")
def test_where_there_is_no_public_url_a_running_forward_is_used(pi: Pi) -> None:
    refused = pi("env", "p")
    assert (refused.code, refused.out) == (1, "")
    assert "error: `p` on `dc1` does not answer from here" in refused.err
    assert "hint: open a port with `pi forward dc1/p` in another terminal" in refused.err
    with staying("forward", "p") as forward:
        [local] = forward.prints()
        found = pi("env", "p")
        assert found.out.splitlines()[0] == f"export OPENAI_BASE_URL={local}"
        assert found.err == ""
        told = pi("env", "p", "--json").json
        key = told["env"]["OPENAI_API_KEY"]
        assert (told["via"], told["env"]["ANTHROPIC_AUTH_TOKEN"], key.startswith("pi-run-")) == ("forward", key, True)
        assert f"export OPENAI_API_KEY={key}" in found.out
        assert KEY not in found.out
        for client in ("codex", "llm"):
            shown = pi("env", "p", "--for", client, SHELL="/bin/bash").out
            script = f"{shown}\ntype {client}; ls ${{LLM_USER_PATH:-.}}"
            read = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, check=False)
            assert ("model_providers.pi=" in read.stdout) == (client == "codex"), read.stdout
            assert ("extra-openai-models.yaml" in read.stdout) == (client == "llm")
        assert "its own cloud" in pi("env", "p", "--for", "cline").err
        assert pi("env", "p", "--for", "codex", "--json").json["arguments"][-2:] == ["-m", "p"]
        answers = [
            httpx2.get(f"{local}/models", headers={"authorization": f"Bearer {each}"}, trust_env=False).status_code
            for each in (key, KEY, "pi-run-other")
        ]
        assert answers == [200, 200, 401]
        assert "does not accept the key in PI_API_KEY" in pi("env", "p", PI_API_KEY="another-key-entirely").err
        forward.end(signal.SIGKILL)
    assert len(list(Path(os.environ["PI_CONFIG_DIR"], "forwards").iterdir())) == 1, "a kill -9 leaves its file behind"
    assert pi("env", "p").code == 1


@pytest.mark.usefixtures("private")
def test_a_stranger_on_the_port_of_a_killed_forward_is_not_shown_the_key(pi: Pi) -> None:
    with staying("forward", "p") as forward:
        port = int(forward.prints()[0].removesuffix("/v1").rpartition(":")[2])
        forward.end(signal.SIGKILL)
    with hearing(port) as heard:
        assert pi("env", "p").code == 1
    assert heard == []


@contextmanager
def hearing(port: int) -> Iterator[list[bytes]]:
    """Be a stranger on a port, who notes what is said to it."""
    heard: list[bytes] = []

    class Stranger(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(4096))

    class Server(socketserver.TCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), Stranger) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield heard
        finally:
            server.shutdown()
            serving.join()


def test_a_wrong_key_is_named_and_never_shown(pi: Pi, url: str) -> None:
    """Fault 83."""
    result = pi("env", "q", PI_API_KEY="another-key-entirely")
    assert (result.code, result.out) == (1, "")
    assert "error: `q` does not accept the key in PI_API_KEY" in result.err
    assert "another-key-entirely" not in result.err
    assert url


def test_an_address_without_proxies_is_exported_too(pi: Pi, url: str) -> None:
    """Fault 18."""
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": "example.org"}
    result = pi("env", "q", **proxy)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[6:] == ["export NO_PROXY=example.org,127.0.0.1", "export no_proxy=example.org,127.0.0.1"]
    assert url


def test_a_model_is_found_by_pod_and_name(pi: Pi, served: Served) -> None:
    served.started(pi, "q", on="dc2")
    for words in (["dc2/q"], ["q", "--pod", "dc2"], ["q"]):
        assert pi("env", *words, "--json").json["pod"] == "dc2"
    assert pi("env", "dc1/q").code == 2
