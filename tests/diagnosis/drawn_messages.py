"""Draw messages from the start-up code of an installed vLLM, frame them as it frames them, and diagnose them.

    python -m tests.diagnosis.drawn_messages SITE-PACKAGES/vllm [--count 200] [--seed 19] [--all]

Prints a table: how often the cause is shown as the message says it, how often there is a remedy, and each message that
has one with that remedy, to be read: whether a remedy is wrong only a reader can tell.
"""

import argparse
import ast
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pi_cli.diagnosis import causes
from pi_cli.diagnosis.causes import Cause
from tests.diagnosis.engine_log import TIME, of_the_engine, of_the_server, of_workers
from tests.diagnosis.failure_rows import COMMAND, MODEL

# What runs while a model starts: arguments, configuration, platform, loading, memory, compilation.
START_UP = (
    *(
        "config",
        "engine",
        "entrypoints/openai",
        "entrypoints/cli",
        "platforms",
        "transformers_utils",
        "usage",
        "plugins",
    ),
    *("v1/engine", "v1/worker", "v1/executor", "v1/core", "v1/attention", "v1/kv_cache_interface.py", "v1/spec_decode"),
    *("model_executor", "distributed", "compilation", "lora", "utils", "multimodal", "reasoning", "tool_parsers"),
    *("attention", "kernels", "quantization", "tokenizers", "device_allocator", "envs.py", "renderers"),
)
VALUES = {"size": "8", "len": "4096", "dtype": "torch.float16", "name": "x", "path": "/models/x", "device": "cuda"}
# As pydantic and the server frame what is wrong with the configuration.
OF_CONFIGURATION = ("config", "engine", "entrypoints", "platforms", "transformers_utils")
HELPERS = {"super", "type", "str", "repr", "len", "int", "list", "tuple", "sorted", "set"}
LINE_TESTED = 60  # characters of the message that have to be in the line shown


@dataclass(frozen=True)
class Message:
    """A message that vLLM can raise: where, which exception, and its text with likely values."""

    file: str
    line: int
    error: str
    text: str

    @property
    def raised(self) -> str:
        return f"{self.error}: {self.text}"


def messages(package: Path) -> Iterator[Message]:
    """Yield every message that the start-up code raises, with a text of more than one word."""
    for part in START_UP:
        place = package / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.exists() else []:
            yield from in_file(path, str(path.relative_to(package)))


def in_file(path: Path, name: str) -> Iterator[Message]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=error), args=[text, *_])) if error.endswith("Error"):
                if (found := worded(text)) and " " in found:
                    yield Message(name, node.lineno, error, found)
            case ast.Assert(msg=ast.expr() as text):
                if (found := worded(text)) and " " in found:
                    yield Message(name, node.lineno, "AssertionError", found)


def worded(node: ast.expr) -> str:
    """Return a text with likely values in place of expressions; empty for what is not a text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(worded(part) for part in parts)
        case ast.FormattedValue(value=value):
            source = ast.unparse(value).lower()
            return next((text for name, text in VALUES.items() if name in source), "4")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return worded(left) + worded(right)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
            return re.sub(r"%[sdr.\d]*[sdrf]", "4", text)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return re.sub(r"\{[^}]*\}", "4", text)
    return ""


def framed(message: Message, draw: random.Random) -> str:
    """Write the log of a start that ends with a message, in one of the ways in which vLLM logs it."""
    top = message.file.split("/")[0]
    if top in OF_CONFIGURATION and message.error in ("ValueError", "AssertionError") and draw.random() < 0.6:
        return of_the_server(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
            f"  {'Value error' if message.error == 'ValueError' else 'Assertion failed'}, {message.text} "
            "[type=value_error, input_value=ArgsKwargs(...), input_type=ArgsKwargs]\n"
            "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
        )
    if top in OF_CONFIGURATION:
        return of_the_server(message.raised)
    if draw.random() < 0.4:
        return of_workers([message.raised] * 2)
    warning = f"(EngineCore pid=71) WARNING {TIME} [a.py:1] ValueError: this is a warning and nothing else\n"
    return of_the_engine(message.raised, before=warning)


def is_shown(message: Message, cause: Cause | None) -> bool:
    """Return whether what is shown has the beginning of the message."""
    if cause is None:
        return False
    begin = next(line for line in message.text.split("\n") if line.strip()).strip()[:LINE_TESTED]
    return begin.replace("`", "'") in f"{cause.line}\n{cause.summary}".replace("`", "'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("package", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--all", action="store_true", help="every message instead of some that are drawn")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    every = sorted(set(messages(arguments.package)), key=lambda each: (each.file, each.line, each.text))
    drawn = every if arguments.all else draw.sample(every, arguments.count)
    results = [
        (each, causes.find(framed(each, draw), pod="dc1", model=MODEL, command=COMMAND))
        for each in sorted(drawn, key=lambda each: (each.file, each.line, each.text))
    ]
    report(results, len(every))


def report(results: list[tuple[Message, Cause | None]], count: int) -> None:
    """Print what was diagnosed, and how often."""
    lines = []
    for each, cause in results:
        if cause and cause.hint:
            lines.append(f"{each.file}:{each.line}\n  {each.raised[:300]}\n  -> {cause.summary}\n  -> {cause.hint}\n")
        if not is_shown(each, cause):
            lines.append(f"NOT SHOWN {each.file}:{each.line}\n  {each.raised[:300]}\n  -> {cause and cause.line}\n")
    shown = sum(is_shown(each, cause) for each, cause in results)
    remedies = sum(1 for _, cause in results if cause and cause.hint)
    known = sum(1 for _, cause in results if cause and cause.is_known)
    lines.append(f"messages in the start-up code: {count}; looked at: {len(results)}")
    lines.append(f"the cause is shown: {shown} of {len(results)} ({100 * shown / len(results):.1f} %)")
    lines.append(f"with a remedy: {remedies} of {len(results)}; by a row of the tables: {known}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
