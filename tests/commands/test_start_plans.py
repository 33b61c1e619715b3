"""`pi start`: the plan it makes, shows, and keeps to."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.forkserver import FORKSERVER
from tests.lab.hub import Hub

KNOWN = "openai/gpt-oss-20b"
SHAPE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        files: dict[str, int | bytes] = {"config.json": json.dumps(SHAPE).encode(), "model.safetensors": 16_000_000_000}
        hub.add_synthetic("someone/eight-b", files)
        hub.add_synthetic("someone/gated-b", files)
        hub.gated["someone/gated-b"] = "hf_somebody_else"
        yield hub


def value(arguments: list[str], option: str) -> str | None:
    return arguments[arguments.index(option) + 1] if option in arguments else None


def test_a_dry_run_shows_the_plan_the_memory_and_the_command_without_a_connection(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", KNOWN, "--name", "oss", "--dry-run")
    assert result.code == 0, result.err
    assert f"{KNOWN} on dc1" in result.out
    assert "1x H100 (GPU 0)" in result.out
    assert "131,072 tokens of context" in result.out
    for part in ("weights", "KV cache", "overhead", "free"):
        assert part in result.out
    command = "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0 PYTHONPATH=~/.pi/lib SPT_NOENV=1 "
    command += f"vllm serve {KNOWN} --served-model-name oss --host 0.0.0.0 --port 8001"
    assert command in result.out
    assert pod.commands == []
    assert "models" not in pods_json()["pods"]["dc1"] or pods_json()["pods"]["dc1"]["models"] == {}


def test_a_dry_run_in_json_has_every_figure(pi: Pi, pod: EmbeddedPod) -> None:
    [told] = pi("start", KNOWN, "--name", "oss", "--dry-run", "--json", "--memory", "50%", "--context", "16k").json
    assert (told["pod"], told["gpus"], told["context"], told["memory_share"]) == ("dc1", [0], 16384, 0.5)
    assert value(told["arguments"], "--max-model-len") == "16384"
    assert value(told["arguments"], "--gpu-memory-utilization") == "0.50"
    memory = told["memory"]
    assert memory["weights"] + memory["overhead"] + memory["kv_cache"] == pytest.approx(
        memory["total"] * 0.5, abs=0.001
    )
    assert pod.commands == []


def test_without_a_model_it_shows_what_the_pod_can_run(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start")
    assert result.code == 0
    shown = [line.split()[0] for line in result.out.splitlines()[1:]]
    assert KNOWN in shown
    assert set(shown) <= set(pi("models", "--fits", "-q").out.split())
    assert pod.commands == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "3"], "needs 3 GPUs, but `dc1` has 2"),
        (["--memory", "half"], "`half` is not a share of a GPU's memory"),
        (["--memory", "0"], "`0` is not a share of a GPU's memory"),
        (["--memory", "150%"], "`150%` is not a share of a GPU's memory"),
        (["--context", "long"], "`long` is not a token count"),
        (["--context", "1m"], "supports at most 131,072 tokens of context, 1,048,576 requested"),
        (["--memory", "50%", "--vllm", "--enforce-eager"], "`--memory` cannot be combined with `--vllm`"),
        (["--gpus", "1", "--vllm"], "`--gpus` cannot be combined with `--vllm`"),
        (["--context", "8k", "--vllm"], "`--context` cannot be combined with `--vllm`"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_before_any_connection(
    pi: Pi, pod: EmbeddedPod, words: list[str], said: str
) -> None:
    result = pi("start", KNOWN, "--name", "q", *words)
    assert result.code == 2
    assert said in result.err
    assert "hint: " in result.err
    assert pod.commands == []


def test_what_cannot_fit_is_refused_before_any_connection_and_what_would_is_named(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "zai-org/GLM-4.5-Air", "--name", "glm")
    assert result.code == 2
    assert "error: `zai-org/GLM-4.5-Air` does not fit `dc1`: its weights take" in result.err
    assert "it would fit" in result.err
    assert "4x H100" in result.err
    assert pod.commands == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_own_arguments_that_vllm_refuses_by_their_numbers_are_refused_before_any_connection(
    pi: Pi, pod: EmbeddedPod, options: tuple[str, ...]
) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", *options, "--vllm", "--max-model-len", "1m")
    assert result.code == 2
    assert (
        "vLLM would not start `Qwen/Qwen3-8B` with these arguments: it supports at most 40,960 tokens of context, and "
        "`--max-model-len` is 1,000,000"
    ) in result.err
    assert "hint: give `--max-model-len 40960`" in result.err
    assert pod.commands == []


def test_own_arguments_are_compared_with_what_the_hub_knows_of_a_model(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    own = ("--vllm", "--max-model-len", "50000")
    result = pi("start", "someone/eight-b", "--name", "q", *own, HF_ENDPOINT=hub.url)
    assert result.code == 2
    assert "it supports at most 40,960 tokens of context, and `--max-model-len` is 50,000" in result.err
    assert pod.commands == []
    other = pi("start", "someone/eight-b", "--name", "q", "--dry-run", *own, "--revision", "v2", HF_ENDPOINT=hub.url)
    assert other.code == 0, other.err  # its configuration may differ


@pytest.mark.usefixtures("pod")
def test_a_start_with_own_arguments_says_what_vllm_will_probably_refuse(pi: Pi) -> None:
    own = ("--gpu-memory-utilization", "0.27")  # its weights take 15.3 GiB of 21.2, and one request takes 5.6
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--detach", "--vllm", *own)
    assert "vLLM will probably not start: 40,960 tokens of context do not fit" in result.err


def test_a_name_is_suggested_where_none_is_given(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", KNOWN)
    assert result.code == 2
    assert f"hint: for example: `pi start {KNOWN} --name gpt-oss-20b`" in result.err
    assert pod.commands == []


def test_a_model_of_the_hub_is_planned_from_its_size_and_shape(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    words = ("start", "someone/eight-b", "--name", "q", "--dry-run", "--json")
    [told] = pi(*words, HF_ENDPOINT=hub.url).json
    assert told["memory"]["weights"] == pytest.approx(16e9 / 2**30, abs=0.001)
    assert told["context"] == 40960
    assert "computed from its weights and architecture for 1x H100" in told["reasons"][0]
    assert value(told["arguments"], "--tool-call-parser") == "hermes"
    assert hub.bytes_sent < 200_000, "headers, and no weights"
    assert pod.commands == []


def test_a_gated_model_is_refused_before_the_pod_is_asked(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    """Fault 38."""
    for own in ([], ["--vllm", "--enforce-eager"]):
        result = pi("start", "someone/gated-b", "--name", "q", *own, HF_ENDPOINT=hub.url)
        assert result.code == 4
        assert "the model is gated and HF_TOKEN has no access to it" in result.err
        assert f"{hub.url}/someone/gated-b" in result.err
    missing = pi("start", "someone/eigth-b", "--name", "q", HF_ENDPOINT=hub.url)
    assert (missing.code, "there is no model `someone/eigth-b`" in missing.err) == (4, True)
    assert pod.commands == []


def test_without_the_hub_a_model_starts_and_the_unknown_is_named(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "someone/eight-b", "--name", "q")
    assert result.code == 0, result.err
    assert "not in the catalogue: cannot query the Hugging Face Hub at http://127.0.0.1:9" in result.err
    [served] = [each.command for each in pod.processes() if "serve" in each.command and "--port" in each.command][:1]
    assert value(list(served), "--max-model-len") == "auto"


def test_a_hub_that_says_nothing_is_waited_for_in_sight_and_ctrl_c_ends_that(pod: EmbeddedPod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        words = ["start", "someone/eight-b", "--name", "q"]
        with FORKSERVER.start(words, environ=os.environ | hub) as starting:
            assert starting.stderr is not None
            assert starting.stderr.readline() == "note: asking the Hugging Face Hub about `someone/eight-b`\n"
            starting.send_signal(signal.SIGINT)
            assert starting.wait(timeout=5) == 130
            assert starting.stderr.read() == ""
    assert pod.commands == []


def test_a_second_model_shares_a_gpu_with_what_the_first_leaves(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1", "1x H100 80GB")
    assert pi("start", KNOWN, "--name", "a", "--memory", "50%").code == 0
    second = pi("start", KNOWN, "--name", "b")
    assert second.code == 0, second.err
    models = pods_json()["pods"]["dc1"]["models"]
    assert models["a"]["memory"] == 0.5
    assert 0.4 < models["b"]["memory"] < 0.5
    third = pi("start", KNOWN, "--name", "c")
    assert third.code == 4
    assert f"error: no room for `{KNOWN}` on `dc1`: GPU 0:" in third.err
    assert "are used by `a` and `b`" in third.err
    assert "pi stop a --pod dc1" in third.err
    assert sorted(pods_json()["pods"]["dc1"]["models"]) == ["a", "b"]


def test_a_taken_name_is_reported_before_missing_memory(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1", "1x H100 80GB")
    assert pi("start", KNOWN, "--name", "a").code == 0
    again = pi("start", KNOWN, "--name", "a")
    assert (again.code, "error: `a` already runs here (port " in again.err) == (1, True), again.err


def test_models_that_another_laptop_started_count(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    """Fault 33."""
    embed("dc1", "1x H100 80GB")
    assert pi("start", KNOWN, "--name", "a", "--memory", "50%").code == 0
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"]["dc1"]["models"] = {}
    path.write_text(json.dumps(state))
    second = pi("start", KNOWN, "--name", "b")
    assert second.code == 0, second.err
    assert pods_json()["pods"]["dc1"]["models"]["b"]["memory"] < 0.5
    assert pi("list", "--json").code == 0
    assert pods_json()["pods"]["dc1"]["models"]["a"]["memory"] == 0.5


def test_what_vllm_says_of_its_memory_is_kept_shown_and_used(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", KNOWN, "--name", "a").code == 0
    [measured] = json.loads(Path(os.environ["PI_CONFIG_DIR"], "measured.json").read_text())
    assert (measured["model"], measured["gpu"], measured["count"], measured["vllm"]) == (KNOWN, "H100", 1, "0.32.0")
    assert measured["predicted_tokens"] > 0
    log = (pod.home / ".vllm_logs/a.log").read_text()
    assert f"GPU KV cache size: {measured['tokens']:,} tokens" in log
    shown = pi("models", KNOWN)
    assert "MEASURED" in shown.out
    assert f"{measured['tokens']:,}" in shown.out
    [told] = pi("start", KNOWN, "--name", "b", "--dry-run", "--json").json
    assert told["measured"] is True
    assert told["memory"]["kv_cache"] == pytest.approx(measured["kv_cache"], abs=0.1)


def test_starts_at_once_choose_again_when_others_were_quicker(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 31: four models on two GPUs with room for two each."""
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda name: pi("start", KNOWN, "--name", name, "--memory", "45%", "--gpus", "1"), "abcd"))
    assert [end.code for end in ends] == [0] * 4, ends
    models = pods_json()["pods"]["dc1"]["models"].values()
    assert sorted(model["gpu"] for model in models) == ["0", "0", "1", "1"]
    assert len({model["port"] for model in models}) == 4
    assert pod.processes()
