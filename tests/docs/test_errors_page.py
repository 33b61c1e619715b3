"""docs/errors.md has every error that pi can raise, and every cause of a failed start with its remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pi_cli import errors
from pi_cli.diagnosis.causes import KNOWN_CAUSES, SILENT_DEATHS
from pi_cli.diagnosis.known_cause import REFUSED_ARGUMENTS, KnownCause
from pi_cli.errors import PiError
from tests.every import every

ROOT = Path(__file__).parents[2]
CLASSES = {name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, PiError)}
RAISING = {*CLASSES, "super().__init__"}


def bare(text: str) -> str:
    """Return a text without the names of what is filled in: the page calls them what people do."""
    return re.sub(r"\{[^{}]*\}", "{}", text)


PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
BARE_PAGE = bare(" ".join(PAGE.split()))


def messages() -> Iterator[tuple[str, str]]:
    """Yield (module, message) for every text given to an error's class: what is filled in is `{}`."""
    for path in sorted((ROOT / "pi_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in RAISING:
                yield from ((str(path.relative_to(ROOT)), text) for each in node.args if (text := template(each)))


def refusals() -> Iterator[str]:
    """Yield the messages for the agent's refusals and notes."""
    source = (ROOT / "pi_cli" / "pods" / "wording.py").read_text(encoding="utf-8")
    for function in ast.parse(source).body:
        if isinstance(function, ast.FunctionDef) and function.name in ("explain", "remark", "_no_room"):
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value and (text := template(node.value)):
                    yield text


def reasons() -> Iterator[str]:
    """Yield why vLLM cannot serve a repository."""
    for name in ("servable", "adapters"):
        tree = ast.parse((ROOT / "pi_cli" / "hub" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.expr) and re.match(r"(\{\})?(it|its) (?!can serve)", text := template(node)):
                yield text.removeprefix("{}")


def template(node: ast.expr) -> str:
    """Return a literal text that says something by itself, else nothing."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        text = "".join(str(part) for part in parts)
    else:
        text = str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return text if " " in text else ""


def test_every_error_is_in_the_page() -> None:
    found = list(messages())
    assert ("pi_cli/chat/client.py", "the server has no model `{}`: {}") in found
    assert [(module, message) for module, message in found if message not in BARE_PAGE] == []


def test_every_refusal_and_remark_of_the_agent_is_in_the_page() -> None:
    found = list(refusals())
    assert "no port is free" in found
    assert [text for text in found if text not in BARE_PAGE] == []


def test_every_reason_for_not_serving_a_model_is_in_the_page() -> None:
    page = re.sub(r" for `\{\}`| \(\{\}\)", "{}", BARE_PAGE)  # both only where it is known
    found = list(reasons())
    assert len(found) >= 15
    assert [text for text in found if text not in page] == []


@every([*KNOWN_CAUSES, REFUSED_ARGUMENTS, *SILENT_DEATHS], lambda known: known.summary)
def test_every_known_cause_is_in_the_page_with_its_remedy(known: KnownCause) -> None:
    assert f"| {known.summary} | {known.hint} |" in PAGE


@every(sorted(CLASSES))
def test_every_class_of_errors_is_in_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_exit_codes_are_those_of_the_classes() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE.partition("\n\n## ")[0], re.MULTILINE)
    codes = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert codes == {name: each.exit_code for name, each in CLASSES.items() if name != "PodsFailed"}
