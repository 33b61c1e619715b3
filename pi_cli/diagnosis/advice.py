"""What a message of vLLM advises: the option to set, to raise or to lower, and the variable to set. Pure.

Only what the shipped vLLM knows counts: a message may name anything.
"""

import re
from typing import NamedTuple

from pi_cli.diagnosis.offers import Offer, offer
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.vllm import abilities, own_arguments, own_variables, vllm_arguments
from pi_cli.vllm.abilities import Option

SHORT = 3  # letters of a word in capitals that may be an abbreviation
MAX_TEXT = 4000  # characters of a message that are searched
VERB = (
    r"(?:set(?:ting)?|us(?:e|ing)|pass(?:ing)?|add(?:ing)?|specify(?:ing)?|enabl(?:e|ing)|disabl(?:e|ing)|export"
    r"|increas(?:e|ing)|rais(?:e|ing)|decreas(?:e|ing)|reduc(?:e|ing)|lower(?:ing)?|chang(?:e|ing)|try(?:ing)?)"
)
QUOTES = "`'\""
VARIABLE = re.compile(
    rf"(?i:\b{VERB}\b)[^.;\n]{{0,60}}?[{QUOTES}]?\b(?P<name>[A-Z][A-Z0-9]+_[A-Z0-9_]+) ?= ?"
    rf"[{QUOTES}]?(?P<value>[\w:.,-]*\w)"
)
OPTION = re.compile(
    rf"(?i:\b{VERB}\b)[^.;\n]{{0,60}}?[{QUOTES}]?(?P<name>--[a-z][a-z0-9-]*[a-z0-9])"
    rf"(?:[= ][{QUOTES}]?(?P<value>[\w./-]*\w))?"
)
# `max_num_batched_tokens`, as the code calls an option.
FIELD = re.compile(
    rf"(?i:\b{VERB}\b)[^.;\n]{{0,60}}?[{QUOTES}]?\b(?P<name>[a-z]+(?:_[a-z]+)+)\b[{QUOTES}]?"
    rf"(?: ?= ?[{QUOTES}]?(?P<value>[\w./-]*\w))?"
)
# `max_tokens_per_mm_item (2496) is larger than max_num_batched_tokens (512)`: what is needed, and what is set.
EXCEEDED = re.compile(
    r"\(?\b(?P<need>\d+)\)? (?:is|are) (?:greater|larger|higher|more|bigger) than (?:the )?"
    r"[`']?(?P<name>(?:--)?[a-z]+(?:[_-][a-z]+)+)[`']?[ =:(]*(?P<have>\d+)"
)
# They show more of an error; nothing is repaired by them.
FOR_DEBUGGING = re.compile(r"DEBUG|VERBOSE|TORCH_LOGS|TRACE|BLOCKING|USE_CUDA_DSA|FULL_ERROR|LOGGING|SHOW_CPP")
OF_LIBRARIES = re.compile(
    r"(?:VLLM|NCCL|GLOO|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|FLASHINFER|HF|CUDA|OMP|RAY|TOKENIZERS|DG|SAFETENSORS)_"
)
# A model's own code writes to the log too: nothing that it names may send a secret elsewhere.
NEVER = re.compile("TOKEN|KEY|SECRET|PASSWORD|ENDPOINT|URL|HOST|PROXY|ADDR|PRELOAD|PLUGIN|PATH")
# Options of pi that stand for vLLM's.
OF_PI = {"--gpu-memory-utilization": "--memory", "--max-model-len": "--context", "--tensor-parallel-size": "--gpus"}
DENIAL = re.compile(r"(?i)(?:\bnot|n't|cannot|\bonly(?: be)?|never|without|instead of|rather than)\s+(?:\w+\s+){0,2}$")
DENIAL_BETWEEN = re.compile(r"(?i)\b(?:only|not|default|omit\w*|either)\b")
DENIAL_BEHIND = re.compile(r"\W{0,3}(?:(?:is|are) (?:no longer|not|already)\b|request field)")
FOR_A_VALUE = re.compile(r"\bfor $")  # `set x to 1 for VLLM_Y=a`: it has that value
# What pi decides itself, and what only several machines need; JSON cannot be advised in words.
NOT_ADVISED = {
    *own_arguments.OF_SEVERAL_MACHINES,
    *("--model", "--served-model-name", "--host", "--port", "--api-key", "--uds", "--root-path", "--config"),
    *("--download-dir", "--load-format", "--tokenizer", "--hf-config-path", "--revision", "--middleware"),
    *("--ssl-keyfile", "--ssl-certfile", "--hf-token", "--allowed-origins", "--allowed-local-media-path"),
    *(name for option in abilities.shipped().options for name in option.names if name.endswith("-config")),
}
LOWER = ("decreas", "reduc", "lower")


class Advice(NamedTuple):
    """The variable, or the option of vLLM, that a message advises; a value only if the message has it."""

    name: str
    value: str = ""
    is_variable: bool = False
    verb: str = "set"


def find(message: str) -> Advice | None:
    """Return the first advice of a message that would repair something."""
    text = " ".join(message[:MAX_TEXT].split())
    if exceeded := _exceeded(text):
        return exceeded
    for match in VARIABLE.finditer(text):
        if _is_variable(match["name"]) and not FOR_A_VALUE.search(_between(match)):
            return Advice(match["name"], match["value"], is_variable=True)
    named = [match for pattern in (OPTION, FIELD) for match in pattern.finditer(text)]
    for match in sorted(named, key=lambda match: match.start("name")):
        name = f"--{match['name'].lstrip('-').replace('_', '-')}"
        option = _option(name)
        if option is None or name in NOT_ADVISED or _is_denied(text, match):
            continue
        verb = _verb(match)
        if verb == "disable" and not name.startswith("--no-"):  # `disable it with --no-x` tells to set that
            return Advice(name, verb="leave out") if option.value == "no" else None
        if option.value == "no":
            return Advice(name)
        return Advice(name, match["value"] if _has_value(text, match, option) else "", verb=verb)
    return None


def offered(advice: Advice, command: StartCommand | None) -> Offer:
    """Return the hint that hands the advice on, with the whole command where the value is known."""
    if advice.is_variable:
        variable = f"{advice.name}={advice.value}"
        if command:
            return offer("as vLLM advises: `{start}`", start=command.with_variables([variable]))
        return offer("start it with `--env {variable}`, as vLLM advises", variable=variable)
    if advice.verb == "leave out":
        return _left_out(advice.name, command)
    option = _option(advice.name)
    is_complete = bool(advice.value) or (option is not None and option.value == "no")
    if command and is_complete:
        return offer("as vLLM advises: `{start}`", start=_with(command, advice))
    values = [advice.value] if advice.value else []
    is_planned = command is not None and command.own_arguments is None
    if not is_complete and is_planned and advice.name in OF_PI:
        return offer(f"{advice.verb} `{{option}}`, as vLLM advises", option=OF_PI[advice.name])
    if is_complete:
        return offer("add `{option}` after `--vllm`, as vLLM advises", option=[advice.name, *values])
    return offer(f"{advice.verb} `{{option}}` after `--vllm`, as vLLM advises", option=advice.name)


def _left_out(name: str, command: StartCommand | None) -> Offer:
    without = command.without_vllm_options([name]) if command else None
    if without and command and without.arguments != command.arguments:
        return offer("leave out `{option}`, as vLLM advises: `{start}`", option=name, start=without)
    return offer("leave out `{option}`, as vLLM advises", option=name)


def _with(command: StartCommand, advice: Advice) -> StartCommand:
    if advice.name in vllm_arguments.CONTEXT_LENGTH and advice.value.isdecimal():
        return command.with_context(int(advice.value))
    if advice.name in vllm_arguments.TENSOR_PARALLEL and advice.value.isdecimal():
        return command.with_tensor_size(int(advice.value))
    return command.with_vllm_option([advice.name], *filter(None, [advice.value]))


def _exceeded(text: str) -> Advice | None:
    """Read what a limit must be from a message that names both numbers."""
    match = EXCEEDED.search(text)
    if match is None or int(match["need"]) <= int(match["have"]):
        return None
    name = f"--{match['name'].lstrip('-').replace('_', '-')}"
    option = _option(name)
    if option is None or not name.startswith("--max-"):
        return None
    need = int(match["need"])
    if option.choices:
        fitting = [int(each) for each in option.choices if each.isdecimal() and int(each) >= need]
        return Advice(name, str(min(fitting))) if fitting else None
    return Advice(name, str(need))


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Return whether the message tells not to do it, or only when one may: ``can only be set with --x``."""
    before, behind = text[max(0, match.start() - 40) : match.start()], text[match.end() : match.end() + 40]
    return bool(DENIAL.search(before) or DENIAL_BETWEEN.search(_between(match)) or DENIAL_BEHIND.match(behind))


def _between(match: re.Match[str]) -> str:
    """Return the words from the verb to the option."""
    return match[0][: match.start("name") - match.start()]


def _is_variable(name: str) -> bool:
    if FOR_DEBUGGING.search(name) or NEVER.search(name) or name in own_variables.OF_PI:
        return False
    return name in abilities.shipped().variables or OF_LIBRARIES.match(name) is not None


def _has_value(text: str, match: re.Match[str], option: Option) -> bool:
    """Return whether the word behind an option is its value: ``use --dtype half``, not ``use --dtype instead``."""
    value = match["value"]
    if not value:
        return False
    if option.choices:
        return value in option.choices
    if value.isupper() and len(value) > SHORT:
        return True  # as backends are called
    is_quoted = text[match.start("name") - 1] == "`" == text[match.end() : match.end() + 1]
    return is_quoted or value.replace(".", "").isdecimal()


def _option(name: str) -> Option | None:
    return next((option for option in abilities.shipped().options if name in option.names), None)


def _verb(match: re.Match[str]) -> str:
    """Return what to do with an option, by the last verb before its name: ``try decreasing x``."""
    between = _between(match)
    verb = re.findall(rf"(?i)\b{VERB}\b", between)[-1].lower()
    if " different " in between:
        return "change"
    if verb.startswith("disabl"):
        return "disable"
    if verb.startswith(LOWER):
        return "lower"
    return "raise" if verb.startswith(("increas", "rais")) else "set"
