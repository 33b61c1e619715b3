"""Files of this machine after `--vllm`: uploaded once, and nothing is left of an upload that was interrupted."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.models import local_files
from tests.conftest import Pi
from tests.until import until

START = ("start", "Qwen/Qwen3-8B", "--name", "q")
VLLM = """#!/bin/bash
printf '%s\\0' "$@" > ~/argv.new; mv ~/argv.new ~/argv; exec sleep 600
"""
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}\n"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "my template.jinja"
    path.write_text(TEMPLATE)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 16}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4096)
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "checkpoint-7").mkdir()
    return folder


def argv(pod: EmbeddedPod) -> list[str]:
    until((pod.home / "argv").exists)
    return (pod.home / "argv").read_text(encoding="utf-8").split("\0")[:-1]


def stored(pod: EmbeddedPod) -> dict[str, bytes]:
    folder = pod.home / ".pi" / "uploads"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_chat_template_is_uploaded_and_vllm_gets_its_path_on_the_pod(
    pi: Pi, pod: EmbeddedPod, template: Path
) -> None:
    pod.install("vllm", VLLM)
    result = pi(*START, "--detach", "--vllm", "--chat-template", str(template), "--seed", "1")
    assert result.code == 0, result.err
    assert f"`--chat-template`: `{template}` is uploaded (63 B)" in result.err
    words = argv(pod)
    path = Path(words[words.index("--chat-template") + 1])
    assert path.read_text() == TEMPLATE
    assert path.is_relative_to(pod.home / ".pi" / "uploads")
    assert path.name == "my_template.jinja"
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_the_same_file_is_uploaded_once(pi: Pi, pod: EmbeddedPod, template: Path) -> None:
    pod.install("vllm", VLLM)
    for name in ("a", "b"):
        words = ("start", "Qwen/Qwen3-8B", "--name", name, "--detach", "--vllm", f"--chat-template={template}")
        result = pi(*words, "--gpu-memory-utilization", "0.3")
        assert result.code == 0, result.err
        assert ("uploading" in result.err) == (name == "a")
    assert list(stored(pod).values()) == [TEMPLATE.encode()]
    template.write_text(TEMPLATE * 2)
    assert pi(*words[:2], "--name", "c", *words[4:], "--gpu-memory-utilization", "0.3").code == 0
    assert len(stored(pod)) == 2


def test_a_lora_adapter_is_uploaded_without_what_training_left(pi: Pi, pod: EmbeddedPod, adapter: Path) -> None:
    pod.install("vllm", VLLM)
    module = json.dumps({"name": "json", "path": str(adapter), "base_model_name": "Qwen/Qwen3-8B"})
    loras = ("--enable-lora", "--lora-modules", f"sql={adapter}", module)
    result = pi(*START, "--detach", "--vllm", *loras)
    assert result.code == 0, result.err
    words = argv(pod)
    first, second = words[words.index("--lora-modules") + 1 :][:2]
    name, _, folder = first.partition("=")
    assert name == "sql"
    assert json.loads(second) == {"name": "json", "path": folder, "base_model_name": "Qwen/Qwen3-8B"}
    copied = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    kept = ("adapter_config.json", "adapter_model.safetensors")
    assert copied == {name: (adapter / name).read_bytes() for name in kept}


def test_a_dry_run_uploads_nothing_and_says_what_it_would(pi: Pi, pod: EmbeddedPod, template: Path) -> None:
    result = pi(*START, "--dry-run", "--json", "--vllm", "--chat-template", str(template))
    [plan] = result.json
    assert any("would be uploaded (63 B) unless the pod has it" in reason for reason in plan["reasons"])
    shown = plan["command"].replace('"$HOME"', str(pod.home))
    place = shlex.split(shown)[-1]
    assert place.startswith(f"{pod.home}/.pi/uploads/")
    assert not (pod.home / ".pi" / "uploads").exists()


@pytest.mark.usefixtures("pod")
def test_what_cannot_be_uploaded_is_refused_before_a_pod_is_asked(pi: Pi, tmp_path: Path, adapter: Path) -> None:
    large = tmp_path / "large.jinja"
    large.write_bytes(bytes(local_files.MAX_FILE + 1))
    huge = adapter / "adapter_model.bin"
    with huge.open("wb") as file:
        file.truncate(local_files.MAX_FOLDER + 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, said in (
        (["--chat-template", str(large)], "and pi uploads at most 1.0 MB"),
        (["--lora-modules", f"sql={adapter}"], "and pi uploads at most 2.0 GB"),
        (["--lora-modules", f"sql={empty}"], "is not a LoRA adapter: it has no adapter_config.json"),
        (["--chat-template", str(empty)], "`--chat-template` takes a file"),
    ):
        result = pi(*START, "--vllm", *words)
        assert result.code == 2, result.err
        assert said in result.err
    assert "`tar -cf - -C" in pi(*START, "--vllm", "--chat-template", str(large)).err


@pytest.mark.usefixtures("pod")
def test_a_path_of_the_pod_and_an_inline_template_stay_as_typed(pi: Pi) -> None:
    for value, note in (
        ("/opt/no/template.jinja", "has to be on the pod"),
        ("{{ messages }}", ""),
        ("x" * 5000, "has to"),
    ):
        [plan] = pi(*START, "--dry-run", "--json", "--vllm", "--chat-template", value).json
        assert shlex.split(plan["command"])[-1] == value
        assert bool(note) == any(note and note in reason for reason in plan["reasons"])


def test_ctrl_c_during_an_upload_leaves_no_file(pod: EmbeddedPod, adapter: Path) -> None:
    with (adapter / "adapter_model.bin").open("wb") as file:
        file.truncate(300_000_000)  # long enough to be interrupted
    words = [*START, "--vllm", "--enable-lora", "--lora-modules", f"sql={adapter}"]
    uploads = pod.home / ".pi" / "uploads"
    with subprocess.Popen([sys.executable, "-m", "pi_cli", *words], stderr=subprocess.DEVNULL) as started:
        try:
            until(lambda: any(uploads.glob(".new.*/adapter_model.*")))
        finally:
            started.send_signal(signal.SIGINT)
    assert started.returncode == 130
    until(lambda: list(uploads.iterdir()) == [])
