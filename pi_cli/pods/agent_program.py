"""The agent as it is sent: the modules of `remote/agent` that an operation needs, without what is for people only."""

import json
import re
import zlib
from collections.abc import Iterable
from functools import cache

from pi_cli.store import paths

# In the order they import each other, with the operations that need them: on a slow link one feels the rest.
MODULES: dict[str, set[str] | None] = {
    "agent": None,
    "agent.wire": None,
    "agent.home": None,
    "agent.processes": None,
    "agent.ports": {"start", "attach", "survey", "inspect"},
    "agent.records": {"start", "attach", "survey", "inspect", "stop", "logs"},
    "agent.vllm_versions": {"start", "attach", "survey", "inspect"},
    "agent.phases": {"start", "attach", "survey", "inspect"},
    "agent.gpus": {"survey", "inspect", "stop", "holders"},
    "agent.disks": {"start", "inspect"},
    "agent.weights": {"start"},
    "agent.download": {"start"},
    "agent.download.cache": {"start"},
    "agent.download.lease": {"start"},
    "agent.download.traffic": {"start"},
    "agent.download.stall": {"start"},
    "agent.download.hub": {"start"},
    "agent.download.fetch": {"start"},
    "agent.start": {"start", "attach"},
    "agent.survey": {"survey", "inspect"},
    "agent.inspect_machine": {"inspect"},
    "agent.stop": {"stop"},
    "agent.log_search": {"logs"},
    "agent.logs": {"logs"},
    "agent.main": None,
}
PACKAGES = ("agent", "agent.download")

DOCSTRING = re.compile(r'^([ \t]*)"""(?s:.*?)"""$', re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*#.*\n", re.MULTILINE)


@cache
def packed(operation: str) -> bytes:
    """Return the modules for an operation, compressed.

    What is written in them for people is a third of it, and half a second on a line of 128 kbit/s.
    """
    names = [name for name, needing in MODULES.items() if needing is None or operation in needing]
    return pack((name, source(name)) for name in names)


def pack(modules: Iterable[tuple[str, str]]) -> bytes:
    """Return modules as `shell.AGENT` takes them: it runs all, in order, and then `main` of the last one."""
    return zlib.compress(json.dumps([(name, bare(text)) for name, text in modules]).encode(), 9)


def source(name: str) -> str:
    """Return the text of a module of the agent."""
    if name in PACKAGES:
        return ""
    return paths.asset(f"remote/{name.replace('.', '/')}.py").read_text(encoding="utf-8")


def bare(module: str) -> str:
    """Take docstrings and lines of comments out of a module."""
    return COMMENT.sub("", DOCSTRING.sub(r'\1""', module))
