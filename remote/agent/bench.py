"""Run vLLM's own benchmark, `vllm bench serve`, against a model of this machine: one number of streams at a time.

It runs on the pod, so that no network is measured. The key goes from the environment of the model into that of the
benchmark. What it writes is in a folder that is deleted. It ends with pi, and with the model: its port may be taken by
another process then, which would be sent the key.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from agent import home, ports, processes, records, variables, vllm_versions, wire
from agent.processes import MARKER, Process
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

ANSWER = 10.0  # seconds for an answer of the server, which may be busy
BETWEEN_LOOKS = 10  # ticks between two looks at the owner of the port
GRACE = 5.0  # seconds between TERM and KILL
MAX_OUTPUT = 4000  # characters of the end of its output
MAX_RESULT = 1 << 20  # bytes of its result
COMPLETIONS = "/v1/completions"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")  # its HTTP client would use them for 127.0.0.1 too
TOKENIZER = ("--tokenizer", "--tokenizer-mode")  # options that both `vllm serve` and `vllm bench serve` have
OWN_CODE = "--trust-remote-code"
FIGURES = ("ttft", "tpot", "itl")


def bench(request: "protocol.BenchRequest") -> "protocol.BenchResult":
    """Run one level of a benchmark; return why not if the model cannot be measured."""
    record = find(request["name"])
    group = processes.marked().get(record["uid"], [])
    key = next(iter(processes.keys(group)), "")
    context = context_of(record, key, group)
    result: "protocol.BenchResult" = {
        "end": "done",
        "context": context,
        "vllm": record["vllm"],
        "arguments": [each for each in record["arguments"] if isinstance(each, str)],
        "figures": None,
        "output": "",
    }
    if context == 0:
        result["end"] = "not-ready"
    elif not completes(record, key, group):
        result["end"] = "no-text"
    elif context and request["input_tokens"] + request["output_tokens"] > context:
        result["end"] = "too-long"
    else:
        measure(record, request, key, group, result)
    return result


def find(name: str) -> "protocol.Record":
    """Return the record of the living model; a gateway and a node have no server that could be measured."""
    named = [record for record in records.living() if record["name"] == name]
    models = [each for each in named if each.get("kind") is None and each.get("role") != "node"]
    if not models:
        raise Refused({"code": "not-there", "name": name})
    return max(models, key=lambda record: record["since"])


def context_of(record: "protocol.Record", key: str, group: List[Process]) -> Optional[int]:
    """Return the context length of a model in tokens; None if it does not say, 0 if it does not answer."""
    status, body = ports.get(record["port"], "/v1/models", key, group, timeout=ANSWER)
    if status != 200 or not key:
        return 0
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
        length = json.loads(body)["data"][0]["max_model_len"]
        return length if records.is_whole(length, 1, 1 << 32) else None
    return None


def completes(record: "protocol.Record", key: str, group: List[Process]) -> bool:
    """Return whether a model generates text, by its routes; a server that does not describe itself may."""
    status, body = ports.get(record["port"], "/openapi.json", key, group, timeout=ANSWER)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return status != 200 or COMPLETIONS in json.loads(body)["paths"]
    return True


def measure(
    record: "protocol.Record",
    request: "protocol.BenchRequest",
    key: str,
    group: List[Process],
    result: "protocol.BenchResult",
) -> None:
    """Run the benchmark, and put its figures, or the end of its output, into the result."""
    folder = tempfile.mkdtemp(prefix="pi-bench-")
    try:
        vllm = version_of(record)
        settings = environment(vllm.settings(variables.pod_environment()), key)
        path = os.path.join(folder, "result.json")
        code = run(command(record, request, settings, path), settings, folder, record, group)
        figures = figures_of(path, request["prompts"])
        if code == 0 and figures:
            result["figures"] = figures
        else:
            result["end"], result["output"] = "failed", last_output(folder).replace(key, "***")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def version_of(record: "protocol.Record") -> vllm_versions.Vllm:
    """Return the vLLM with which the model was started; the default one if that is gone or unknown."""
    same = [vllm for vllm in vllm_versions.kept() if vllm.version == record["vllm"]]
    return same[-1] if same else vllm_versions.default()


def environment(settings: Dict[str, str], key: str) -> Dict[str, str]:
    """Return the environment of the benchmark: with the key, without the Hub and without proxies."""
    settings = {name: value for name, value in settings.items() if name.lower() not in PROXIES}
    settings.pop(MARKER, None)  # it is not a process of the model
    settings.update(OPENAI_API_KEY=key, HF_HUB_OFFLINE="1", NO_COLOR="1", SPT_NOENV="1")
    return settings


def command(
    record: "protocol.Record", request: "protocol.BenchRequest", settings: Dict[str, str], path: str
) -> List[str]:
    """Return the words of the command; they are in its own documentation."""
    words = [home.find_program("vllm", settings), "bench", "serve", "--backend", "openai"]
    words += ["--base-url", "http://127.0.0.1:%d" % record["port"], "--endpoint", COMPLETIONS]
    words += ["--model", record["model"], "--served-model-name", record["name"], *tokenizer(record, settings)]
    words += ["--dataset-name", "random", "--random-input-len", str(request["input_tokens"])]
    words += ["--random-output-len", str(request["output_tokens"]), "--ignore-eos", "--seed", str(request["seed"])]
    words += ["--num-prompts", str(request["prompts"]), "--max-concurrency", str(request["streams"])]
    words += ["--percentile-metrics", ",".join(FIGURES), "--metric-percentiles", "50,90,99", "--disable-tqdm"]
    return [*words, "--save-result", "--result-dir", os.path.dirname(path), "--result-filename", os.path.basename(path)]


def tokenizer(record: "protocol.Record", settings: Dict[str, str]) -> List[str]:
    """Return the options for the tokenizer: those of the model, or else its folder in the cache.

    Without the Hub, the name of a repository means its branch `main`, which may not be the revision that runs.
    """
    arguments = [each for each in record["arguments"] if isinstance(each, str)]
    words: List[str] = [OWN_CODE] if OWN_CODE in arguments else []
    for option in TOKENIZER:
        for index, each in enumerate(arguments):
            name, equals, value = each.partition("=")
            if name == option and option not in words:
                words += [option, value if equals else "".join(arguments[index + 1 : index + 2])]
    commit: Any = record.get("commit")
    folder = "models--" + record["model"].replace("/", "--")
    snapshot = os.path.join(variables.hub(settings), folder, "snapshots", str(commit))
    if TOKENIZER[0] not in words and commit and os.path.isdir(snapshot):
        words += [TOKENIZER[0], snapshot]
    return words


def run(
    command: List[str], settings: Dict[str, str], folder: str, record: "protocol.Record", group: List[Process]
) -> Optional[int]:
    """Run the benchmark to its end, and return its exit code; None if the model has gone. Exit when stdin ends."""
    with open(os.path.join(folder, "output"), "wb") as output:
        child = subprocess.Popen(
            command,
            env=settings,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ticks = 0
    try:
        while child.poll() is None:
            ticks += 1
            if wire.stdin_ended(home.TICK):
                end(child)
                shutil.rmtree(folder, ignore_errors=True)
                wire.leave()
            if ticks % BETWEEN_LOOKS == 0 and not ports.is_owner(group, record["port"]):
                return None
        return child.returncode
    finally:
        end(child)


def end(child: "subprocess.Popen[bytes]") -> None:
    """End the benchmark with the processes that it has started, unless it has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, number)
            home.wait_until(lambda: child.poll() is not None, GRACE)


def figures_of(path: str, prompts: int) -> "Optional[protocol.BenchFigures]":
    """Return the figures in a result file; None without a file, or if it is not one of a benchmark."""
    try:
        result = json.loads(home.read_regular(path, MAX_RESULT))
        completed = int(result["completed"])
        return {
            "completed": completed,
            "failed": int(result.get("failed", max(0, prompts - completed))),
            "duration": float(result["duration"]),
            "output_rate": float(result["output_throughput"]),
            "total_rate": float(result["total_token_throughput"]),
            "request_rate": float(result["request_throughput"]),
            "ttft": percentiles(result, "ttft"),
            "tpot": percentiles(result, "tpot"),
            "itl": percentiles(result, "itl"),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def percentiles(result: Dict[str, Any], figure: str) -> "protocol.Percentiles":
    """Return the percentiles of a figure in milliseconds; None where nothing was measured, which is NaN there."""
    found: List[Optional[float]] = []
    for percent in (50, 90, 99):
        value = result.get("p%d_%s_ms" % (percent, figure))
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        found.append(float(value) if is_number else None)  # type: ignore[arg-type]
    return {"p50": found[0], "p90": found[1], "p99": found[2]}


def last_output(folder: str) -> str:
    with contextlib.suppress(OSError):
        return home.read_bytes(os.path.join(folder, "output"))[-4 * MAX_OUTPUT :].decode("utf-8", "replace")[
            -MAX_OUTPUT:
        ]
    return ""
