"""The life of the simulated vLLM: its processes, its memory, its end, and every way it fails to start."""

import re
import socket
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.engine import failures, flags
from pi_cli.demo.engine.failures import Failed
from pi_cli.demo.pod import EmbeddedPod
from tests.demo.conftest import Shell, ssh
from tests.demo.model import KEY, TOOLS, free_port, ready, serve
from tests.until import until

ROOT = Path(__file__).parents[2]


def test_a_middleware_from_pythonpath_protects_the_other_routes(machine: EmbeddedPod) -> None:
    environ = f"VLLM_API_KEY={KEY} PYTHONPATH={ROOT / 'remote'}"
    model = ready(machine, "--middleware require_key.RequireKey", environ=environ)
    assert [model.status(path) for path in ("/health", "/version", "/v1/models")] == [200, 401, 401]
    assert httpx2.post(f"{model.url}/invocations", json={}, trust_env=False).status_code == 401
    opened = httpx2.get(f"{model.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    assert opened.status_code == 200


def test_tools_without_a_parser_are_refused_with_the_real_message(machine: EmbeddedPod) -> None:
    model = ready(machine)
    body = {"messages": [{"role": "user", "content": "Hello"}], "tools": TOOLS}
    refused = httpx2.post(f"{model.url}/v1/chat/completions", json=body, trust_env=False)
    assert refused.status_code == 400
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    assert refused.json()["error"]["message"] == message


def test_the_port_is_bound_immediately_but_refuses_connections_until_the_model_is_loaded(machine: EmbeddedPod) -> None:
    model = serve(machine, seconds=4)
    until(lambda: "Starting to load model" in model.log)
    assert model.status() is None
    with socket.socket() as rival, pytest.raises(OSError, match="Address already in use"):
        rival.bind(("127.0.0.1", model.port))
    model.signal("TERM")
    until(lambda: not model.processes)


def test_a_clean_stop_ends_the_engine_and_frees_the_memory(machine: EmbeddedPod) -> None:
    model = ready(machine)
    [engine] = [process for process in model.processes if process != model.server]
    assert engine.command[0] == "VLLM::EngineCore"
    assert model.memory() == [int(81559 * 0.92), 0]
    model.signal("TERM")
    until(lambda: not model.processes)
    assert "Application shutdown complete." in model.log
    assert model.memory() == [0, 0]


def test_a_killed_server_leaves_an_engine_that_uses_the_memory(machine: EmbeddedPod) -> None:
    model = ready(machine, environ="CUDA_VISIBLE_DEVICES=1")
    model.signal("KILL")
    until(lambda: model.status() is None)
    until(lambda: len(model.processes) == 1)
    assert model.memory() == [0, int(81559 * 0.92)]
    second = serve(machine, environ="CUDA_VISIBLE_DEVICES=1")
    until(lambda: "RuntimeError: Engine core initialization failed" in second.log)
    error = (
        "ValueError: Free memory on device cuda:0 (6.37/79.65 GiB) on startup is less than desired GPU memory utiliz"
    )
    assert error in second.log


def test_a_dead_engine_makes_the_server_unhealthy(machine: EmbeddedPod) -> None:
    model = ready(machine)
    engine = next(process for process in model.processes if process.command[0] == "VLLM::EngineCore")
    ssh(machine, f"kill -9 {engine.pid}")
    until(lambda: model.status() == 503)
    until(lambda: "Engine core proc EngineCore died unexpectedly" in model.log)


def test_tensor_parallel_workers_share_the_gpus(machine: EmbeddedPod) -> None:
    model = ready(machine, "-tp 2 --gpu-memory-utilization 0.5")
    names = {process.command[0] for process in model.processes if process.command[0].startswith("VLLM")}
    assert names == {"VLLM::EngineCore", "VLLM::Worker_TP0", "VLLM::Worker_TP1"}
    assert model.memory() == [int(81559 * 0.5)] * 2


def test_with_ignore_term_and_engine_setsid_only_sigkill_stops_all_processes(
    machine: EmbeddedPod, shell: Shell
) -> None:
    model = ready(machine, "--simulate ignore-term --simulate engine-setsid")
    pids = " ".join(str(process.pid) for process in model.processes)
    assert len(set(shell(f"ps -o sid= -p {pids.replace(' ', ',')}").text.split())) == 2
    shell(f"kill -TERM {pids}")
    assert model.status() == 200
    shell(f"kill -KILL {pids}")
    until(lambda: not model.processes)


def test_a_server_can_hang_never_listen_or_spam_its_log(machine: EmbeddedPod) -> None:
    silent = serve(machine, "--simulate never-listen --gpu-memory-utilization 0.1")
    hanging = serve(machine, "--simulate hang-health --gpu-memory-utilization 0.1")
    spamming = serve(machine, "--simulate spam=2000 --gpu-memory-utilization 0.1")
    until(lambda: "Waiting for application startup." in silent.log)
    until(lambda: spamming.log.count("Avg generation throughput") > 500)
    until(lambda: hanging.status("/version") == 200)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.get(f"{hanging.url}/health", timeout=0.3, trust_env=False)
    assert silent.status() is None


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        ("--nope 1", 2, "vllm: error: unrecognized arguments: --nope 1"),
        ("VLLM_X=0", 2, "vllm: error: unrecognized arguments: VLLM_X=0"),
        ("--max 8192", 2, "ambiguous option: --max could match --max-log-len, --max-model-len"),
        ("--enforce-eager=true", 2, "ignored explicit argument 'true'"),
        ("--port x", 2, "argument --port: invalid int value: 'x'"),
        ("--tool-call-parser nope", 1, "KeyError: 'invalid tool call parser: nope (chose from { apertus,"),
        ("--enable-auto-tool-choice", 1, "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        ("-tp 8", 1, "Value error, World size (8) is larger than the number of available GPUs (2) in this node."),
        ("--simulate fail=unknown-arch", 1, "Model architectures ['NewModelForCausalLM'] are not supported for now."),
        ("--simulate fail=engine-killed", 1, "Failed core proc(s): {'EngineCore': -9}"),
    ],
)
def test_a_failed_start_ends_like_the_real_one(shell: Shell, arguments: str, status: int, error: str) -> None:
    outcome = shell(f"exec vllm serve tiny/model --host 127.0.0.1 --port {free_port()} --simulate slow=0.1 {arguments}")
    assert outcome.status == status
    assert error in outcome.text + outcome.err.decode()


def test_a_server_killed_while_loading_prints_no_error(machine: EmbeddedPod) -> None:
    model = serve(machine, "--simulate fail=killed")
    until(lambda: [process.command[0] for process in model.processes] == ["VLLM::EngineCore"])
    assert model.log.splitlines()[-1].partition("] ")[2].startswith("Initializing a V1 LLM engine")


def test_the_engines_error_precedes_the_servers(shell: Shell) -> None:
    outcome = shell(f"vllm serve m/m --port {free_port()} --simulate slow=0.1 --simulate fail=kv-cache 2>&1")
    lines = outcome.text.splitlines()
    first = next(line for line in lines if "Error:" in line)
    assert re.match(
        r"\(EngineCore pid=\d+\) ERROR \d\d-\d\d \d\d:\d\d:\d\d \[core\.py:1510\] ValueError: To serve at", first
    )
    assert lines[-1].endswith("See root cause above. Failed core proc(s): {'EngineCore': 1}")
    assert outcome.status == 1


@pytest.mark.parametrize("name", failures.KNOWN)
def test_every_placeholder_of_a_failure_is_filled(name: str) -> None:
    facts = dict.fromkeys(
        ["model", "name", "known", "device", "free", "total", "wanted", "utilization", "context", "size", "count"], "1"
    )
    assert not re.search(r"\{\w+\}", Failed(failures.KNOWN[name], **facts).text)


def test_flags_are_parsed_like_argparse() -> None:
    line = (
        "m/m --served-model-name a b --max_model=32K --tensor-parallel 2 --no-enable-prefix-caching "
        "--compilation-config.cudagraph_mode NONE -O3 --middleware x.Y --middleware z.W"
    )
    settings = flags.parse(line.split())
    assert settings.model == "m/m"
    assert settings.names == ["a", "b"]
    assert settings.number("max-model-len", 0) == 32768
    assert settings.number("tensor-parallel-size", 1) == 2
    assert settings.given["middleware"] == ["x.Y", "z.W"]
    assert settings.text("optimization-level") == "3"


def test_arguments_of_production_deployments_are_accepted() -> None:
    """The stub accepts all arguments of models that others run in production."""
    arguments = (
        "--attention-backend flashinfer --attention_config.use_fp4_indexer_cache False --block-size 128 "
        "--chat-template-content-format string --config-format mistral --data-parallel-size 1 --dtype bfloat16 "
        "--decode-context-parallel-size 8 --disable-custom-all-reduce --enable-expert-parallel --enforce-eager "
        "--kernel-config.enable_flashinfer_autotune True --kv-cache-dtype fp8 --language-model-only "
        "--linear-backend triton --load-format mistral --mamba-backend triton --mamba-cache-mode align "
        "--mamba-ssm-cache-dtype float32 "
        "--max-num-batched-tokens 8192 --max-num-seqs 32 --mm-encoder-tp-mode data --moe-backend marlin "
        "--no-enable-flashinfer-autotune --pipeline-parallel-size 1 --tokenizer-mode mistral --trust-remote-code "
        "--generation-config vllm --kv-cache-memory-bytes 128M --gpu-memory-utilization 0.9 --max-model-len auto"
    )
    assert flags.parse(["m/m", *arguments.split()]).model == "m/m"
