"""Who may use a model: through which door, and with which key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import KEY, Pi, pods_json

TEAM, ALICE = "key-of-the-whole-team", "key-of-alice-alone"
LISTS_MODELS = """\
import os, urllib.request
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/models", headers=headers)
print(urllib.request.urlopen(asked).status)
"""
KEYS = {"TEAM_KEY": TEAM, "ALICE_KEY": ALICE}


def status(url: str, key: str) -> int:
    with httpx2.Client(trust_env=False) as client:
        return client.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}).status_code


def hosts(pod: EmbeddedPod) -> set[str]:
    """Return the addresses that servers were told to listen on."""
    words = [process.command for process in pod.processes() if "serve" in process.command]
    return {each[each.index("--host") + 1] for each in words}


def test_a_private_model_listens_on_the_loopback_only(pi: Pi, pod: EmbeddedPod) -> None:
    """Security checks 19 and 20."""
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--private")
    assert result.code == 0, result.err
    assert hosts(pod) == {"127.0.0.1"}
    assert result.out.startswith("ready `q` on `dc1`: through SSH only\n")
    assert "it has no public URL; open a local port for other programs with `pi forward q`" in result.err
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["url"], listed["answers_from_here"]) == ("ready", None, None)
    assert pi("list").out.splitlines()[1].rstrip().endswith("pi forward q")
    assert pi("list", "--no-check").out.splitlines()[1].rstrip().endswith("pi forward q")


def test_a_model_is_open_to_the_network_unless_it_is_private(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    assert hosts(pod) == {"0.0.0.0"}
    assert "--host 127.0.0.1" in pi("start", "Qwen/Qwen3-8B", "--name", "r", "--private", "--dry-run").out
    assert "--host 0.0.0.0" in pi("start", "Qwen/Qwen3-8B", "--name", "r", "--dry-run").out


def test_an_adopted_model_is_known_to_be_private(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 33."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--private").code == 0
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = pods_json()
    state["pods"]["dc1"]["models"] = {}
    path.write_text(json.dumps(state))
    assert pi("list", "--json").json[0]["url"] is None
    assert pods_json()["pods"]["dc1"]["models"]["q"]["private"] is True
    assert pod.processes()


def test_a_key_of_its_own_is_remembered_by_its_name(pi: Pi, pod: EmbeddedPod) -> None:
    """Security check 3."""
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json", "--api-key-env", "TEAM_KEY", **KEYS, PI_API_KEY="")
    assert started.code == 0, started.err
    url = started.json[0]["url"]
    assert (status(url, TEAM), status(url, KEY), status(url, ALICE)) == (200, 401, 401)
    assert pods_json()["pods"]["dc1"]["models"]["q"]["api_key_env"] == "TEAM_KEY"
    everything = [path.read_text() for path in Path(os.environ["PI_CONFIG_DIR"]).iterdir() if path.is_file()]
    everything += [*pod.commands, *(content.decode("utf-8", "replace") for content in pod.files().values())]
    assert not [text for text in everything if TEAM in text]

    assert 'export OPENAI_API_KEY="$TEAM_KEY"' in pi("env", "q", **KEYS).out.splitlines()
    assert pi("run", "q", "--", sys.executable, "-c", LISTS_MODELS, **KEYS).out == "200\n"
    assert "✓ key accepted" in pi("check", "q", **KEYS).out
    assert pi("prompt", "q", "What is 2+2?", "--no-tools", **KEYS).out.strip().endswith("4")
    missing = pi("env", "q")
    assert (missing.code, "error: TEAM_KEY is not set" in missing.err) == (2, True)
    assert pi("list", "--json").json[0]["requests_running"] == 0
    assert pods_json()["pods"]["dc1"]["models"]["q"]["api_key_env"] == "TEAM_KEY"


def test_the_key_that_pi_keeps_serves_every_command_and_its_place_is_remembered(pi: Pi, pod: EmbeddedPod) -> None:
    """Without PI_API_KEY, as in tomorrow's shell."""
    unset, file = {"PI_API_KEY": ""}, Path(os.environ["PI_CONFIG_DIR"], "key")
    assert pi("key", "new", **unset).code == 0
    key = file.read_text().strip()
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json", PI_DEBUG="1", **unset)
    assert started.code == 0, started.err
    assert key not in started.out + started.err + (file.parent / "logs" / "last.log").read_text()
    assert (status(started.json[0]["url"], key), status(started.json[0]["url"], KEY)) == (200, 401)
    assert pods_json()["pods"]["dc1"]["models"]["q"]["api_key_file"] == str(file)

    shown = pi("env", "q", SHELL="/bin/bash", **unset)
    assert key not in shown.out + shown.err
    shown_key = f'export OPENAI_API_KEY="$(env PI_CONFIG_DIR={file.parent} pi key show)"'
    assert shown_key in shown.out.splitlines()
    evaluated = subprocess.run(
        ["bash", "-uc", 'eval "$1"; printf %s "$OPENAI_API_KEY"', "-", shown.out],
        env=os.environ | unset | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert evaluated.stdout == key
    assert pi("env", "q", "--show-key", SHELL="/bin/bash", **unset).out.count(f"={key}\n") == 2
    told = pi("env", "q", "--json", **unset).json
    assert (told["api_key_env"], told["api_key_file"]) == (None, str(file))
    assert pi("run", "q", "--", sys.executable, "-c", LISTS_MODELS, **unset).out == "200\n"
    assert "✓ key accepted" in pi("check", "q", **unset).out
    assert pi("prompt", "q", "What is 2+2?", "--no-tools", **unset).out.strip().endswith("4")
    assert pi("list").code == 0
    assert pods_json()["pods"]["dc1"]["models"]["q"]["api_key_file"] == str(file)
    assert not [content for content in pod.files().values() if key.encode() in content]
    assert key not in Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_text()

    other = pi("env", "q")
    assert other.err == (
        f"error: `q` does not accept the key in PI_API_KEY\nhint: it accepts the key in `{file}`: `unset PI_API_KEY`\n"
    )
    replaced = pi("key", "new", "--force", **unset)
    assert "note: these models keep the old key until they are started again: `dc1/q`" in replaced.err
    past = pi("env", "q", **unset)
    assert past.err == (
        f"error: `q` does not accept the key in `{file}`\n"
        f"hint: set PI_API_KEY to the key that the model was started with, which was in `{file}`\n"
    )
    file.unlink()
    lost = pi("env", "q", **unset)
    assert lost.err == (
        "error: PI_API_KEY is not set\n"
        f"hint: `q` was started with the key in `{file}`: keep that key again with `pi key set`\n"
    )
    assert pi("env", "q", PI_API_KEY=key).code == 0


def test_a_start_without_a_key_names_all_that_is_missing(pi: Pi, pod: EmbeddedPod) -> None:
    start = ("start", "Qwen/Qwen3-8B", "--name", "q")
    assert pi(*start, PI_API_KEY="").err == "error: PI_API_KEY is not set\nhint: make a key with `pi key new`\n"
    both = pi(*start, PI_API_KEY="", HF_TOKEN="")
    assert both.err.endswith("`pi key new`; gated and private models also need HF_TOKEN\n")
    several = pi(*start, "--api-key-env", "TEAM_KEY", "--api-key-env", "ALICE_KEY")
    assert (several.code, "error: TEAM_KEY and ALICE_KEY are not set\n" in several.err) == (2, True)
    assert pod.commands == []


def test_several_keys_open_the_same_model(pi: Pi, pod: EmbeddedPod) -> None:
    keys = ("--api-key-env", "TEAM_KEY", "--api-key-env", "ALICE_KEY")
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json", *keys, **KEYS)
    assert started.code == 0, started.err
    url = started.json[0]["url"]
    assert (status(url, TEAM), status(url, ALICE), status(url, KEY), status(url, "k")) == (200, 200, 401, 401)
    assert pods_json()["pods"]["dc1"]["models"]["q"]["api_key_env"] == "TEAM_KEY"
    for process in pod.processes():
        assert not {TEAM, ALICE} & set(process.command)


def test_a_start_that_is_watched_again_keeps_its_key(pi: Pi, pod: EmbeddedPod) -> None:
    own = ("--vllm", "--simulate", "slow=3")
    assert pi("start", "m/m", "--name", "q", "--detach", "--private", "--api-key-env=TEAM_KEY", *own, **KEYS).code == 0
    attached = pi("start", "--attach", "q", **KEYS)
    assert attached.code == 0, attached.err
    recorded = pods_json()["pods"]["dc1"]["models"]["q"]
    assert (recorded["api_key_env"], recorded["private"]) == ("TEAM_KEY", True)
    assert pod.processes()


def test_a_pod_does_not_choose_which_secret_it_is_sent(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    [record] = (pod.home / ".pi" / "models").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"api_key_env": "HF_TOKEN"}))
    state = pods_json()
    state["pods"]["dc1"]["models"] = {}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    assert pi("list").code == 0
    assert "api_key_env" not in pods_json()["pods"]["dc1"]["models"]["q"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NOT_SET", "NOT_SET is not set"),
        ("sk-this-is-a-key", "`--api-key-env` takes the name of a variable"),
        ("$(id)", "`--api-key-env` takes the name of a variable"),
    ],
)
def test_a_variable_without_a_key_is_reported_before_any_connection(
    pi: Pi, pod: EmbeddedPod, name: str, said: str
) -> None:
    """Fault 76."""
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--api-key-env", name)
    assert (result.code, said in result.err) == (2, True)
    assert "sk-this" not in result.err
    assert pod.commands == []


def test_a_hand_written_variable_is_never_run_by_a_shell(pi: Pi, pod: EmbeddedPod) -> None:
    state = pods_json()
    entry = {"model": "m", "port": 8001, "gpu": "0", "pid": 1, "api_key_env": "$(touch /tmp/pi-was-here)"}
    state["pods"]["dc1"]["models"]["q"] = entry
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    result = pi("env", "q")
    assert (result.code, result.out) == (2, "")
    assert pod.commands == []
