"""The agent as it is sent: the modules of `remote/agent` for one operation, without docstrings, comments and types."""

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from functools import cache

from pi_cli.store import paths

OF_MODELS = {"start", "attach", "survey", "inspect", "stop", "holders", "logs", "purge"}
# In the order of their imports, with the operations that need them: on a slow link, unneeded modules can be felt.
MODULES: dict[str, set[str] | None] = {
    "agent": None,
    "agent.wire": None,
    "agent.home": None,
    "agent.mounts": OF_MODELS,
    "agent.machine": OF_MODELS,
    "agent.processes": OF_MODELS,
    "agent.variables": {"start", "survey", "inspect", "stop", "holders"},
    "agent.ending": {"start", "attach", "stop"},
    "agent.ports": {"start", "attach", "survey", "inspect"},
    "agent.records": {"start", "attach", "survey", "inspect", "stop", "logs", "purge"},
    "agent.orphans": {"survey", "inspect", "stop", "purge"},
    "agent.phases": {"start", "attach", "survey", "inspect"},
    "agent.gpus": {"survey", "inspect", "stop", "holders"},
    "agent.cuda": {"inspect"},
    "agent.place": {"start", "inspect", "purge"},
    "agent.vllm_versions": {"start", "inspect"},
    "agent.serve_command": {"start"},
    "agent.lockless": {"start"},
    "agent.arguments": {"start"},
    "agent.disks": {"start", "inspect"},
    "agent.weights": {"start"},
    "agent.download": {"start"},
    "agent.download.cache": {"start"},
    "agent.download.lease": {"start"},
    "agent.download.traffic": {"start"},
    "agent.download.stall": {"start"},
    "agent.download.hub": {"start"},
    "agent.download.fetch": {"start"},
    "agent.watch": {"start", "attach"},
    "agent.start": {"start"},
    "agent.metrics": {"survey", "inspect"},
    "agent.idle": {"survey", "inspect"},
    "agent.survey": {"survey", "inspect"},
    "agent.inspect_machine": {"inspect"},
    "agent.stop": {"stop"},
    "agent.log_search": {"logs"},
    "agent.logs": {"logs"},
    "agent.uploads": {"store"},
    "agent.purge": {"purge"},
    "agent.main": None,
}
PACKAGES = ("agent", "agent.download")

DOCSTRING = re.compile(r'^([ \t]*)"""(?s:.*?)"""$', re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*#.*\n|  # [^\"'\n]*$", re.MULTILINE)
INDENT = re.compile(r"^(?: {4})+", re.MULTILINE)
BLANK = re.compile(r"\n{2,}")
BLOCK = re.compile(r"^(?=(?:class|def) )", re.MULTILINE)
# For type checkers only: imports, and the types of parameters, results and variables (not those of class fields).
FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?: .*\n|\n)+", re.MULTILINE)
TYPING = re.compile(r"^from typing import (.*)\n", re.MULTILINE)
TYPE = r"""(?:"[^"\n]*"|[\w.]+(?:\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\])?)"""
SIGNATURE = re.compile(r"^( *def \w+\((?:[^()]|\([^()]*\))*\))(?: -> [^\n]*)?:$", re.MULTILINE)
PARAMETER = re.compile(rf"(?<=[(,*\s])(\w+): {TYPE}")
VARIABLE = re.compile(rf"^( *)([\w.]+): {TYPE} = ", re.MULTILINE)


@cache
def packed(operation: str) -> bytes:
    """Return the compressed modules for an operation.

    Docstrings, comments and types, which are left out, are a third of it: half a second at 128 kbit/s.
    """
    names = [name for name, needing in MODULES.items() if needing is None or operation in needing]
    return pack((name, source(name)) for name in names)


def pack(modules: Iterable[tuple[str, str]]) -> bytes:
    """Return modules in the format of `shell.AGENT`, which runs them in order, then calls `main` of the last one."""
    return zlib.compress(json.dumps([(name, bare(text)) for name, text in modules]).encode(), 9)


def compressed(program: str) -> str:
    """Return a program for a request, as `agent.wire.unpacked` reads it."""
    return base64.b64encode(zlib.compress(program.encode(), 9)).decode("ascii")


def source(name: str) -> str:
    """Return the source of a module of the agent."""
    if name in PACKAGES:
        return ""
    return paths.asset(f"remote/{name.replace('.', '/')}.py").read_text(encoding="utf-8")


def bare(module: str) -> str:
    """Remove docstrings, comments and types from a module, and shorten its indents."""
    module = COMMENT.sub("", DOCSTRING.sub(r'\1""', module))
    module = INDENT.sub(lambda indent: " " * (len(indent[0]) // 4), module)
    module = "".join(_without_types(block) for block in BLOCK.split(FOR_TYPES.sub("", module)))
    used = Counter(re.findall(r"\w+", module))
    module = BLANK.sub("\n", module)
    return TYPING.sub(lambda names: _import_of_typing(name for name in names[1].split(", ") if used[name] > 1), module)


def _without_types(block: str) -> str:
    """Remove the types from a class, a function, or the code before the first of them."""
    block = SIGNATURE.sub(lambda match: PARAMETER.sub(r"\1", match[1]) + ":", block)
    is_class = block.startswith("class ")
    return VARIABLE.sub(lambda match: match[0] if is_class and len(match[1]) < 2 else f"{match[1]}{match[2]} = ", block)


def _import_of_typing(names: Iterable[str]) -> str:
    used = ", ".join(names)
    return f"from typing import {used}\n" if used else ""
