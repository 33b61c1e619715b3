"""Say whether the vLLM of this Python accepts the words of a `vllm serve`, before a model is downloaded for it.

Reads `["serve", MODEL, …]` as one line of JSON, and prints one object: `{}` if they are accepted, else what vLLM says
about them, and the options that it knows. It uses vLLM's own parser, and looks at no GPU and at no file of the model.
A program that ends without an answer has failed for another reason; then vLLM itself decides at its start. It ends when
stdin does. The agent sends it with every start (`agent.arguments`).
"""

import sys

if sys.path[:1] == [""]:
    del sys.path[0]  # the home folder, in which a file may be called like a module; `vllm` itself does not look there

import argparse
import contextlib
import json
import os
import threading
from typing import Any, Dict, Iterator, List, NoReturn

MAX_SAID = 8000  # characters of an error; it may quote the user's JSON
MAX_OPTIONS = 1000  # vLLM 0.32 has 480 names of options
# The errors of vLLM's own checks. Others, for example a module that cannot be imported, say nothing about the words.
ABOUT_WORDS = (TypeError, ValueError, LookupError, AssertionError, FileNotFoundError)
BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}  # of pydantic's fields


class Unacceptable(Exception):
    """vLLM does not accept the words; the text says why."""


def main() -> None:
    """Answer on the stdout of the start; what vLLM prints while it is imported goes nowhere."""
    line = sys.stdin.readline()
    threading.Thread(target=end_with_stdin, daemon=True).start()
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    text = json.dumps(judged(json.loads(line)))
    with os.fdopen(answer, "w") as out:
        out.write(text)
    os._exit(0)  # threads of libraries may not end


def end_with_stdin() -> None:
    """Exit as soon as the agent has gone, however it ended."""
    sys.stdin.read()
    os._exit(1)


def judged(words: List[str]) -> Dict[str, Any]:
    """Return what vLLM says about the words of a command."""
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        """vLLM's parser, which raises instead of exiting; parsers of its subcommands are of the same class."""

        def error(self, message: str) -> NoReturn:
            raise Unacceptable(message)

    parser = Parser()
    commands = parser.add_subparsers(dest="subparser")
    [serve] = cmd_init()
    options = serve.subparser_init(commands)
    try:
        read = parser.parse_args(words)
        serve.validate(read)
        require_parsers(read)
        require_quantisation(read)
        require_bounds(read)
    except Unacceptable as error:
        said = str(error)
    except SystemExit:  # of an option such as `--help`
        said = "vLLM would exit at once"
    except IndexError:  # vLLM takes the value of `--config.key` from the next word, which is not there
        said = "argument %s: expected one argument" % words[-1]
    except Exception as error:
        trace = error.__traceback__
        is_of_vllm = trace is not None and trace.tb_next is not None  # not of a call here that no longer fits vLLM
        is_about_words = isinstance(error, ABOUT_WORDS) or type(error).__module__ == "vllm.exceptions"
        if not (is_of_vllm and is_about_words):
            raise
        said = str(error).removeprefix("Error: ") or type(error).__name__
    else:
        return {}
    names = [name for action in options._actions for name in action.option_strings]
    return {"said": said[:MAX_SAID], "options": names[:MAX_OPTIONS]}


@contextlib.contextmanager
def if_there_is_such() -> Iterator[None]:
    """Skip a check that needs a part of vLLM which this version has elsewhere."""
    with contextlib.suppress(ImportError, AttributeError):
        yield


def require_parsers(read: argparse.Namespace) -> None:
    """Check the names of the parsers, as vLLM does (entrypoints/launchers/launcher.py) before it loads a model."""
    with if_there_is_such():
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager

        known, name = ToolParserManager.list_registered(), read.tool_call_parser
        if read.enable_auto_tool_choice and not read.tool_parser_plugin and name not in known:
            raise Unacceptable("invalid tool call parser: %s (chose from { %s })" % (name, ",".join(sorted(known))))
        known, name = ReasoningParserManager.list_registered(), read.reasoning_parser
        if name and not read.reasoning_parser_plugin and name not in known:
            raise Unacceptable("invalid reasoning parser: %s (chose from { %s })" % (name, ",".join(sorted(known))))


def require_quantisation(read: argparse.Namespace) -> None:
    """Check the name of the quantisation method, which vLLM does after it has read the model's configuration."""
    with if_there_is_such():
        from vllm.config.quantization import ONLINE_QUANT_SHORTHAND_NAMES
        from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

        known = {*QUANTIZATION_METHODS, *ONLINE_QUANT_SHORTHAND_NAMES}
        if read.quantization is not None and read.quantization not in known:
            listed = ", ".join(map(repr, sorted(known)))
            raise Unacceptable(f"argument --quantization: invalid choice: {read.quantization!r} (choose from {listed})")


def require_bounds(read: argparse.Namespace) -> None:
    """Check numbers against the bounds of vLLM's configuration, which it makes after it has read the model's.

    Several classes may have a field of a name. A number is refused if it is out of the bounds of all of them.
    """
    with if_there_is_such():
        import vllm.config as config

        broken: Dict[str, List[str]] = {}
        for kind in vars(config).values():
            for name, field in getattr(kind, "__pydantic_fields__", {}).items():
                value = getattr(read, name, None)
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    broken.setdefault(name, []).append(out_of_bounds(value, field.metadata))
        for name, reasons in broken.items():
            if all(reasons):
                raise Unacceptable("argument --%s: %s" % (name.replace("_", "-"), reasons[0]))


def out_of_bounds(value: float, bounds: List[Any]) -> str:
    """Return which bound a number exceeds, or nothing."""
    for bound in bounds:
        for name, words in BOUNDS.items():
            limit = getattr(bound, name, None)
            if isinstance(limit, (int, float)):
                kept = {"gt": value > limit, "ge": value >= limit, "lt": value < limit, "le": value <= limit}
                if not kept[name]:
                    return "must be %s %s, not %s" % (words, limit, value)
    return ""


if __name__ == "__main__":
    main()
