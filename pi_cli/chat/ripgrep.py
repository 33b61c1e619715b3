"""`rg` for a model: the real ripgrep, without a shell, and only with options that read and print."""

import asyncio
import os
import shlex
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pi_cli.chat import rg_output
from pi_cli.chat.access import Access
from pi_cli.chat.files import MAX_CHARACTERS, MAX_LINES
from pi_cli.chat.paths import tool_errors
from pi_cli.chat.schema import ToolError

MAX_SECONDS = 20.0
MAX_BYTES = MAX_CHARACTERS
MAX_COLUMNS = 1000

# The options that a model may use; any other option is refused. Left out on purpose: `--pre`, `--hostname-bin` and
# `-z` run other programs, `-f` and `--ignore-file` read files whose paths were not checked, `-L` and
# `--no-one-file-system` can enter /proc, where the environments (and so the secrets) of other processes are.
SWITCHES = {
    "a": "text", "b": "byte-offset", "c": "count", "F": "fixed-strings", "H": "with-filename", "i": "ignore-case",
    "I": "no-filename", "l": "files-with-matches", "n": "line-number", "N": "no-line-number", "o": "only-matching",
    "P": "pcre2", "s": "case-sensitive", "S": "smart-case", "u": "unrestricted", "U": "multiline", "v": "invert-match",
    "w": "word-regexp", "x": "line-regexp", ".": "hidden",
}  # fmt: skip
LONG_SWITCHES = frozenset(SWITCHES.values()) | {
    "auto-hybrid-regex", "binary", "column", "count-matches", "crlf", "files", "files-without-match",
    "glob-case-insensitive", "heading", "include-zero", "json", "max-columns-preview", "multiline-dotall", "no-column",
    "no-fixed-strings", "no-heading", "no-hidden", "no-ignore", "no-ignore-dot", "no-ignore-global",
    "no-ignore-parent", "no-ignore-vcs", "no-messages", "no-multiline", "no-require-git", "no-unicode",
    "one-file-system", "passthru", "sort-files", "stats", "stop-on-nonmatch", "trim", "type-list", "vimgrep",
}  # fmt: skip
VALUES = {
    "A": "after-context", "B": "before-context", "C": "context", "d": "max-depth", "e": "regexp", "E": "encoding",
    "g": "glob", "m": "max-count", "M": "max-columns", "r": "replace", "t": "type", "T": "type-not",
}  # fmt: skip
LONG_VALUES = frozenset(VALUES.values()) | {
    "color", "colors", "context-separator", "engine", "field-context-separator", "field-match-separator", "iglob",
    "max-filesize", "maxdepth", "sort", "sortr", "type-add", "type-clear",
}  # fmt: skip

NOT_INSTALLED = (
    "ripgrep (`rg`) is not installed on this machine; the user can get it with `pip install ripgrep`, "
    "`apt install ripgrep` or `brew install ripgrep`. Use `glob` and `read` instead"
)


async def rg(
    args: str, *, cwd: Path, path: str | None = None, seconds: float = MAX_SECONDS, access: Access | None = None
) -> str:
    """Search with ripgrep; `args` are its arguments as on a command line, but no shell expands them.

    `path` is the search path for programs; None means PATH. Without `access`, only `cwd` is open.
    """
    program = find_program(path)
    if program is None:
        raise ToolError(NOT_INSTALLED)
    access = access or Access(cwd)
    options, pattern, paths = check_arguments(args, access)
    with tempfile.TemporaryFile() as errors:
        command = [program, "--no-config", "--no-messages", "--line-number", "--no-heading"]
        command += [f"--max-columns={MAX_COLUMNS}", "--max-columns-preview", *rg_output.marked(options)]
        command += [*access.ripgrep_options(), "--color=never", "--one-file-system", "--", *pattern, *paths]
        async with running(command, cwd=cwd, errors=errors.fileno()) as process:
            output, note = await read_output(process, seconds)
        require_same(paths)
        errors.seek(0)
        output = await asyncio.to_thread(rg_output.open_part, output, options, access)
        return search_result(output, note, process.returncode, errors.read(2000).decode("utf-8", "replace").strip())


def find_program(path: str | None = None) -> str | None:
    """Find `rg` next to pi's own Python, where the `ripgrep` package installs it, or else on the PATH.

    Relative entries are ignored: in a checkout of foreign code, `./rg` is a foreign program.
    """
    if path is None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return shutil.which("rg", path=os.pathsep.join(filter(os.path.isabs, path.split(os.pathsep))))


def check_arguments(args: str, access: Access) -> tuple[list[str], list[str], list[str]]:
    """Return the options for `rg`, its pattern if it is not among them, and the paths; or raise ToolError.

    The paths are resolved, so that `rg` follows no link to another place.
    """
    try:
        words = shlex.split(args)
    except ValueError as error:
        raise ToolError(f"the arguments cannot be split into words ({error}): quote them as in a shell") from error
    options, positional = split_options(words)
    has_pattern = any(option.startswith("--regexp=") or option in {"--files", "--type-list"} for option in options)
    if not has_pattern and not positional:
        raise ToolError("`args` has no pattern; for example: -n 'def main' /some/directory")
    pattern, paths = ([], positional) if has_pattern else (positional[:1], positional[1:])
    existing = [existing_path(path, access) for path in paths]
    if not existing:
        access.locate(".", is_search=True)
    return options, pattern, existing


def split_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into options, one per word, and positional arguments.

    >>> split_options(["-inC2", "--glob", "*.py", "def", "src"])
    (['-i', '-n', '--context=2', '--glob=*.py'], ['def', 'src'])
    """
    options: list[str] = []
    positional: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            positional += rest
        elif word.startswith("--"):
            options.append(long_option(word, rest))
        elif word.startswith("-") and word != "-":
            options += short_options(word, rest)
        else:
            positional.append(word)
    return options, positional


def long_option(word: str, rest: Iterator[str]) -> str:
    name, has_value, _ = word.removeprefix("--").partition("=")
    if name in LONG_SWITCHES and not has_value:
        return word
    if name in LONG_VALUES:
        return word if has_value else f"{word}={next_value(word, rest)}"
    raise ToolError(f"the option {word} is not allowed here, only options that read and print")


def short_options(word: str, rest: Iterator[str]) -> Iterator[str]:
    for position, letter in enumerate(word[1:], start=2):
        if letter in VALUES:
            value = word[position:].removeprefix("=")
            yield f"--{VALUES[letter]}={value or next_value(f'-{letter}', rest)}"
            return
        if letter not in SWITCHES:
            raise ToolError(f"the option -{letter} is not allowed here, only options that read and print")
        yield f"-{letter}"


def next_value(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise ToolError(f"the option {option} needs a value")
    return value


def existing_path(path: str, access: Access) -> str:
    if path in {"|", "||", "&&", ";", ">", ">>", "<", "&"}:
        raise ToolError(f"there is no shell here: only `rg` is run, and `{path}` has no meaning")
    absolute = access.locate(path, is_search=True)
    if "*" in path and not os.path.lexists(absolute):
        raise ToolError(f"there is no shell here to expand {path}: search the directory with --glob PATTERN")
    with tool_errors(absolute), access.opened(absolute, directory=absolute.is_dir()):
        return os.path.realpath(absolute)


def require_same(paths: Sequence[str]) -> None:
    """Raise ToolError if a resolved path has become a link to another place: `rg` has opened it after the check."""
    if any(os.path.realpath(path) != path for path in paths):
        raise ToolError("a path was replaced while it was searched: repeat this call")


@asynccontextmanager
async def running(command: Sequence[str], *, cwd: Path, errors: int) -> AsyncIterator[Process]:
    """Run a program while the block runs, without stdin and without secrets in its environment; kill it at the end."""
    with tool_errors(cwd):
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=plain_environment(), stdin=DEVNULL, stdout=PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def plain_environment() -> dict[str, str]:
    """Return only the variables that `rg` needs: no PI_API_KEY, HF_TOKEN or OPENAI_API_KEY, no RIPGREP_CONFIG_PATH."""
    return {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "XDG_CONFIG_HOME") if name in os.environ}


async def read_output(process: Process, seconds: float) -> tuple[bytes, str]:
    """Read the output of a program; return it, and a note if it was too long or took more than `seconds`."""
    assert process.stdout
    output = b""
    try:
        async with asyncio.timeout(seconds):
            while piece := await process.stdout.read(65536):
                output += piece
                if len(output) > MAX_BYTES or output.count(b"\n") > MAX_LINES:
                    return output[:MAX_BYTES], "there is more: narrow the pattern, the path or --glob"
            await process.wait()
    except TimeoutError:
        return output, f"stopped after {seconds:.0f} s: narrow the path or --glob"
    return output, ""


def search_result(output: bytes, note: str, status: int | None, error: str) -> str:
    """Return the result of a search; `rg` exits with 0 for matches, 1 for none, 2 for an error."""
    lines = output.decode("utf-8", "replace").splitlines()
    if note:
        return "\n".join([*lines[:MAX_LINES], f"[{note}]"])
    if status not in (0, 1, 2) or (status == 2 and error):
        raise ToolError(error or f"`rg` exited with status {status}")
    return "\n".join(lines) or "no matches"
