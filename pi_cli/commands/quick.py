"""What is answered before Typer is loaded, in a third less time: the list of pods, and names of models for a shell.

Both are asked for all the time. (`python -c pass` takes 11 ms, importing Typer 50.) Whatever is not the plainest form
of them goes by way of Typer, with the same result.
"""

import os
import sys
from collections.abc import Mapping, Sequence

PODS = [[], ["list"], ["--json"], ["list", "--json"]]
FIRST_A_MODEL = ("stop", "logs", "prompt", "run", "env", "forward", "check")  # commands whose first word is a model
SHELLS = {"complete_bash": "{}", "complete_zsh": '"{}"'}  # how each wants a name


def answer(words: Sequence[str]) -> bool:
    """Do what a command line asks for, if it is one of these; tell whether it was."""
    if "_PI_COMPLETE" in os.environ:
        return _complete(os.environ)
    if words[:1] == ["pods"] and words[1:] in PODS:
        from pi_cli.commands import pods_list

        pods_list.show(check=False, as_json="--json" in words)
        return True
    return False


def _complete(environ: Mapping[str, str]) -> bool:
    """Complete `pi COMMAND NAM…` with names of models, as Typer's bash and zsh would."""
    shell = environ["_PI_COMPLETE"]
    if shell not in SHELLS:
        return False
    line = environ.get("COMP_WORDS" if shell == "complete_bash" else "_TYPER_COMPLETE_ARGS", "")
    words = line.split()
    if shell == "complete_bash":
        if environ.get("COMP_CWORD") != "2":
            return False
    elif line.endswith(" "):
        words.append("")
    begun = words[2] if len(words) == 3 else ""
    if not 2 <= len(words) <= 3 or words[1] not in FIRST_A_MODEL:
        return False
    from pi_cli.commands.names import complete_model

    names = complete_model(begun)
    if not names:
        return False
    shown = "\n".join(SHELLS[shell].format(name) for name in names)
    sys.stdout.write(f"{shown}\n" if shell == "complete_bash" else f"_arguments '*: :(({shown}))'\n")
    return True
