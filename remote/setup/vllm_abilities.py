"""Print what the vLLM of this Python can do, as JSON: for `pi start`, which plans before vLLM runs. Needs no GPU.

    vllm_abilities.py [--run LOG]

With `--run` it is the test run of this vLLM as well: it runs `vllm --version` first, and prints that version on a line
of its own. Afterwards its stderr is the file LOG, so that what the command said there can be told from the rest.
That first import compiles all of vLLM: other processes help where there are cores for them (`compile_ahead.py`).

Each part is optional: a vLLM that keeps it elsewhere than 0.32 does, leaves it out, and pi then knows nothing of it.
"""

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOST_HELPERS = 3
FORMAT = 1  # setup asks again where it finds another one
# The compute capabilities of GPUs that are for rent or on desks today, 75 for 7.5.
CAPABILITIES = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)
# The kinds of models in vLLM's registry (model_executor/models/registry.py), by the name of their dictionary.
KINDS = {
    "generation": "_TEXT_GENERATION_MODELS",
    "multimodal": "_MULTIMODAL_MODELS",
    "embedding": "_EMBEDDING_MODELS",
    "late-interaction": "_LATE_INTERACTION_MODELS",
    "reward": "_REWARD_MODELS",
    "token-classification": "_TOKEN_CLASSIFICATION_MODELS",
    "classification": "_SEQUENCE_CLASSIFICATION_MODELS",
    "speculative": "_SPECULATIVE_DECODING_MODELS",
    "transformers": "_TRANSFORMERS_SUPPORTED_MODELS",
    "transformers-backend": "_TRANSFORMERS_BACKEND_MODELS",
}


def version() -> str:
    import vllm

    return str(vllm.__version__)


def architectures() -> dict[str, list[str]]:
    """Return the registered architectures by kind; one that no dictionary of a known name has is of kind `other`."""
    from vllm.model_executor.models import registry

    kinds = {kind: sorted(getattr(registry, name, {})) for kind, name in KINDS.items()}
    known = {name for names in kinds.values() for name in names}
    kinds["other"] = sorted(set(registry.ModelRegistry.get_supported_archs()) - known)
    return {kind: names for kind, names in kinds.items() if names}


def former_architectures() -> dict[str, str]:
    """Return architectures that were removed, and the last version that had them."""
    from vllm.model_executor.models import registry

    return dict(registry._PREVIOUSLY_SUPPORTED_MODELS)


def transformers_architectures() -> list[str]:
    """Return the classes of transformers that vLLM runs if its own registry has none of that name."""
    from transformers.models.auto import modeling_auto as auto
    from vllm.model_executor.models import registry

    tables = (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    names = {
        name for table in tables for value in table.values() for name in ([value] if isinstance(value, str) else value)
    }
    registered = set(registry.ModelRegistry.get_supported_archs())
    return sorted(name for name in names if name in registered or _is_compatible(name))


def _is_compatible(name: str) -> bool:
    """Return whether vLLM's backend for transformers takes a class (`_try_resolve_transformers` in registry.py)."""
    import transformers

    try:
        model = getattr(transformers, name)
        return bool(model.is_backend_compatible() or model._can_set_attn_implementation())
    except (ImportError, AttributeError, RuntimeError, OSError):  # a package that this class needs is missing
        return False


def quantisations() -> dict[str, int]:
    """Return the quantisation methods and their least compute capability, 75 for 7.5."""
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, get_quantization_config

    return {name: int(get_quantization_config(name).get_min_capability()) for name in QUANTIZATION_METHODS}


def schemes() -> dict[str, int]:
    """Return the least compute capability of the schemes within methods: what a method allows may need more than it."""
    from vllm.model_executor.layers.quantization.compressed_tensors import schemes as compressed_tensors
    from vllm.model_executor.layers.quantization.quark import schemes as quark

    found = {}
    for module in (compressed_tensors, quark):
        for name in module.__all__:
            with contextlib.suppress(AttributeError, TypeError, NotImplementedError):  # the base classes have none
                found[name] = int(getattr(module, name).get_min_capability())
    return found


def sparse_attention() -> dict[int, bool]:
    """Return for which compute capabilities there is a backend for indexed attention (DeepSeek-V3.2, GLM-5)."""
    from vllm.platforms.interface import DeviceCapability
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    backends = []
    for member in AttentionBackendEnum:
        if member.name.startswith(("ROCM", "XPU", "CPU")):
            continue
        # A backend of an extension that this build lacks cannot be imported; torch's CPU build raises AssertionError.
        with contextlib.suppress(ImportError, ValueError, AttributeError, AssertionError, RuntimeError):
            backend = member.get_class()
            if backend.is_mla() and backend.is_sparse():
                backends.append(backend)
    if not backends:
        raise ImportError("no backend for sparse attention can be imported")
    return {
        number: any(backend.supports_compute_capability(DeviceCapability(*divmod(number, 10))) for backend in backends)
        for number in CAPABILITIES
    }


def tool_call_parsers() -> list[str]:
    from vllm.tool_parsers import ToolParserManager

    return sorted(ToolParserManager.list_registered())


def reasoning_parsers() -> list[str]:
    from vllm.reasoning import ReasoningParserManager

    return sorted(ReasoningParserManager.list_registered())


def options() -> list[dict[str, Any]]:
    """Return the options of `vllm serve`: all names, whether a value follows (`yes`, `no`, `maybe`), its choices."""
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    [serve] = cmd_init()
    parser_of_serve = serve.subparser_init(parser.add_subparsers(dest="subparser"))
    return [_option(action) for action in parser_of_serve._actions if action.option_strings]


def _option(action: argparse.Action) -> dict[str, Any]:
    value = {0: "no", "?": "maybe", "*": "many", "+": "many"}.get(action.nargs, "yes")
    option: dict[str, Any] = {"names": list(action.option_strings), "value": value}
    if action.choices:
        option["choices"] = [str(choice) for choice in action.choices]
    return option


def audio() -> bool:
    """Return whether the libraries that read sound are installed, which vLLM needs for speech (`vllm[audio]`)."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("av", "soundfile"))


def variables() -> list[str]:
    from vllm import envs

    return sorted(envs.environment_variables)


PARTS: dict[str, Callable[[], Any]] = {
    part.__name__: part
    for part in (
        *(version, architectures, former_architectures, transformers_architectures),
        *(quantisations, schemes, sparse_attention),
        *(tool_call_parsers, reasoning_parsers, options, variables, audio),
    )
}


def run_the_command() -> str | None:
    """Run `vllm --version` in this process, and return what it prints last; None if no package has the command."""
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group="console_scripts", name="vllm")), None)
    if not found:
        return None
    command = found.load()
    output = io.StringIO()
    sys.argv = ["vllm", "--version"]
    with contextlib.redirect_stdout(output):
        try:
            command()
        except SystemExit as ended:
            if ended.code:
                raise
    return output.getvalue().split()[-1]


@contextlib.contextmanager
def compiled_ahead() -> Iterator[None]:
    """Have the bytecode of vLLM written by other processes too; none is left when the block ends."""
    parts = min(MOST_HELPERS, len(os.sched_getaffinity(0)) - 1)
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("compile_ahead.py")), str(os.getpid())]
    packages = sysconfig.get_path("purelib")
    helpers = [
        subprocess.Popen(
            [*program, str(part), str(parts), packages],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for part in range(parts)
    ]
    try:
        yield
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            try:
                helper.wait(5)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()


def main() -> None:
    gc.disable()  # it would take a fifth of the import's time, and find nothing
    with compiled_ahead() if sys.argv[1:2] == ["--run"] else contextlib.nullcontext():
        answer()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Python would free each object of vLLM first: two seconds


def answer() -> None:
    """Print the abilities on the last line: vLLM itself may print to stdout when it is imported.

    Exits with 1 if not even the version is known: then this Python has no vLLM that works.
    """
    if sys.argv[1:2] == ["--run"]:
        log = sys.argv[2]
        if version_of_the_command := run_the_command():
            print(f"vllm --version: {version_of_the_command}", flush=True)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), sys.stderr.fileno())
    logging.getLogger("vllm").setLevel(logging.ERROR)
    abilities: dict[str, Any] = {"format": FORMAT}
    for name, part in PARTS.items():
        try:
            abilities[name] = part()
        except (ImportError, AttributeError, TypeError, ValueError, AssertionError) as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    if "version" not in abilities:
        sys.exit(1)
    print(json.dumps(abilities, separators=(",", ":"), sort_keys=True))


if __name__ == "__main__":
    main()
