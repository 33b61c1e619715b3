"""The agent as it is sent: the modules of `remote/agent` that one operation needs, as bare source."""

import base64
import json
import zlib
from collections.abc import Iterable
from functools import cache

from pi_cli.pods import program_cache
from pi_cli.store import paths

OF_MODELS = {
    "start", "attach", "survey", "inspect", "stop", "holders", "logs", "purge", "lease", "clean", "gateway", "launches",
    "network", "bench",
}  # fmt: skip
HELD = {"survey", "stop", "logs", "launches"}  # over a held link (`pi_cli/hold/messages.py`)
KEPT = {*HELD, "holders"}  # whose programs pods keep
LEASED_START = "leased-start"  # a start with a lease: it needs more than others do
# In the order of their imports, with the operations that need them: on a slow link, unneeded modules can be felt.
MODULES: dict[str, set[str] | None] = {
    "agent": None,
    "agent.wire": None,
    "agent.home": None,
    "agent.keep": None,
    "agent.mounts": OF_MODELS,
    "agent.machine": OF_MODELS,
    "agent.processes": OF_MODELS,
    "agent.variables": OF_MODELS - {"attach", "logs", "purge", "launches"},
    "agent.ending": {"start", "attach", "stop", "gateway"},
    "agent.ports": {"start", "attach", "survey", "inspect", "clean", "gateway", "network", "bench"},
    "agent.records": OF_MODELS - {"holders", "network"},
    "agent.leases": {LEASED_START, "survey", "stop", "purge", "lease"},
    "agent.lease_ends": {"survey", "lease"},
    "agent.lease_watchers": {LEASED_START, "survey", "lease"},
    "agent.orphans": {"survey", "inspect", "stop", "purge"},
    "agent.phases": {"start", "attach", "survey", "inspect"},
    "agent.gpus": {"start", "survey", "inspect", "stop", "holders"},
    "agent.cuda": {"inspect"},
    "agent.place": {"start", "inspect", "purge", "clean", "launches", "bench"},
    "agent.vllm_versions": {"start", "inspect", "clean", "launches", "bench"},
    "agent.serve_command": {"start"},
    "agent.lockless": {"start"},
    "agent.arguments": {"start"},
    "agent.disks": {"start", "inspect", "clean"},
    "agent.kernel_caches": {"start", "clean"},
    "agent.memory": {"start"},
    "agent.storage_speed": {"start"},
    "agent.weights": {"start"},
    "agent.kv_cache": {"start", "clean"},
    "agent.deaths": {"start", "attach"},
    "agent.warm_up": {"start"},
    "agent.download": {"start"},
    "agent.download.cache": {"start"},
    "agent.download.lease": {"start"},
    "agent.download.traffic": {"start"},
    "agent.download.stall": {"start"},
    "agent.download.hub": {"start"},
    "agent.download.full_disk": {"start"},
    "agent.download.fetch": {"start"},
    "agent.rendezvous": {"start"},
    "agent.watch": {"start", "attach"},
    "agent.start": {"start"},
    "agent.metrics": {"survey", "inspect"},
    "agent.answers": {"survey", "inspect"},
    "agent.idle": {"survey", "inspect"},
    "agent.stalls": {"survey", "inspect"},
    "agent.survey": {"survey", "inspect"},
    "agent.inspect_machine": {"inspect"},
    "agent.stop": {"stop"},
    "agent.log_search": {"logs"},
    "agent.logs": {"logs"},
    "agent.uploads": {"store"},
    "agent.pod_stop": {"lease"},
    "agent.lease": {"lease"},
    "agent.trees": {"purge", "clean"},
    "agent.purge": {"purge"},
    "agent.compile_cache": {"clean"},
    "agent.gateway": {"gateway"},
    "agent.network": {"network"},
    "agent.launches": {"launches"},
    "agent.bench": {"bench"},
    "agent.main": None,
}
# The program of the process that watches a model with a lease: a file on the pod.
OF_WATCHERS = (
    "agent", "agent.wire", "agent.home", "agent.mounts", "agent.machine", "agent.processes", "agent.variables",
    "agent.ending", "agent.ports", "agent.records", "agent.leases", "agent.lease_ends", "agent.orphans", "agent.gpus",
    "agent.metrics", "agent.stop", "agent.pod_stop", "agent.lease_watch",
)  # fmt: skip
PACKAGES = ("agent", "agent.download")

LEVEL = 6  # of compression: the last three save 0.3 % of the bytes, and take 0.8 ms of every command


def names(*operations: str) -> tuple[str, ...]:
    """Return the modules for these operations, in the order of their imports."""
    wanted = {*operations, "start"} if LEASED_START in operations else set(operations)
    return tuple(name for name, needing in MODULES.items() if needing is None or wanted & needing)


@cache
@program_cache.kept
def packed(operation: str, has: frozenset[str] = frozenset()) -> bytes:
    """Return the compressed modules for an operation, without those that a process `has` already.

    Docstrings, comments and types, which are left out, are a third of it: half a second at 128 kbit/s.
    """
    return pack((name, source(name)) for name in names(operation) if name not in has)


def waiting() -> bytes:
    """Return the agent that waits on a held link for any of the operations that one may be asked there."""
    return pack((name, source(name)) for name in [*names(*HELD), "agent.waiting"])


def pack(modules: Iterable[tuple[str, str]]) -> bytes:
    """Return modules in the format of `shell.AGENT`, which runs them in order, then calls `main` of the last one."""
    from pi_cli.pods.bare_source import bare  # its patterns take 2 ms to compile, and most programs are kept

    return zlib.compress(json.dumps([(name, bare(text)) for name, text in modules]).encode(), LEVEL)


@cache
def watcher() -> str:
    """Return the program that watches a model with a lease, as a request has it."""
    from pi_cli.pods.bare_source import bare

    modules = json.dumps([(name, bare(source(name))) for name in OF_WATCHERS])
    return compressed(
        f"import json,sys,types\nfor name,text in json.loads({modules!r}):\n"
        ' exec(compile(text,name,"exec"),sys.modules.setdefault(name,types.ModuleType(name)).__dict__)\n'
        "sys.modules[name].main()\n"
    )


def compressed(program: str) -> str:
    """Return a program for a request, as `agent.wire.unpacked` reads it."""
    return base64.b64encode(zlib.compress(program.encode(), 9)).decode("ascii")


def source(name: str) -> str:
    """Return the source of a module of the agent."""
    if name in PACKAGES:
        return ""
    return paths.asset(f"remote/{name.replace('.', '/')}.py").read_text(encoding="utf-8")
