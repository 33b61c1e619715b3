"""Where in vLLM an error was raised, for errors whose message says little: which feature it is, and which options it
has. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pi_cli.diagnosis.log_statements import Frame

BARE = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception):?\s*")
PACKAGE = re.compile(r"^.*/(?:site|dist)-packages/")


class Feature(NamedTuple):
    """A part of vLLM that can be left out: what it is called, and the options that switch it on."""

    name: str
    options: tuple[str, ...]


# By the path of a file in vLLM 0.32, most special first.
FEATURES: tuple[tuple[str, Feature], ...] = (
    (
        r"kv_connector/v1/offloading|v1/kv_offload|offload",
        Feature("KV cache offloading", ("--kv-offloading-size", "--kv-offloading-backend", "--kv-transfer-config")),
    ),
    (r"kv_transfer/", Feature("the transfer of the KV cache", ("--kv-transfer-config",))),
    (
        r"spec_decode/|eagle|medusa|ngram_proposer",
        Feature("speculative decoding", ("--speculative-config", "--spec-method", "--spec-model", "--spec-tokens")),
    ),
    (r"vllm/lora/", Feature("LoRA", ("--enable-lora", "--lora-modules"))),
    (
        r"structured_output/|guidance|xgrammar|outlines",
        Feature("structured output", ("--structured-outputs-config",)),
    ),
    (r"tool_parsers/", Feature("the tool-call parser", ("--enable-auto-tool-choice", "--tool-call-parser"))),
    (r"vllm/reasoning/", Feature("the reasoning parser", ("--reasoning-parser",))),
    (r"distributed/eplb/", Feature("expert load balancing", ("--enable-eplb", "--eplb-config"))),
)


# Parts that can be exchanged or done without, by the path of a file; what else the message must say.
PARTS: tuple[tuple[str, str, str], ...] = (
    (r"/vllm/compilation/|/torch/(?:_inductor|_dynamo|_functorch)/", "compiler", ""),
    (r"/attention/(?:backends|ops)/|/vllm_flash_attn/|/flash_attn", "attention", r"support|capability|head.size|arch"),
    (r"/fused_moe/", "experts", r"support|capability|arch"),
)


def part(frames: Sequence[Frame], message: str) -> str | None:
    """Return the part of vLLM's computing that an error comes from: `compiler`, `attention` or `experts`."""
    for frame in reversed(frames[-3:]):
        for pattern, name, needed in PARTS:
            if re.search(pattern, frame.file):
                return name if not needed or is_bare(message) or re.search(needed, message) else None
    return None


def is_bare(message: str) -> bool:
    """Return whether a message is the name of an exception and nothing else."""
    return BARE.fullmatch(message) is not None


def innermost(frames: Sequence[Frame]) -> str:
    """Return the place of the last frame, `vllm/v1/core/scheduler.py:734, in schedule`; empty without frames."""
    if not frames:
        return ""
    frame = frames[-1]
    function = f", in {frame.function}" if frame.function else ""
    return f"{PACKAGE.sub('', frame.file)}:{frame.line}{function}"


def feature(frames: Sequence[Frame]) -> Feature | None:
    """Return the part of vLLM that an error comes from, if it can be left out."""
    for frame in reversed(frames[-3:]):
        for pattern, found in FEATURES:
            if "/vllm/" in frame.file and re.search(pattern, frame.file):
                return found
    return None
