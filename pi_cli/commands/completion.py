"""`pi completion`: the script that makes a shell complete pi's commands, options and names."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pi_cli.commands.completion_scripts import SCRIPTS
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import command, fill

ZSH_LINE = "fpath+=~/.zfunc; autoload -Uz compinit; compinit"


def complete_shell(incomplete: str) -> list[str]:
    return [shell for shell in SCRIPTS if shell.startswith(incomplete)]


def completion(
    shell: Annotated[
        str | None,
        typer.Argument(
            metavar="[SHELL]",
            help="bash, zsh, fish or powershell; by default the shell that runs pi.",
            autocompletion=complete_shell,
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write the script where the shell finds it: bash, zsh and fish.")
    ] = False,
) -> None:
    """Print the script for Tab in your shell.

    It completes commands, options, and names with what they stand for. The candidates come from this machine: no pod is
    contacted. With `--install`, a line is added to `~/.bashrc` or `~/.zshrc` if it is not there; nothing else in it is
    changed.

    \b
    Examples:
      eval "$(pi completion bash)"
      pi completion zsh > ~/.zfunc/_pi
      pi completion fish > ~/.config/fish/completions/pi.fish
      pi completion powershell >> $PROFILE
      pi completion --install
    """
    from pi_cli.view import terminal

    name = shell or _shell()
    if name not in SCRIPTS:
        raise BadUsage(
            fill("`pi completion` does not support `{name}`", name=name),
            hint="choose `pi completion bash`, `zsh`, `fish` or `powershell`",
        )
    if not install:
        typer.echo(SCRIPTS[name], nl=False)
        if sys.stdout.isatty():
            terminal.note(fill("install it with `pi completion {name} --install`", name=name))
        return
    for file in _install(name):
        terminal.say(f"wrote {file}")
    terminal.say("completion works in new terminals")


def _shell() -> str:
    """Return the name of the shell that runs pi: that of the parent process if it is one, else that of $SHELL."""
    parent = ""
    with suppress(OSError, subprocess.SubprocessError):
        ps = ["ps", "-o", "comm=", "-p", str(os.getppid())]
        parent = subprocess.run(ps, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    for path in (parent, os.environ.get("SHELL") or ""):
        name = Path(path).name.removeprefix("-")  # a login shell's name begins with it
        if name in SCRIPTS:
            return name
    return Path(os.environ.get("SHELL") or "sh").name


def _install(shell: str) -> list[Path]:
    """Write the script of a shell, and the line that loads it; return the files that were written."""
    home = Path.home()
    start_up: Path | None = None
    match shell:
        case "bash":
            script = home / ".bash_completions" / "pi.sh"
            start_up, line = home / ".bashrc", command("source", str(script))
        case "zsh":
            script = home / ".zfunc" / "_pi"
            start_up, line = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc", ZSH_LINE
        case "fish":
            config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
            script, line = config / "fish" / "completions" / "pi.fish", ""
        case _:
            raise BadUsage(
                "pi does not know where PowerShell's profile is", hint="`pi completion powershell >> $PROFILE`"
            )
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(SCRIPTS[shell], encoding="utf-8")
        return [script, *([start_up] if start_up and _add(line, start_up) else [])]
    except OSError as error:
        raise PiError(
            fill("cannot write `{file}`: {reason}", file=str(error.filename or script), reason=error.strerror or ""),
            hint=fill("write the script to another file: `pi completion {name} > FILE`", name=shell),
        ) from error


def _add(line: str, file: Path) -> bool:
    """Append a line to a file that does not have it; return whether it did not."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    if line in text:
        return False
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
    return True
