"""The four tools a model may use on this machine. All of them only read, and all of them always end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from pi_cli.chat import files, ripgrep
from pi_cli.chat.events import ToolCall, ToolResult
from pi_cli.chat.schema import Tool, ToolError, parameters, read_arguments

DOES = {
    "ls": "List a directory: one name a line, a slash after directories, an arrow after symlinks.",
    "read": f"Show a text file. At most {files.MAX_LINES} lines come at once; the last line says how to read on.",
    "glob": "Find files by name. `**` stands for any number of directories, `{a,b}` for either one; "
    f"{', '.join(sorted(files.SKIPPED))} are left out unless the pattern names them.",
    "rg": "Search the contents of files with ripgrep. What .gitignore names and hidden files are left out unless `-uu` "
    "is given.",
}

WHERE = "an absolute path (a relative one is taken from the working directory)"

TAKES = {
    "ls": parameters(
        ["path"],
        path={"type": "string", "description": f"The directory to list, {WHERE}."},
        ignore={"type": "array", "items": {"type": "string"}, "description": "Glob patterns of names to leave out."},
    ),
    "read": parameters(
        ["file_path"],
        file_path={"type": "string", "description": f"The file to read, {WHERE}."},
        offset={"type": "integer", "description": "The line to start from; the first is 1, which is the default."},
        limit={"type": "integer", "description": f"How many lines to show, {files.MAX_LINES} by default."},
    ),
    "glob": parameters(
        ["pattern"],
        pattern={"type": "string", "description": "For example **/*.py or /srv/data/*.{json,yaml}."},
        path={"type": "string", "description": f"Where to start, by default the working directory, {WHERE}."},
    ),
    "rg": parameters(
        ["args"],
        args={
            "type": "string",
            "description": "What follows `rg` on a command line, with absolute paths, quoted as in a shell: "
            "-i -g '*.py' 'def \\w+' /srv/app. No shell reads it: no pipes, no redirection, no `*` in paths.",
        },
    ),
}

Toolbox = Mapping[str, Tool]


def toolbox(cwd: Path) -> Toolbox:
    """Return the tools by name, for a model that works in `cwd`."""
    work: dict[str, Callable[..., Awaitable[str]]] = {
        "ls": partial(in_thread, files.ls, cwd=cwd),
        "read": partial(in_thread, files.read, cwd=cwd),
        "glob": partial(in_thread, files.glob, cwd=cwd),
        "rg": partial(ripgrep.rg, cwd=cwd),
    }
    return {name: Tool(name, DOES[name], TAKES[name], run) for name, run in work.items()}


async def in_thread(work: Callable[..., str], **arguments: Any) -> str:
    """Do blocking file work in a thread, and tell it to stop if nobody waits for it any more."""
    stop = Event()
    try:
        return await asyncio.to_thread(work, **arguments, stop=stop)
    finally:
        stop.set()


async def use(tools: Toolbox, call: ToolCall) -> ToolResult:
    """Do what the model asked for. What is wrong with its call goes back to it as the result."""
    try:
        if call.name not in tools:
            raise ToolError(f"there is no tool `{call.name}`; there are {', '.join(tools)}")
        tool = tools[call.name]
        output = await tool.run(**read_arguments(tool, call.arguments))
    except ToolError as error:
        return ToolResult(call.id, call.name, f"error: {error}", failed=True)
    return ToolResult(call.id, call.name, output, failed=False)
