"""The `vllm serve` command as the pod runs it: the agent's own builder, loaded from the files that pi ships."""

import functools
import importlib.util
import shlex
from collections.abc import Mapping
from typing import Any

from pi_cli.planning.plan import Plan
from pi_cli.store import paths
from pi_cli.vllm import own_variables

UPLOADS = "~/.pi/uploads/"


def text(plan: Plan, name: str, *, port: int, private: bool, devices: Mapping[str, str]) -> str:
    """Return the command and its environment, to be read and pasted on the pod; the key comes from VLLM_API_KEY.

    `devices` are CUDA's names for GPUs that have one besides their number.
    """
    builder = _builder()
    gpu = ",".join(map(str, plan.gpus))
    settings = builder.settings(gpu, devices) | plan.environment
    argv = builder.argv(plan.model, name, plan.arguments, port=port, private=private)
    return " ".join([*(_assigned(key, value) for key, value in settings.items()), *map(_word, argv)])


def additions(plan: Plan) -> list[str]:
    """Return what the pod adds to the command in which cases, as lines for the user."""
    builder = _builder()
    offline = shlex.join(f"{key}={value}" for key, value in builder.OFFLINE.items())
    if not plan.is_complete:
        return [f"{offline} if the Hub does not answer"]
    ahead = shlex.join(builder.READ_AHEAD)
    return [f"{ahead} if the weights are on a network file system", f"{offline} if the model is complete on the pod"]


@functools.cache
def _builder() -> Any:
    """Return `remote/agent/serve_command.py` as a module: it is not on `sys.path`."""
    path = paths.asset("remote/agent/serve_command.py")
    spec = importlib.util.spec_from_file_location("agent.serve_command", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _word(word: str) -> str:
    """Quote a word for a shell, which expands the home folder in the path of an uploaded file."""
    return shlex.quote(word).replace(UPLOADS, f"'\"$HOME\"'{UPLOADS[1:]}")


def _assigned(name: str, value: str) -> str:
    if own_variables.SECRET.search(name.upper()):
        return f'{name}="${name}"'
    if value.startswith("~/"):  # in quotes, `~` would not be expanded
        return f"{name}={value}"
    return f"{name}={shlex.quote(value)}"
