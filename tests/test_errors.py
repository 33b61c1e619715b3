"""The tree of errors in the docstring of `pi_cli/errors.py` is complete and true; hints can be pasted."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

from pi_cli import errors
from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from tests.every import every

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"([│ ├└─]*)(\w+) +exit (\d)   .*?(?:\(`(\S+)`\))?")
OF_ITS_OWN = {"PodsFailed"}  # its code is that of the worst of several errors


@functools.cache
def subclasses() -> dict[str, type[PiError]]:
    """Return every subclass of `PiError` in the source, by name."""
    modules: dict[str, str] = {}
    bases: dict[str, list[str]] = {}
    for path in (ROOT / "pi_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                modules[node.name] = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    known: set[str] = {"PiError"}
    while more := {name for name in bases if known.intersection(bases[name])} - known:
        known |= more
    return {name: getattr(importlib.import_module(modules[name]), name) for name in known - {"PiError"}}


def tree() -> dict[str, tuple[str, int, str]]:
    """Return the parent, exit code and file of every class in the docstring."""
    entries = {}
    parents = {0: "PiError"}
    for line in (errors.__doc__ or "").splitlines():
        if match := LINE.fullmatch(line):
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            entries[match[2]] = (parents[max(depth - 1, 0)], int(match[3]), match[4] or "pi_cli/errors.py")
    return entries


def test_the_tree_has_every_subclass() -> None:
    assert {"AgentRefused", "HostKeyChanged"} < set(subclasses())
    assert set(tree()) == subclasses().keys() - OF_ITS_OWN
    assert all(f" {name} " in (errors.__doc__ or "") for name in OF_ITS_OWN)


@every(lambda: sorted(subclasses().keys() - OF_ITS_OWN))
def test_the_tree_has_the_right_parent_code_and_file(name: str) -> None:
    error = subclasses()[name]
    parent, code, file = tree()[name]
    assert error.__bases__[0].__name__ == parent
    assert error.exit_code == code
    assert f"{error.__module__.replace('.', '/')}.py" == file


def test_the_command_that_accepts_a_new_host_key_can_be_pasted_whatever_the_ssh_command() -> None:
    ssh = """ssh -i "/my key" root@h -o 'ProxyCommand=nc %h %p; true'"""
    [command] = re.findall("`(.*)`", str(HostKeyChanged("dc1", known="a", shown="b", ssh=ssh).hint))
    assert shlex.split(command) == ["pi", "pods", "setup", "dc1", ssh, "--accept-new-host-key"]


def test_the_words_of_a_server_that_refuses_are_safe_wherever_they_are_shown() -> None:
    error = PodUnreachable("dc1", "it refused a session: \x1b]52;c;RVZJTA==\x07go\u009b6n away\nline 2")
    assert str(error) == "cannot reach pod `dc1`: it refused a session: go away\nline 2"
