"""`vllm bench serve`, simulated: real requests to the simulated server, and a result file as vLLM 0.32 writes it."""

import argparse
import http.client
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """When the request was sent, and when each token came, by the monotonic clock; the HTTP status."""

    began: float
    tokens: list[float]
    status: int


def run(argv: list[str]) -> int:
    """Send the requests, and write the result file."""
    options, _ = _parser().parse_known_args(argv)
    sys.stdout.write("SIMULATED `vllm bench serve` of `pi demo`: no GPU, a scripted model.\n")
    began = time.monotonic()
    with ThreadPoolExecutor(options.max_concurrency) as pool:
        answers = list(pool.map(lambda _: _ask(options), range(options.num_prompts)))
    result = _result(answers, options, time.monotonic() - began)
    Path(options.result_dir, options.result_filename).write_text(json.dumps(result), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vllm bench serve")
    for name in ("--base-url", "--endpoint", "--served-model-name", "--result-dir", "--result-filename"):
        parser.add_argument(name, required=True)
    for name in ("--random-input-len", "--random-output-len", "--num-prompts", "--max-concurrency"):
        parser.add_argument(name, type=int, required=True)
    return parser


def _ask(options: argparse.Namespace) -> Answer:
    server = http.client.HTTPConnection(urlsplit(options.base_url).netloc)
    body = {
        "model": options.served_model_name,
        "prompt": "word " * options.random_input_len,
        "max_tokens": options.random_output_len,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    began = time.monotonic()
    server.request("POST", options.endpoint, json.dumps(body), headers)
    response = server.getresponse()
    tokens = [time.monotonic() for line in response if line.startswith(b"data: {") and b'"text":' in line]
    server.close()
    return Answer(began, tokens, response.status)


def _result(answers: list[Answer], options: argparse.Namespace, seconds: float) -> dict[str, object]:
    answered = [answer for answer in answers if answer.status == 200 and answer.tokens]
    output = sum(len(answer.tokens) for answer in answered)
    times = {
        "ttft": [answer.tokens[0] - answer.began for answer in answered],
        "tpot": [(answer.tokens[-1] - answer.tokens[0]) / max(1, len(answer.tokens) - 1) for answer in answered],
        "itl": [after - before for answer in answered for before, after in pairwise(answer.tokens)],
    }
    return {
        "simulated": True,
        "duration": seconds,
        "completed": len(answered),
        "failed": len(answers) - len(answered),
        "request_throughput": len(answered) / seconds,
        "output_throughput": output / seconds,
        "total_token_throughput": (output + len(answered) * options.random_input_len) / seconds,
        **{
            f"p{percent}_{name}_ms": 1000 * _percentile(values, percent)
            for name, values in times.items()
            for percent in (50, 90, 99)
        },
    }


def _percentile(values: list[float], percent: int) -> float:
    """Return a percentile of some values; of none, NaN, as vLLM does.

    >>> _percentile([3.0, 1.0, 2.0], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")
