"""What the vLLM of a pod said about itself is fetched from the pod, kept, and planned with, also without the pod."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.lab.hub import Hub

SHAPE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
MODEL = "someone/eight-b"
NO_HERMES = (
    "vLLM 0.28.0 on `dc1` has no parser `hermes` for `--tool-call-parser`, so tool calls are off; get a newer one with "
    "`pi pods setup dc1 --vllm release`"
)


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add_synthetic(MODEL, {"config.json": json.dumps(SHAPE).encode(), "model.safetensors": 8_000_000_000})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def say(venv: Path, **parts: object) -> str:
    """Let the vLLM of an environment say something about itself; return the digest."""
    text = json.dumps({"format": 1, "version": "0.28.0"} | parts, separators=(",", ":"))
    venv.mkdir(exist_ok=True)
    (venv / ".pi-abilities.json").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def stored() -> list[Path]:
    return sorted(Path(os.environ["PI_CONFIG_DIR"], "abilities").glob("*.json"))


def test_a_start_plans_with_what_the_vllm_of_the_pod_said_and_the_next_plan_needs_no_pod(
    pi: Pi, pod: EmbeddedPod
) -> None:
    digest = say(pod.home / "venv", tool_call_parsers=["mistral"])
    before = pi("start", MODEL, "--name", "q", "--dry-run", "--json").json[0]
    assert "--tool-call-parser" in before["arguments"]
    started = pi("start", MODEL, "--name", "q", "--detach")
    assert started.code == 0, started.err
    [record] = [json.loads(file.read_text()) for file in (pod.home / ".pi/models").iterdir()]
    assert "--tool-call-parser" not in record["arguments"]
    assert "--enable-auto-tool-choice" not in record["arguments"]
    assert pods_json()["pods"]["dc1"]["abilities"] == digest
    [file] = stored()
    assert (file.stem, file.stat().st_mode & 0o777) == (digest, 0o600)
    commands = list(pod.commands)
    after = pi("start", MODEL, "--name", "p", "--dry-run", "--json").json[0]
    assert after["arguments"][:2] == record["arguments"][:2] == ["--reasoning-parser", "qwen3"]
    assert NO_HERMES in after["reasons"]
    assert pod.commands == commands


def test_a_damaged_copy_is_fetched_again(pi: Pi, pod: EmbeddedPod) -> None:
    digest = say(pod.home / "venv", tool_call_parsers=["mistral"])
    pi("pods", "--check")
    [file] = stored()
    content = file.read_text()
    file.write_text("{")
    pi("pods", "--check")
    assert file.read_text() == content
    assert file.stem == digest


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"format":99}', pytest.param("x" * 2_000_000, id="large"), '{"format":1,"version":"\\u001b[2J"}'],
)
def test_a_file_that_pi_does_not_understand_is_as_none(pi: Pi, pod: EmbeddedPod, content: str) -> None:
    say(pod.home / "venv")
    (pod.home / "venv/.pi-abilities.json").write_text(content)
    result = pi("start", MODEL, "--name", "q", "--detach")
    assert result.code == 0, result.err
    assert "abilities" not in pods_json()["pods"]["dc1"]
    assert stored() == []


def test_a_model_is_refused_for_what_the_vllm_of_the_pod_said_and_not_for_what_another_version_says(
    pi: Pi, pod: EmbeddedPod
) -> None:
    say(pod.home / "venv", quantisations={"fp8": 100})
    refused = pi("start", MODEL, "--name", "q")
    assert refused.code == 2
    needs = "vLLM 0.28.0 needs compute capability 10.0 for FP8 weights, and it has 9.0"
    assert f"`{MODEL}` does not fit `dc1`: 2x H100: {needs}" in refused.err
    assert "it would fit on 1x B200" in refused.err
    say(pod.home / "venv", version="0.27.0")
    assert pi("start", MODEL, "--name", "q", "--detach").code == 0


def test_setup_records_what_the_vllm_said(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("pods", "setup", "dc1").code == 0
    simulated = pods_json()["pods"]["dc1"]["abilities"]
    digest = say((pod.home / "venv").resolve(), version="0.32.0")
    assert pi("pods", "setup", "dc1").code == 0
    assert pods_json()["pods"]["dc1"]["abilities"] == digest != simulated
