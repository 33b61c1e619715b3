"""The package `vllm` of an embedded pod: only its argument parser, with the options and errors of vLLM 0.32.

pi asks vLLM's parser whether it accepts the arguments of a start (`remote/parse_arguments.py`). In
`$HOME/.demo/vllm.json`, `{"import": 5}` makes that take as many seconds as the import of the real package.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pi_cli.demo.engine import flags, parsers
from pi_cli.vllm import abilities, json_options
from pi_cli.vllm.abilities import Option

VERSION = "0.32.0"
ROOT = Path(__file__).resolve().parents[3]
# The modules of the package, and the names in each that are defined here.
MODULES = {
    "entrypoints/cli/serve.py": "cmd_init",
    "utils/argparse_utils.py": "FlexibleArgumentParser",
    "tool_parsers.py": "ToolParserManager",
    "reasoning.py": "ReasoningParserManager",
}
INIT = f'"""SIMULATED."""\n\nimport sys\n\nsys.path.append({str(ROOT)!r})\n__version__ = {VERSION!r}\n'


def write(packages: Path) -> None:
    """Write the package into a folder of packages."""
    for name, defined in MODULES.items():
        path = packages / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""SIMULATED."""\n\nfrom {__name__} import {defined} as {defined}\n', encoding="utf-8")
    (packages / "vllm" / "__init__.py").write_text(INIT, encoding="utf-8")


class FlexibleArgumentParser(argparse.ArgumentParser):
    """vLLM's parser: underscores in names are dashes, and `--config.key value` sets a key of a JSON value."""

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        try:
            words = list(flags.prepared(list(sys.argv[1:] if args is None else args)))
        except flags.BadCommandLine as error:
            self.error(str(error))
        return super().parse_args(words, namespace)


class Serve:
    """The command `vllm serve`."""

    def subparser_init(self, commands: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser("serve", usage="vllm serve [model_tag] [options]")
        parser.add_argument("model_tag", nargs="?")
        for option in (*abilities.shipped().options, flags.SIMULATE):
            if "--help" not in option.names:
                parser.add_argument(
                    *option.names, dest=option.names[0].strip("-").replace("-", "_"), **_settings(option)
                )
        return parser

    def validate(self, read: argparse.Namespace) -> None:
        if read.enable_auto_tool_choice and not read.tool_call_parser:
            raise TypeError("Error: --enable-auto-tool-choice requires --tool-call-parser")
        template = read.chat_template
        if template and "{" not in template and not Path(template).exists():
            why = "appears path-like, but doesn't exist!"
            raise ValueError(f"The supplied chat template string ({template}) {why} Tried: {template}")


def _settings(option: Option) -> dict[str, Any]:
    """Return how argparse reads an option."""
    name = option.names[0]
    if option.value == "no":
        return {"action": "store_true"}
    if option.value == "many":
        return {"nargs": "+", "action": "extend" if name.strip("-") in flags.REPEATABLE else "store"}
    read = _json(name) if name in json_options.OBJECTS else _number(*flags.TYPES[name]) if name in flags.TYPES else str
    return {"type": read, "choices": option.choices or None, "nargs": "?" if option.value == "maybe" else None}


def _number(name: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Return a reader under the name that argparse puts into its errors."""

    def read_value(text: str) -> object:
        return read(text)

    read_value.__name__ = name
    return read_value


def _json(name: str) -> Callable[[str], Any]:
    """Return a reader of JSON; some options take other texts too."""

    def read_value(text: str) -> Any:
        if name in json_options.OR_TEXT and not text.lstrip().startswith("{"):
            return text
        try:
            return json.loads(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to {json.loads}.") from None

    return read_value


def cmd_init() -> list[Serve]:
    try:
        options = json.loads((Path.home() / ".demo" / "vllm.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        options = {}
    time.sleep(options.get("import", 0))
    return [Serve()]


class ToolParserManager:
    """The registry of tool-call parsers."""

    @staticmethod
    def list_registered() -> list[str]:
        return parsers.TOOLS


class ReasoningParserManager:
    """The registry of reasoning parsers."""

    @staticmethod
    def list_registered() -> list[str]:
        return parsers.REASONING
