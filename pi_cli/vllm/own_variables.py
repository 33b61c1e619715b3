"""The environment variables of `pi start --env`: which ones concern pi, and which are misspelt. Pure."""

import difflib
import re
from collections.abc import Mapping, Sequence

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.vllm.abilities import Abilities

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY$|APIKEY")
MAX_VALUE = 10_000  # characters
SIMILAR = 0.85  # difflib's ratio of a typo
# What pi sets, and what the user has for it.
OF_PI = {
    "CUDA_VISIBLE_DEVICES": "pi chooses the GPUs: use `--gpus`",
    "CUDA_DEVICE_ORDER": "pi numbers the GPUs as nvidia-smi does",
    "NVIDIA_VISIBLE_DEVICES": "pi chooses the GPUs: use `--gpus`",
    "VLLM_API_KEY": "the key comes from PI_API_KEY, `pi key`, or `--api-key-env`",
    "HF_TOKEN": "the token comes from HF_TOKEN, or from `hf auth login`, and goes to the download only",
    "HUGGING_FACE_HUB_TOKEN": "the token comes from HF_TOKEN, or from `hf auth login`, and goes to the download only",
    "HF_HOME": "models are where `pi pods setup --models-path` says",
    "HF_HUB_CACHE": "models are where `pi pods setup --models-path` says",
    "HUGGINGFACE_HUB_CACHE": "models are where `pi pods setup --models-path` says",
    "HF_HUB_OFFLINE": "pi itself decides when vLLM may use the Hub",
    "TRANSFORMERS_OFFLINE": "pi itself decides when vLLM may use the Hub",
    "HF_ENDPOINT": "set HF_ENDPOINT for pi itself: `HF_ENDPOINT=… pi start …`",
    "PYTHONPATH": "vLLM would not find the guard of its endpoint",
    "PYTHONHOME": "vLLM would not find its own Python",
    "SPT_NOENV": "pi would not find the processes of the model",
    "VLLM_PORT": "pi chooses a free port on the pod",
    "VLLM_HOST_IP": "pi runs a model on one pod",
    "VLLM_USE_RAY_V2_EXECUTOR_BACKEND": "pi runs a model on one pod",
}
OF_PI_TOO = ("PI_",)


def read(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `NAME=VALUE`, or of `NAME`, whose value is that of pi's own environment.

    Raises `BadUsage` for what is no variable, what pi sets itself, and for a secret in the command line.
    """
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not NAME.fullmatch(name):
            raise BadUsage(
                "`--env` takes NAME=VALUE, or NAME for a variable that is set here",
                hint="for example: `--env VLLM_USE_DEEP_GEMM=0`",
            )
        _refuse_what_is_pis(name)
        if equals and SECRET.search(name.upper()):
            raise BadUsage(
                f"`{name}` looks like a secret, which a command line shows to every user of this machine",
                hint=fill("set it here and name it only: `export {name}=…`, then `--env {name}`", name=name),
            )
        if not equals:
            if name not in environment:
                raise BadUsage(
                    f"`{name}` is not set here, so `--env` has no value for it", hint="set it, or give NAME=VALUE"
                )
            value = environment[name]
        if len(value) > MAX_VALUE or not all(sign.isprintable() for sign in value):
            raise BadUsage(f"the value of `{name}` is too long, or has control characters", hint="give it in ~/.pi/env")
        found[name] = value
    return found


def refuse_misspelt(names: Sequence[str], known: Abilities) -> None:
    """Raise `BadUsage` for a variable of vLLM that it does not have, if it has a similar one."""
    for name in names:
        if not name.startswith("VLLM_") or not known.variables or name in known.variables:
            continue
        similar = difflib.get_close_matches(name, known.variables, n=1, cutoff=SIMILAR)
        if similar:
            raise BadUsage(
                f"vLLM has no environment variable `{name}`", hint=fill("did you mean `{name}`?", name=similar[0])
            )


def shown(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables as they may be shown: without the values of secrets."""
    return {name: "…" if SECRET.search(name.upper()) else value for name, value in variables.items()}


def _refuse_what_is_pis(name: str) -> None:
    why = OF_PI.get(name.upper())
    if why is None and name.startswith(OF_PI_TOO):
        why = "it would be a setting of pi's scripts on the pod"
    if why:
        raise BadUsage(f"`{name}` cannot be given with `--env`", hint=why)
