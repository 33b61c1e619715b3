"""The tables of `pi.toml` and their keys: the one source of the reader, of the JSON schema and of what is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from pi_cli.fleet import values
from pi_cli.fleet.values import Kind

THEN = ("stop-pod",)
POLICIES = ("cache_aware", "power_of_two", "round_robin")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table, and what it means, in one line for an editor."""

    kind: Kind
    about: str
    is_required: bool = False


POD: Mapping[str, Key] = {
    "ssh": Key(values.SSH, 'ssh command of the machine, e.g. "ssh -p 40022 root@1.2.3.4"', is_required=True),
    "mount": Key(values.MOUNT, "command that mounts a volume for models"),
    "models-path": Key(values.FOLDER, "folder on the pod for the models"),
    "home": Key(values.HOME, "folder on the pod for vLLM and models, on another disk than the home folder"),
    "vllm": Key(values.TEXT, "vLLM to install: release, nightly, a version, or a pip requirement"),
    "cpu": Key(values.BOOLEAN, "install vLLM's CPU build, for a machine without GPUs"),
    "price": Key(values.PRICE, 'what the machine costs per hour, for estimates: 2.49 or "2.49 EUR"'),
    "connect-timeout": Key(values.SECONDS, "seconds to wait for a connection"),
}
MODEL: Mapping[str, Key] = {
    "model": Key(values.TEXT, "Hugging Face id, or a folder on the pod", is_required=True),
    "pods": Key(values.PODS, "pods of this file; a replica of the model runs on each"),
    "across": Key(values.SEVERAL_PODS, "pods of this file; one model runs over all of them"),
    "gpus": Key(values.COUNT, "use exactly this many GPUs of a pod"),
    "context": Key(values.CONTEXT, 'context length in tokens, e.g. "64k"'),
    "memory": Key(values.MEMORY, 'share of each GPU\'s memory, e.g. "50%"'),
    "lease": Key(values.LEASE, 'stop the model after this time without work, e.g. "45m"; "off" for never'),
    "then": Key(values.choice(*THEN), "what to do when the last lease of the pod has ended"),
    "vllm": Key(values.ARGUMENTS, "all arguments for `vllm serve`, instead of those that pi chooses"),
    "env": Key(values.ENVIRONMENT, "environment variables for vLLM; a list of names takes the values from here"),
    "private": Key(values.BOOLEAN, "listen on the pod's loopback only"),
    "api-key-env": Key(values.KEY_VARIABLES, "environment variables with the API keys; not the keys"),
}
GATEWAY: Mapping[str, Key] = {
    "port": Key(values.PORT, "port of the gateway on this machine"),
    "policy": Key(values.choice(*POLICIES), "how requests are spread over the replicas"),
}
TOP: Mapping[str, Key] = {
    "lease": Key(values.LEASE, "the lease of every model that has none of its own"),
}
TABLES = {"pods": POD, "models": MODEL}  # tables of named tables
