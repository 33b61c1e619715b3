"""`pi pods rename`: everything that pi remembers under a pod's name moves to the new one."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.ssh import host_keys
from pi_cli.store import forwards, paths
from pi_cli.store.forwards import Forward
from tests.conftest import Pi, pods_json


def test_the_entry_its_place_and_the_active_pod_move_to_the_new_name(pi: Pi, pod: EmbeddedPod) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    model = {"model": "m", "port": 8001, "gpu": "0", "pid": 4000000, "memory": 0.5}
    state["pods"]["dc1"] |= {"models": {"q": model}, "note": "kept"}
    before = state["pods"]["dc1"]
    state["pods"]["dc2"] = {"ssh": "ssh root@5.6.7.8"}
    path.write_text(json.dumps(state))
    asked = list(pod.commands)
    result = pi("pods", "rename", "dc1", "h100")
    assert result.code == 0, result.err
    assert result.out == "`dc1` is now `h100`; its models keep running: `q`\n"
    assert list(pods_json()["pods"]) == ["h100", "dc2"]
    assert pods_json()["active"] == "h100"
    assert pods_json()["pods"]["h100"] == before
    assert list(pod.commands) == asked


def test_the_host_keys_of_the_pod_and_of_its_jump_hosts_move_and_no_others(pi: Pi, pod: EmbeddedPod) -> None:
    key = host_keys.read("dc1")
    assert key
    for name in ("dc1/jump", "dc10", "h100/old"):
        host_keys.remember(name, f"ssh-ed25519 {name}")
    assert pi("pods", "rename", "dc1", "h100").code == 0
    names = ("dc1", "dc1/jump", "dc10", "h100", "h100/jump", "h100/old")
    assert [host_keys.read(name) for name in names] == [
        None, None, "ssh-ed25519 dc10", key, "ssh-ed25519 dc1/jump", None
    ]  # fmt: skip
    assert pi("list", "--pod", "h100").code == 0
    assert pod.commands


def test_the_log_of_the_setup_moves(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.home.exists()
    paths.log_dir().mkdir(parents=True, exist_ok=True)
    (paths.log_dir() / "setup-dc1.log").write_text("output")
    assert pi("pods", "rename", "dc1", "h100").code == 0
    assert (paths.log_dir() / "setup-h100.log").read_text() == "output"


def test_an_open_port_is_found_under_the_new_name_and_named(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.home.exists()
    with forwards.published(Forward("dc1", "a-model-with-a-long-name", 18001, os.getpid(), "s")):
        result = pi("pods", "rename", "dc1", "h")
        assert "`pi forward a-model-with-a-long-name --pod h`" in result.err
        assert [forward.port for forward in forwards.open_to("h", "a-model-with-a-long-name")] == [18001]
        assert not forwards.open_to("dc1", "a-model-with-a-long-name")
        with (Path(os.environ["PI_CONFIG_DIR"]) / "forwards" / "18001.json").open() as file, pytest.raises(OSError):  # noqa: PT011
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dc1", "dc1"], "`dc1` is already its name"),
        (["dc1", "a b"], "`a b` cannot be the name of a pod"),
        (["none", "h"], "there is no pod `none`"),
        (["dc1", "dc2"], "there is already a pod `dc2`"),
    ],
    ids=["same", "invalid", "unknown", "taken"],
)
def test_a_name_that_cannot_be_used_changes_nothing(pi: Pi, pod: EmbeddedPod, words: list[str], message: str) -> None:
    assert pod.home.exists()
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"]["dc2"] = {"ssh": "ssh root@5.6.7.8"}
    path.write_text(json.dumps(state))
    before, key = path.read_text(), host_keys.read("dc1")
    result = pi("pods", "rename", *words)
    assert result.code == 2
    assert message in result.err
    assert (path.read_text(), host_keys.read("dc1")) == (before, key)
