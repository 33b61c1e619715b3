"""The simulated `vllm serve`: its log, its processes, its memory, its interface and its failures."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from pi_cli.demo.engine import failures, flags
from pi_cli.demo.engine.failures import Failed
from pi_cli.demo.pod import EmbeddedPod
from pi_cli.demo.processes import Process
from tests.demo.conftest import Shell, ssh
from tests.until import until

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "chat" / "streams"
PARSERS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
KEY = "engine-key"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Model:
    """A `vllm serve` in the background, called `tiny`."""

    pod: EmbeddedPod
    port: int

    @property
    def log(self) -> str:
        return (self.pod.home / f"{self.port}.log").read_bytes().decode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def processes(self) -> list[Process]:
        return [process for process in self.pod.processes() if process.environ.get("MODEL") == str(self.port)]

    @property
    def server(self) -> Process:
        return next(process for process in self.processes if "serve" in process.command)

    def status(self, path: str = "/health") -> int | None:
        try:
            return httpx2.get(self.url + path, trust_env=False).status_code
        except httpx2.TransportError:
            return None

    def signal(self, name: str) -> None:
        ssh(self.pod, f"kill -{name} {self.server.pid}")

    def memory(self) -> list[int]:
        query = "nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits"
        return [int(line) for line in ssh(self.pod, query).text.split()]


def serve(pod: EmbeddedPod, arguments: str = "", *, environ: str = "", seconds: float = 0.2) -> Model:
    """Start a model as the agent does, detached and with its log in a file."""
    model = Model(pod, free_port())
    command = f"vllm serve tiny/model --served-model-name tiny --host 127.0.0.1 --port {model.port}"
    command += f" --simulate slow={seconds} {arguments}"
    ssh(pod, f"MODEL={model.port} {environ} setsid --fork {command} > {model.port}.log 2>&1 < /dev/null")
    return model


def ready(pod: EmbeddedPod, arguments: str = "", *, environ: str = "") -> Model:
    model = serve(pod, arguments, environ=environ)
    until(lambda: model.status() == 200)
    return model


# --- one model that is only asked questions ---


@pytest.fixture(scope="module")
def tiny() -> Iterator[Model]:
    with EmbeddedPod() as pod:
        yield ready(pod, f"{PARSERS} --simulate rate=2000 --max-model-len 32k", environ=f"VLLM_API_KEY={KEY}")


@pytest.fixture
def client(tiny: Model) -> Iterator[openai.OpenAI]:
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(base_url=f"{tiny.url}/v1", api_key=KEY, http_client=http, max_retries=0) as client,
    ):
        yield client


def tool(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


TOOLS = [tool(name) for name in ("ls", "read", "glob", "rg")]

MILESTONES = [
    "version 0.32.0",
    "non-default args: {'model_tag': 'tiny/model'",
    "SIMULATED",
    "Resolved architecture: LlamaForCausalLM",
    "Using max model len 32000",
    "Initializing a V1 LLM engine (v0.32.0) with config:",
    "Starting to load model tiny/model...",
    "Loading safetensors checkpoint shards: 100% Completed | 1/1",
    "Loading weights took",
    "Model loading took",
    "Dynamo bytecode transform time:",
    "torch.compile took",
    "Available KV cache memory:",
    "GPU KV cache size:",
    "Capturing CUDA graphs",
    "Graph capturing finished in",
    "init engine (profile, create kv cache, warmup model) took",
    "Starting vLLM server on http://127.0.0.1:",
    "Application startup complete.",
]


def test_the_log_passes_the_milestones_in_vllms_order_and_form(tiny: Model) -> None:
    log, position = tiny.log, 0
    for milestone in MILESTONES:
        found = log.find(milestone, position)
        assert found >= 0, milestone
        position = found
    assert re.search(
        r"^\(APIServer pid=\d+\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[model\.py:733\] Resolved", log, re.MULTILINE
    )
    assert re.search(r"^\(EngineCore pid=\d+\) \rLoading safetensors checkpoint shards:   0%", log, re.MULTILINE)
    assert KEY not in log


def recorded(name: str) -> list[Any]:
    return [normal(event) for event in (RECORDINGS / name).read_text().split("\n\n") if event]


def normal(event: str) -> Any:
    """Return an event with what differs from answer to answer replaced."""
    if event == "data: [DONE]":
        return event
    chunk = json.loads(event.removeprefix("data: "))
    chunk |= {"id": "<id>", "created": 0}
    if chunk.get("usage"):
        chunk["usage"] = sorted(chunk["usage"])
    if "system_fingerprint" in chunk:
        chunk["system_fingerprint"] = "<fingerprint>"
    for choice in chunk["choices"]:
        for call in choice["delta"].get("tool_calls", []):
            if "id" in call:
                call["id"] = re.sub("[0-9a-f]{16}$", "<id>", call["id"])
    return json.dumps(chunk)  # a text: the order of the keys counts too


@pytest.mark.parametrize(
    ("recording", "request_body"),
    [
        ("chat_qa_nousage.sse", {"messages": "What is 2+2?"}),
        (
            "chat_qa_contusage.sse",
            {
                "messages": "What is 2+2?",
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
        ),
        (
            "chat_tool.sse",
            {"messages": "List the files in /tmp/ab", "tools": TOOLS, "stream_options": {"include_usage": True}},
        ),
        (
            "chat_parallel.sse",
            {"messages": "Survey /x", "tools": TOOLS, "stream_options": {"include_usage": True}},
        ),
        (
            "chat_nothink.sse",
            {"messages": "What is 2+2?", "chat_template_kwargs": {"enable_thinking": False}},
        ),
    ],
)
def test_a_stream_is_the_recording_of_the_real_one(tiny: Model, recording: str, request_body: dict[str, Any]) -> None:
    body = {"model": "tiny", "stream": True, **request_body}
    body["messages"] = [{"role": "user", "content": body["messages"]}]
    response = httpx2.post(
        f"{tiny.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [normal(event) for event in response.text.split("\n\n") if event] == recorded(recording)


def test_the_openai_client_gets_thinking_answer_and_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    thinking, answer, usage = "", "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thinking += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
    assert "Paris" in thinking
    assert answer.strip() == "Paris"
    assert usage is not None
    assert usage.completion_tokens > 5


def test_a_tool_is_called_and_its_answer_used(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Find **/*.md and read the first match"}]
    for name, arguments, result in (
        ("glob", {"pattern": "**/*.md"}, 'docs/"a".md\nb.md'),
        ("read", {"file_path": "docs/"}, "# Title\ntext"),
    ):
        choice = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    choice = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
    assert choice.finish_reason == "stop"
    assert (choice.message.content or "").strip() == 'Done. The file starts with this line: "# Title"'


def test_without_tools_a_call_is_plain_text(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "List the files in /x"}]
    ).choices[0]
    assert '<tool_call>\n{"name": "ls", "arguments": {"path": "/x"}}\n</tool_call>' in (choice.message.content or "")


def test_an_answer_that_is_cut_says_so(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Count to 100"}], max_tokens=30
    ).choices[0]
    assert choice.finish_reason == "length"


def test_errors_have_the_real_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=[])
    assert unknown.value.response.text == (RECORDINGS / "err_model.txt").read_text().splitlines()[0]
    with pytest.raises(openai.BadRequestError) as malformed:
        client.chat.completions.create(model="tiny", messages="x")  # type: ignore[arg-type]
    assert malformed.value.response.text == (RECORDINGS / "err_body.txt").read_text().splitlines()[0]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 32000 tokens"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 32001}])


def test_the_list_of_models_looks_like_the_real_one_but_says_simulated(tiny: Model) -> None:
    told = httpx2.get(f"{tiny.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).json()
    real = json.loads((RECORDINGS / "models.json").read_text())
    assert told["data"][0].keys() == real["data"][0].keys()
    assert told["data"][0]["permission"][0].keys() == real["data"][0]["permission"][0].keys()
    assert told["data"][0]["owned_by"] == "vllm (simulated)"


def test_metrics_count_tokens(tiny: Model, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hello"}])
    metrics = httpx2.get(f"{tiny.url}/metrics", trust_env=False).text
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total")
    for name in (*names, "generation_tokens_total"):
        assert re.search(rf'^vllm:{name}\{{engine="0",model_name="tiny"\}} [0-9.]+$', metrics, re.MULTILINE), name
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in metrics


def test_the_servers_own_key_guards_v1_only_as_in_the_real_one(tiny: Model) -> None:
    assert [tiny.status(path) for path in ("/v1/models", "/health", "/version", "/metrics")] == [401, 200, 200, 200]
    body = {"messages": [{"role": "user", "content": "What is 2+2?"}]}
    answer = httpx2.post(f"{tiny.url}/invocations", json=body, trust_env=False).json()
    assert answer["choices"][0]["message"]["content"].strip() == "4"


def test_every_request_is_in_the_access_log(tiny: Model) -> None:
    tiny.status("/nowhere")
    assert re.search(
        r'\(APIServer pid=\d+\) INFO:     127\.0\.0\.1:\d+ - "GET /nowhere HTTP/1\.1" 404 Not Found', tiny.log
    )


# --- models that are started, stopped and broken ---


def test_a_middleware_from_pythonpath_closes_what_the_key_leaves_open(machine: EmbeddedPod) -> None:
    environ = f"VLLM_API_KEY={KEY} PYTHONPATH={ROOT / 'remote'}"
    model = ready(machine, "--middleware require_key.RequireKey", environ=environ)
    assert [model.status(path) for path in ("/health", "/version", "/v1/models")] == [200, 401, 401]
    assert httpx2.post(f"{model.url}/invocations", json={}, trust_env=False).status_code == 401
    opened = httpx2.get(f"{model.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    assert opened.status_code == 200


def test_tools_without_a_parser_are_refused_in_the_real_words(machine: EmbeddedPod) -> None:
    model = ready(machine)
    body = {"messages": [{"role": "user", "content": "Hello"}], "tools": TOOLS}
    refused = httpx2.post(f"{model.url}/v1/chat/completions", json=body, trust_env=False)
    assert refused.status_code == 400
    words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    assert refused.json()["error"]["message"] == words


def test_the_port_is_taken_at_once_but_refuses_until_the_model_is_loaded(machine: EmbeddedPod) -> None:
    model = serve(machine, seconds=4)
    until(lambda: "Starting to load model" in model.log)
    assert model.status() is None
    with socket.socket() as rival, pytest.raises(OSError, match="Address already in use"):
        rival.bind(("127.0.0.1", model.port))
    model.signal("TERM")
    until(lambda: not model.processes)


def test_a_clean_stop_takes_the_engine_along_and_frees_the_memory(machine: EmbeddedPod) -> None:
    model = ready(machine)
    [engine] = [process for process in model.processes if process != model.server]
    assert engine.command[0] == "VLLM::EngineCore"
    assert model.memory() == [int(81559 * 0.92), 0]
    model.signal("TERM")
    until(lambda: not model.processes)
    assert "Application shutdown complete." in model.log
    assert model.memory() == [0, 0]


def test_a_killed_server_leaves_an_engine_that_holds_the_memory(machine: EmbeddedPod) -> None:
    model = ready(machine, environ="CUDA_VISIBLE_DEVICES=1")
    model.signal("KILL")
    until(lambda: model.status() is None)
    until(lambda: len(model.processes) == 1)
    assert model.memory() == [0, int(81559 * 0.92)]
    second = serve(machine, environ="CUDA_VISIBLE_DEVICES=1")
    until(lambda: "RuntimeError: Engine core initialization failed" in second.log)
    words = (
        "ValueError: Free memory on device cuda:0 (6.37/79.65 GiB) on startup is less than desired GPU memory utiliz"
    )
    assert words in second.log


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


def test_ignoring_term_and_leaving_the_session_make_stopping_hard(machine: EmbeddedPod, shell: Shell) -> None:
    model = ready(machine, "--simulate ignore-term --simulate engine-setsid")
    pids = " ".join(str(process.pid) for process in model.processes)
    assert len(set(shell(f"ps -o sid= -p {pids.replace(' ', ',')}").text.split())) == 2
    shell(f"kill -TERM {pids}")
    assert model.status() == 200
    shell(f"kill -KILL {pids}")
    until(lambda: not model.processes)


def test_a_server_can_hang_or_never_listen_or_spam(machine: EmbeddedPod) -> None:
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
    ("arguments", "status", "said"),
    [
        ("--nope 1", 2, "vllm: error: unrecognized arguments: --nope 1"),
        ("--port x", 2, "argument --port: invalid int value: 'x'"),
        ("--tool-call-parser nope", 1, "KeyError: 'invalid tool call parser: nope (chose from { apertus,"),
        ("--enable-auto-tool-choice", 1, "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        ("-tp 8", 1, "Value error, World size (8) is larger than the number of available GPUs (2) in this node."),
        ("--simulate fail=unknown-arch", 1, "Model architectures ['NewModelForCausalLM'] are not supported for now."),
        ("--simulate fail=engine-killed", 1, "Failed core proc(s): {'EngineCore': -9}"),
    ],
)
def test_a_start_that_fails_ends_as_the_real_one(shell: Shell, arguments: str, status: int, said: str) -> None:
    outcome = shell(f"exec vllm serve tiny/model --host 127.0.0.1 --port {free_port()} --simulate slow=0.1 {arguments}")
    assert outcome.status == status
    assert said in outcome.text + outcome.err.decode()


def test_a_server_that_is_killed_while_it_loads_says_nothing(machine: EmbeddedPod) -> None:
    model = serve(machine, "--simulate fail=killed")
    until(lambda: [process.command[0] for process in model.processes] == ["VLLM::EngineCore"])
    assert model.log.splitlines()[-1].partition("] ")[2].startswith("Initializing a V1 LLM engine")


def test_the_engines_own_error_comes_before_the_servers(shell: Shell) -> None:
    outcome = shell(f"vllm serve m/m --port {free_port()} --simulate slow=0.1 --simulate fail=kv-cache 2>&1")
    lines = outcome.text.splitlines()
    first = next(line for line in lines if "Error:" in line)
    assert re.match(
        r"\(EngineCore pid=\d+\) ERROR \d\d-\d\d \d\d:\d\d:\d\d \[core\.py:1510\] ValueError: To serve at", first
    )
    assert lines[-1].endswith("See root cause above. Failed core proc(s): {'EngineCore': 1}")
    assert outcome.status == 1


@pytest.mark.parametrize("name", failures.KNOWN)
def test_no_failure_leaves_a_blank_unfilled(name: str) -> None:
    facts = dict.fromkeys(
        ["model", "name", "known", "device", "free", "total", "wanted", "utilization", "context", "size", "count"], "1"
    )
    assert not re.search(r"\{\w+\}", Failed(failures.KNOWN[name], **facts).text)


def test_flags_are_read_as_argparse_reads_them() -> None:
    line = (
        "m/m --served-model-name a b --max_model_len=32K -tp 2 --no-enable-prefix-caching "
        "--compilation-config.cudagraph_mode NONE -O3 --middleware x.Y --middleware z.W"
    )
    settings = flags.parse(line.split())
    assert settings.model == "m/m"
    assert settings.names == ["a", "b"]
    assert settings.number("max-model-len", 0) == 32768
    assert settings.number("tensor-parallel-size", 1) == 2
    assert settings.given["middleware"] == ["x.Y", "z.W"]
    assert settings.text("optimization-level") == "3"


def test_every_argument_of_a_catalogue_entry_is_known() -> None:
    """Arguments of models that others run in production, so that the stub refuses none of them."""
    words = (
        "--attention-backend flashinfer --attention_config.use_fp4_indexer_cache False --block-size 128 "
        "--chat-template-content-format string --config-format mistral --data-parallel-size 1 --dtype bfloat16 "
        "--decode-context-parallel-size 8 --disable-custom-all-reduce --enable-expert-parallel --enforce-eager "
        "--kernel-config.enable_flashinfer_autotune True --kv-cache-dtype fp8 --language-model-only --linear-backend x "
        "--load-format mistral --mamba-backend triton --mamba-cache-mode align --mamba-ssm-cache-dtype float32 "
        "--max-num-batched-tokens 8192 --max-num-seqs 32 --mm-encoder-tp-mode data --moe-backend marlin "
        "--no-enable-flashinfer-autotune --pipeline-parallel-size 1 --tokenizer-mode mistral --trust-remote-code "
        "--generation-config vllm --kv-cache-memory-bytes 128M --gpu-memory-utilization 0.9 --max-model-len auto"
    )
    assert flags.parse(["m/m", *words.split()]).model == "m/m"
