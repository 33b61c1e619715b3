"""Which of the commands that a diagnosis offers pi may try itself (`pi start --fix`). Pure.

A log is written by a pod, and in it by a model's own code: whatever it advises, a fix changes neither what is served
nor who can reach it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pi_cli.diagnosis import advice
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.vllm import own_variables, vllm_arguments

# Options of vLLM that change what the model is, run code that came with it, or open or close the endpoint.
NOT_TRIED = {
    *(name for name in advice.NOT_ADVISED if not name.endswith("-config")),
    *("--trust-remote-code", "--no-trust-remote-code", "--quantization", "--hf-overrides", "--runner", "--convert"),
    *("--tool-parser-plugin", "--reasoning-parser-plugin", "--io-processor-plugin", "--logits-processors"),
    *("--tool-server", "--allow-credentials", "--allowed-methods", "--allowed-headers", "--allowed-media-domains"),
    *("--enable-log-requests", "--enable-log-outputs", "--code-revision", "--tokenizer-revision", "--model-impl"),
    *("--worker-cls", "--worker-extension-cls", "--scheduler-cls", "--enable-ssl-refresh", "--disable-fastapi-docs"),
}
# Variables that switch a check off, or a door open; `NCCL_CUMEM_HOST_ENABLE` is none of them.
NOT_SET = re.compile(
    r"ALLOW|INSECURE|TRUST|DEV_MODE|SKIP|CHECK|PLUGIN|PTXAS|TOKEN|KEY|SECRET|PASSWORD|ENDPOINT|URL|PROXY|PRELOAD|_IP\b"
)


def choose(typed: StartCommand, starts: Iterable[StartCommand], applied: Sequence[StartCommand]) -> StartCommand | None:
    """Return the first of the offered commands that is safe and was not applied before; None without one."""
    before = [each.argv for each in applied]
    return next((start for start in starts if start.argv not in before and is_safe(typed, start)), None)


def is_safe(typed: StartCommand, start: StartCommand) -> bool:
    """Return whether a command serves the same model in the same way to the same clients as the typed one."""
    same = replace(
        typed,
        gpus=start.gpus,
        memory=start.memory,
        context=start.context,
        own_arguments=start.own_arguments,
        variables=start.variables,
        planned_arguments=start.planned_arguments,
        pod_gpus=start.pod_gpus,
        cleans_cache=start.cleans_cache,
        has_cleaned=start.has_cleaned,
        capability=start.capability,
        lacking=start.lacking,
    )
    if same != start:
        return False
    changed = {each.partition("=")[0] for each in set(start.variables) ^ set(typed.variables)}
    if any(NOT_SET.search(name.upper()) or name.upper() in own_variables.OF_PI for name in changed):
        return False
    before, after = (_options(each.arguments) for each in (_comparable(typed, start), start))
    return not {option[0] for option in before ^ after} & NOT_TRIED


def _comparable(typed: StartCommand, start: StartCommand) -> StartCommand:
    """Return the typed command with the arguments that pi planned for it, which the offered one was made from."""
    return typed if typed.planned_arguments else replace(typed, planned_arguments=start.planned_arguments)


def _options(arguments: Sequence[str]) -> set[tuple[str, ...]]:
    return {(vllm_arguments.name_of(group[0]), *group[1:]) for group in vllm_arguments.groups(arguments)}
