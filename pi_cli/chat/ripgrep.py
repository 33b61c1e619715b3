"""`rg` for a model: the real ripgrep, without a shell, with only the options that read and print."""

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

from pi_cli.chat.files import MAX_CHARACTERS, MAX_LINES
from pi_cli.chat.paths import explained, locate
from pi_cli.chat.schema import ToolError

MAX_SECONDS = 20.0
MAX_BYTES = MAX_CHARACTERS
MAX_COLUMNS = 1000

# Every option a model may use; whatever is in neither table does not reach `rg`. Left out on purpose: `--pre`,
# `--hostname-bin` and `-z` run other programs, `-f` and `--ignore-file` read files we have not looked at, `-L` and
# `--no-one-file-system` lead into /proc, where the environments (and so the secrets) of other processes are.
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


async def rg(args: str, *, cwd: Path, path: str | None = None, seconds: float = MAX_SECONDS) -> str:
    """Search with ripgrep; `args` is what stands behind `rg` on a command line, and no shell sees it.

    `path` is where programs are looked for, PATH when it is None.
    """
    program = find_program(path)
    if program is None:
        raise ToolError(NOT_INSTALLED)
    arguments = checked(args, cwd)
    with tempfile.TemporaryFile() as complaints:
        command = [program, "--no-config", "--no-messages", "--line-number", "--no-heading"]
        command += [f"--max-columns={MAX_COLUMNS}", "--max-columns-preview", *arguments]
        async with running(command, cwd=cwd, errors=complaints.fileno()) as process:
            output, note = await collected(process, seconds)
        complaints.seek(0)
        return told(output, note, process.returncode, complaints.read(2000).decode("utf-8", "replace").strip())


def find_program(path: str | None = None) -> str | None:
    """Find `rg` beside our own Python, where the `ripgrep` package puts it, or else on the PATH.

    Relative entries are left out: in a checkout of somebody else's, `./rg` is somebody else's program.
    """
    if path is None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return shutil.which("rg", path=os.pathsep.join(filter(os.path.isabs, path.split(os.pathsep))))


def checked(args: str, cwd: Path) -> list[str]:
    """Return the arguments for `rg`, or raise ToolError for what it must not be asked."""
    try:
        words = shlex.split(args)
    except ValueError as error:
        raise ToolError(f"the arguments cannot be split into words ({error}): quote them as in a shell") from error
    options, rest = sort_out(words)
    has_pattern = any(option.startswith("--regexp=") or option in {"--files", "--type-list"} for option in options)
    if not has_pattern and not rest:
        raise ToolError("`args` has no pattern; for example: -n 'def main' /some/directory")
    pattern, paths = ([], rest) if has_pattern else (rest[:1], rest[1:])
    places = [str(existing(path, cwd)) for path in paths]
    locate(".", cwd)
    return [*options, "--color=never", "--one-file-system", "--", *pattern, *places]


def sort_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide words into options, written out one by one, and the rest.

    >>> sort_out(["-inC2", "--glob", "*.py", "def", "src"])
    (['-i', '-n', '--context=2', '--glob=*.py'], ['def', 'src'])
    """
    options: list[str] = []
    rest: list[str] = []
    ahead = iter(words)
    for word in ahead:
        if word == "--":
            rest += ahead
        elif word.startswith("--"):
            options.append(long_option(word, ahead))
        elif word.startswith("-") and word != "-":
            options += short_options(word, ahead)
        else:
            rest.append(word)
    return options, rest


def long_option(word: str, ahead: Iterator[str]) -> str:
    name, has_value, _ = word.removeprefix("--").partition("=")
    if name in LONG_SWITCHES and not has_value:
        return word
    if name in LONG_VALUES:
        return word if has_value else f"{word}={value_of(word, ahead)}"
    raise ToolError(f"the option {word} is not available here: only those that read and print are")


def short_options(word: str, ahead: Iterator[str]) -> Iterator[str]:
    for position, letter in enumerate(word[1:], start=2):
        if letter in VALUES:
            value = word[position:].removeprefix("=")
            yield f"--{VALUES[letter]}={value or value_of(f'-{letter}', ahead)}"
            return
        if letter not in SWITCHES:
            raise ToolError(f"the option -{letter} is not available here: only those that read and print are")
        yield f"-{letter}"


def value_of(option: str, ahead: Iterator[str]) -> str:
    value = next(ahead, None)
    if value is None:
        raise ToolError(f"the option {option} needs a value")
    return value


def existing(path: str, cwd: Path) -> Path:
    if path in {"|", "||", "&&", ";", ">", ">>", "<", "&"}:
        raise ToolError(f"there is no shell here: `{path}` means nothing, only `rg` runs")
    place = locate(path, cwd)
    if "*" in path and not os.path.lexists(place):
        raise ToolError(f"there is no shell here to expand {path}: search the directory with --glob PATTERN")
    with explained(place):
        place.stat()
    return place


@asynccontextmanager
async def running(command: Sequence[str], *, cwd: Path, errors: int) -> AsyncIterator[Process]:
    """Run a program with nothing to read and no secret in its environment, and never leave it behind."""
    with explained(cwd):
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
    """Return only what `rg` needs: no PI_API_KEY, HF_TOKEN or OPENAI_API_KEY, and no RIPGREP_CONFIG_PATH."""
    return {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "XDG_CONFIG_HOME") if name in os.environ}


async def collected(process: Process, seconds: float) -> tuple[bytes, str]:
    """Read what a program prints until it ends, or has printed enough, or took too long; and say which."""
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


def told(output: bytes, note: str, status: int | None, complaint: str) -> str:
    """Put into words how a search ended; `rg` says 0 for matches, 1 for none, 2 for an error."""
    lines = output.decode("utf-8", "replace").splitlines()
    if note:
        return "\n".join([*lines[:MAX_LINES], f"[{note}]"])
    if status not in (0, 1, 2) or (status == 2 and complaint):
        raise ToolError(complaint or f"`rg` ended with status {status}")
    return "\n".join(lines) or "no matches"
