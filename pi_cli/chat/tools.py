"""The four tools that a model may use on this machine. All of them only read, and always return."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from pi_cli.chat import files, ripgrep
from pi_cli.chat.access import Access, NotOpen
from pi_cli.chat.events import ToolCall, ToolResult
from pi_cli.chat.schema import Tool, ToolError, parameters, read_arguments

DESCRIPTIONS = {
    "ls": "List a directory: one name per line, a slash after directories, an arrow and the target after symlinks.",
    "read": f"Read a text file, at most {files.MAX_LINES} lines at once; the last line says how to get the next ones.",
    "glob": "Find files by name. `**` matches any number of directories, `{a,b}` either one; "
    f"{', '.join(sorted(files.SKIPPED))} are skipped unless the pattern names them.",
    "rg": "Search file contents with ripgrep. Hidden files and files ignored by .gitignore are skipped unless `-uu` "
    "is given.",
}

PATH_NOTE = "an absolute path (a relative one starts from the working directory)"

PARAMETERS = {
    "ls": parameters(
        ["path"],
        path={"type": "string", "description": f"The directory to list, {PATH_NOTE}."},
        ignore={"type": "array", "items": {"type": "string"}, "description": "Glob patterns of names to leave out."},
    ),
    "read": parameters(
        ["file_path"],
        file_path={"type": "string", "description": f"The file to read, {PATH_NOTE}."},
        offset={"type": "integer", "description": "The line to start from; the first is 1, which is the default."},
        limit={"type": "integer", "description": f"How many lines to return, {files.MAX_LINES} by default."},
    ),
    "glob": parameters(
        ["pattern"],
        pattern={"type": "string", "description": "For example **/*.py or /srv/data/*.{json,yaml}."},
        path={"type": "string", "description": f"Where to start (default: the working directory), {PATH_NOTE}."},
    ),
    "rg": parameters(
        ["args"],
        args={
            "type": "string",
            "description": "The arguments of `rg`, with absolute paths, quoted as in a shell: "
            "-i -g '*.py' 'def \\w+' /srv/app. There is no shell: no pipes, no redirection, no `*` in paths.",
        },
    ),
}

Toolbox = Mapping[str, Tool]


def toolbox(cwd: Path, access: Access | None = None) -> Toolbox:
    """Return the tools by name, with `cwd` as their working directory. Without `access`, only `cwd` is open."""
    access = access or Access(cwd)
    functions: dict[str, Callable[..., Awaitable[str]]] = {
        "ls": partial(in_thread, files.ls, cwd=cwd, access=access),
        "read": partial(in_thread, files.read, cwd=cwd, access=access),
        "glob": partial(in_thread, files.glob, cwd=cwd, access=access),
        "rg": partial(ripgrep.rg, cwd=cwd, access=access),
    }
    return {
        name: Tool(name, DESCRIPTIONS[name], PARAMETERS[name], partial(permitted, access, run))
        for name, run in functions.items()
    }


async def permitted(access: Access, run: Callable[..., Awaitable[str]], **arguments: Any) -> str:
    """Run a tool; if it needs a folder that is not open, ask the user and run it again."""
    while True:
        try:
            return await run(**arguments)
        except NotOpen as refusal:
            await access.permit(refusal)


async def in_thread(function: Callable[..., str], **arguments: Any) -> str:
    """Run a blocking function in a thread; set its `stop` event when the caller is cancelled."""
    stop = Event()
    try:
        return await asyncio.to_thread(function, **arguments, stop=stop)
    finally:
        stop.set()


async def use(tools: Toolbox, call: ToolCall) -> ToolResult:
    """Run one tool call. If the call is invalid, the result says why."""
    try:
        if call.name not in tools:
            raise ToolError(f"there is no tool `{call.name}`; there are {', '.join(tools)}")
        tool = tools[call.name]
        output = await tool.run(**read_arguments(tool, call.arguments))
    except ToolError as error:
        return ToolResult(call.id, call.name, f"error: {error}", failed=True)
    return ToolResult(call.id, call.name, output, failed=False)
