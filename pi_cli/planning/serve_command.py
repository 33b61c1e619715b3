"""The `vllm serve` command as the pod runs it: the agent's own builder, loaded from the files that pi ships."""

import functools
import importlib.util
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pi_cli.planning.plan import Plan
from pi_cli.store import paths
from pi_cli.vllm import own_variables

if TYPE_CHECKING:
    from agent import protocol

UPLOADS = "~/.pi/uploads/"


def text(
    plan: Plan,
    name: str,
    *,
    port: int,
    private: bool,
    devices: Mapping[str, str],
    across: "protocol.Across | None" = None,
) -> str:
    """Return the command and its environment, to be read and pasted on the pod; the key comes from VLLM_API_KEY.

    `devices` are CUDA's names for GPUs that have one besides their number. `across` is the pod's part in a model over
    several.
    """
    builder = _builder()
    gpu = ",".join(map(str, plan.gpus))
    network = builder.network(across) if across else {}
    settings = builder.settings(gpu, devices) | network | plan.environment
    argv = builder.argv(plan.model, name, plan.arguments, port=port, private=private, across=across)
    return " ".join([*(_assigned(key, value) for key, value in settings.items()), *map(_word, argv)])


def additions(plan: Plan, *, warm_up: bool = False) -> list[str]:
    """Return what the pod adds to the command in which cases, as lines for the user.

    With `warm_up`, vLLM compiles while the model is downloaded.
    """
    builder = _builder()
    offline = shlex.join(f"{key}={value}" for key, value in builder.OFFLINE.items())
    if not plan.is_complete:
        return [f"{offline} if the Hub does not answer"]
    ahead = shlex.join(builder.READ_AHEAD)
    where = "if the weights are on a network file system, or load faster so"
    size = "--kv-cache-memory-bytes as the last start of the same plan measured it, if the GPUs are as empty as then"
    found = [f"{ahead} {where}", size, f"{offline} if the model is complete on the pod"]
    if warm_up:
        compiling = "for a start during the download, which only compiles (`--no-warm-up` turns it off)"
        found.append(f"--load-format dummy {compiling}")
    return found


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
