"""Commands to paste are built in `pi_cli/hints.py` only, so that every value in them is quoted.

The demo is left out: it stands for other programs.
"""

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pi_cli import hints
from pi_cli.commands.app import Commands
from tests.every import every

ROOT = Path(__file__).parents[1] / "pi_cli"
FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "demo"
)
QUOTES_FOR_A_SHELL = {
    "hints.py": "the commands to paste",
    "commands/ssh.py": "the command that ssh runs on the pod",
    "pods/shell.py": "what pi runs on the pod",
    "ssh/ssh_command.py": "the ssh command that is kept",
    "planning/serve_command.py": "the command that the pod runs, for `--dry-run`",
    "ssh/users_ssh.py": "the ProxyCommand that ssh runs",
    "view/exports.py": "lines that a shell evaluates",
}

VALUE = "\0"  # stands for a placeholder of an f-string
IN_BACKTICKS = re.compile(r"`([^`]*)`")
COMMAND = re.compile(rf"(?:pi|ssh|export|--[\w-]+|{VALUE}) \S|--[\w-]+=")  # how a command, or a part of one, begins
BARE_COMMAND = re.compile(rf"pi (?:{'|'.join(Commands.table)})\b")


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def broken(file: str) -> list[str]:
    """Return what breaks the rules in a file."""
    return list(breaches(tree(file), file))


def breaches(source: ast.Module, file: str) -> Iterator[str]:
    for node in ast.walk(source):
        match node:
            case ast.JoinedStr():
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
                commands = [inside for inside in IN_BACKTICKS.findall(text) if VALUE in inside]
                if any(COMMAND.match(inside) for inside in commands) or (VALUE in text and BARE_COMMAND.match(text)):
                    yield f"line {node.lineno}: an f-string builds a command: use hints.fill"
            case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[ast.List(elts=[first, *_])]):
                if isinstance(first, ast.Constant) and first.value in ("pi", "ssh"):
                    yield f"line {node.lineno}: str.join builds a command: use hints.command"
            case ast.Attribute(value=ast.Name(id="shlex"), attr="join" | "quote"):
                if file not in QUOTES_FOR_A_SHELL:
                    yield f"line {node.lineno}: shlex.{node.attr}: use hints.command"
            case ast.Call(func=ast.Attribute(attr="format")) | ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
                if file not in QUOTES_FOR_A_SHELL:
                    yield f"line {node.lineno}: values are put into a text: use hints.fill"
            case ast.Attribute(attr="hint", ctx=ast.Store()):
                if file != "errors.py":
                    yield f"line {node.lineno}: a hint is assigned: use with_hint"


@every(FILES)
def test_commands_to_paste_are_built_in_one_place(file: str) -> None:
    assert broken(file) == []


@pytest.mark.parametrize("file", QUOTES_FOR_A_SHELL)
def test_a_file_that_may_quote_for_a_shell_does(file: str) -> None:
    assert any(isinstance(node, ast.Attribute) and node.attr in ("join", "quote") for node in ast.walk(tree(file)))


@pytest.mark.parametrize(
    "source",
    [
        "f'stop it with `pi stop {name}`'", "f'log in with `ssh {host}`'", "f'choose one: `export {name}=…`'",
        "f'add `--pod {pod}`'", "f'give `{option} 20m`'", "f'pi start {model} --dry-run'", "' '.join(['pi', *words])",
        "shlex.join(words)", "shlex.quote(word)", "error.hint = 'try again'", "LINE.format(file=path)",
        "'pi stop %s' % name",
    ],
)  # fmt: skip
def test_the_rules_find(source: str) -> None:
    assert list(breaches(ast.parse(source), "models/starting.py"))


@pytest.mark.parametrize(
    "source",
    [
        "f'stopped `{name}` on `{pod}`'", "f'pi {version}'", "'see them with `pi list --all`'", "', '.join(names)",
        "fill('stop it with `pi stop {name}`', name=name)", "raise error.with_hint('try again')",
    ],
)  # fmt: skip
def test_the_rules_do_not_find(source: str) -> None:
    assert not list(breaches(ast.parse(source), "models/starting.py"))


def literals(scope: ast.AST) -> dict[str, str]:
    """Return the variables of a function or module that are assigned once, with a literal text."""
    assigned = [
        (node.targets[0].id, node.value)
        for node in (scope.body if isinstance(scope, ast.Module) else ast.walk(scope))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    count = Counter(name for name, _ in assigned)
    return {name: str(value.value) for name, value in assigned if isinstance(value, ast.Constant) and count[name] == 1}


def templates(file: str) -> Iterator[tuple[str, set[str]]]:
    """Yield (template, names of the values) for each call of `fill` with a literal, or a variable that holds one."""
    for scope in tree(file).body:
        texts = literals(tree(file)) | literals(scope)
        for node in ast.walk(scope):
            match node:
                case ast.Call(func=ast.Name(id="fill" | "offer"), args=[template], keywords=keywords):
                    text = template.value if isinstance(template, ast.Constant) else texts.get(ast.unparse(template))
                    if text and all(keyword.arg for keyword in keywords):
                        yield str(text), {str(keyword.arg) for keyword in keywords}


@every(FILES)
def test_a_template_gets_a_value_for_each_placeholder(file: str) -> None:
    for template, values in templates(file):
        assert set(hints.PLACEHOLDER.findall(template)) <= values, template


def test_templates_are_found() -> None:
    assert ("`pi list --pod {pod}` adds it to the list", {"pod"}) in list(templates("models/drift.py"))
    assert any("--forget" in template for template, _ in templates("commands/stop.py"))


@pytest.mark.parametrize("name", ["q", "a b", "q; reboot", "it's", '"', "$HOME", "", "é", "-x", "a\nb"])
def test_a_value_is_one_word_of_the_command_whatever_it_contains(name: str) -> None:
    def words(template: str) -> list[str]:
        return shlex.split(hints.fill(template, name=name).strip("`"))

    assert words("`pi stop {name} --all`") == ["pi", "stop", name, "--all"]
    assert words("`pi forward dc1/{name}`") == ["pi", "forward", f"dc1/{name}"]
    assert shlex.split(words("`pi ssh dc1 'rm -r {name}'`")[-1]) == ["rm", "-r", name]


def test_an_unquoted_word_stays_as_written_unless_a_value_needs_quotes() -> None:
    assert hints.fill("`export {name}=$(openssl rand -hex 32)`", name="KEY") == "`export KEY=$(openssl rand -hex 32)`"
