"""What `pi start --dry-run` shows is what `pi start` runs: the same words and the same variables."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json, register
from tests.demo.conftest import ssh
from tests.until import until

# Records how it was run, and stays, as a model that loads.
VLLM = """#!/bin/bash
printf '%s\\0' "$0" "$@" > ~/argv; env -0 > ~/environ; touch ~/was-run
exec sleep 600
"""
SECRETS = {"VLLM_API_KEY", "PI_MODEL_UID", "HF_ENDPOINT"}  # the key, the marker, and the Hub that the user has chosen
OF_THE_POD = {"PATH", "_", "SHLVL", "PWD", "OLDPWD"}  # the environment of the chosen vLLM, and of the shells
STARTS = {
    "planned": ("Qwen/Qwen3-8B",),
    "private": ("openai/gpt-oss-20b", "--private", "--context", "16k", "--memory", "50%"),
    "two-gpus": ("Qwen/Qwen3-8B", "--gpus", "2"),
    "variables": ("Qwen/Qwen3-8B", "--env", "VLLM_USE_DEEP_GEMM=0", "-e", "NCCL_DEBUG=a b $HOME"),
    "folder": ("/root/models/m",),
    "own": (
        "m/m",
        "--vllm",
        "--revision",
        "v2",
        "--override-generation-config",
        '{"a": "it\'s $HOME *"}',
        "--root-path",
        "ü \\ `id`",
    ),
}


@pytest.fixture(scope="module")
def machine() -> Iterator[EmbeddedPod]:
    with EmbeddedPod() as pod:
        (pod.home / ".demo" / "hf.json").write_text('{"seconds": 0}')
        pod.install("vllm", VLLM)
        yield pod


@pytest.fixture
def dc1(machine: EmbeddedPod) -> EmbeddedPod:
    register("dc1", machine, count=2)
    return machine


def fields(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\0")[:-1]


def shown(pi: Pi, words: tuple[str, ...]) -> tuple[list[str], dict[str, str], str]:
    """Return the words, the variables and the additions of a dry run."""
    [row] = pi("start", words[0], "--name", "q", "--dry-run", "--json", *words[1:]).json
    argv = shlex.split(row["command"])
    begin = argv.index("vllm")
    return argv[begin:], dict(word.split("=", 1) for word in argv[:begin]), " ".join(row["pod_adds"])


def run(pi: Pi, pod: EmbeddedPod, words: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Start it, and return the words with which vLLM was run and the variables that it had besides the pod's own."""
    (pod.home / "was-run").unlink(missing_ok=True)
    started = pi("start", words[0], "--name", "q", "--detach", *words[1:])
    assert started.code == 0, started.err
    until((pod.home / "was-run").exists)
    before = variables(ssh(pod, "env -0").text)
    after = variables((pod.home / "environ").read_text(encoding="utf-8"))
    argv = (pod.home / "argv").read_text(encoding="utf-8").split("\0")[:-1]
    assert pi("stop", "q").code == 0
    return argv, {key: after[key] for key in after if before.get(key) != after[key] and key not in OF_THE_POD}


def variables(text: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in text.split("\0")[:-1])


def added_by_the_pod(pi: Pi, pod: EmbeddedPod, *words: str) -> dict[str, str]:
    """Compare a dry run with the start; return the variables that only the start has, except the secrets."""
    (argv, environment, additions), (real_argv, real_environment) = shown(pi, words), run(pi, pod, words)
    port = real_argv[real_argv.index("--port") + 1]
    argv[argv.index("--port") + 1] = port  # embedded pods share a machine and its ports
    assert [Path(real_argv[0]).name, *real_argv[1:]] == argv
    expected = {key: value.replace("~", str(pod.home)) for key, value in environment.items()}
    assert {key: real_environment.get(key) for key in expected} == expected
    added = {key: real_environment[key] for key in real_environment.keys() - expected.keys() - SECRETS}
    assert all(f"{key}={value} if " in additions for key, value in added.items())
    return added


@pytest.mark.parametrize("words", STARTS.values(), ids=STARTS)
def test_the_command_of_a_dry_run_is_the_one_that_is_run(pi: Pi, dc1: EmbeddedPod, words: tuple[str, ...]) -> None:
    added_by_the_pod(pi, dc1, *words)


def test_a_secret_variable_reaches_vllm_and_is_never_shown(
    pi: Pi, dc1: EmbeddedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_MODEL_TOKEN", "a-secret-value")
    words = ("Qwen/Qwen3-8B", "--env", "MY_MODEL_TOKEN")
    for form in ((), ("--json",)):
        plan = pi("start", words[0], "--name", "q", "--dry-run", *form, *words[1:])
        assert plan.code == 0
        assert "a-secret-value" not in plan.out + plan.err
        assert "MY_MODEL_TOKEN" in plan.out
    argv, environment = run(pi, dc1, words)
    assert environment["MY_MODEL_TOKEN"] == "a-secret-value"
    assert "a-secret-value" not in " ".join(argv)
    assert not [command for command in dc1.commands if "a-secret-value" in command]


def test_on_slices_their_uuids_are_shown_and_used(pi: Pi, dc1: EmbeddedPod) -> None:
    state = pods_json()
    state["pods"]["dc1"]["gpus"] = [
        {"id": id, "name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "memory": "40GB", "uuid": f"MIG-{id}"} for id in (0, 1)
    ]
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    assert shown(pi, ("Qwen/Qwen3-8B",))[1]["CUDA_VISIBLE_DEVICES"] == "MIG-0"
    added_by_the_pod(pi, dc1, "Qwen/Qwen3-8B")


def test_what_the_pod_adds_is_announced(pi: Pi, dc1: EmbeddedPod) -> None:
    """Reading ahead on network storage: `tests/openssh/test_downloads.py`."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "first", "--detach").code == 0
    assert added_by_the_pod(pi, dc1, "Qwen/Qwen3-8B") == {"HF_HUB_OFFLINE": "1"}
    assert pi("stop", "first").code == 0


@pytest.mark.parametrize("typed", ["qwen3-8b", "Qwen3 8B", "https://huggingface.co/Qwen/Qwen3-8B/tree/main"])
def test_a_name_of_the_catalogue_is_taken_for_its_model_and_pi_says_so(pi: Pi, dc1: EmbeddedPod, typed: str) -> None:
    assert dc1.home.exists()
    result = pi("start", typed, "--name", "q", "--dry-run", "--json")
    assert [row["model"] for row in result.json] == ["Qwen/Qwen3-8B"]
    assert result.err.startswith(f"note: `{typed}` is `Qwen/Qwen3-8B`\n")
    own = pi("start", typed, "--name", "q", "--dry-run", "--json", "--vllm", "--max-num-seqs", "4")
    assert "vllm serve Qwen/Qwen3-8B " in own.json[0]["command"]


def test_a_name_that_is_not_in_the_catalogue_never_goes_to_the_hub_as_an_id(pi: Pi, dc1: EmbeddedPod) -> None:
    before = len(dc1.commands)
    result = pi("start", "qwen3-33b", "--name", "q")
    assert result.code == 2
    assert result.err.startswith(
        "error: the catalogue has no model `qwen3-33b`, and the Hugging Face Hub was not searched"
    )
    assert "hint: did you mean `Qwen/Qwen3-32B`" in result.err
    assert len(dc1.commands) == before
