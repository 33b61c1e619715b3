"""The options of the commands that run without Typer where their words are plain (`quick`).

Their functions name these in quotes, and import them for type checkers only: Typer takes longer to load than such a
command takes to run. `lazy` looks the names up here when it hands one of the functions to Typer.
"""

from typing import Annotated

import typer

from pi_cli.commands.names import complete_model, complete_pod
from pi_cli.commands.options import AsJson, NamesOnly, OnPod, OnPods, Wide

__all__ = [
    "AllLines",
    "AsJson",
    "AsLines",
    "Check",
    "EveryPod",
    "Follow",
    "Forget",
    "Grep",
    "Lines",
    "NamesOfLogs",
    "NamesOnly",
    "NamesToStop",
    "OnPod",
    "OnPods",
    "Since",
    "StopAll",
    "Tty",
    "Watch",
    "Wide",
    "Words",
]  # fmt: skip

EveryPod = Annotated[bool, typer.Option("--all", "-a", help="List the models of all pods.")]
Check = Annotated[bool, typer.Option(help="Ask the pods; otherwise list what pi has recorded.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep the list up to date until Ctrl+C.")]

NamesToStop = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME…]", help="Names of models, or POD/NAME.", autocompletion=complete_model),
]
StopAll = Annotated[bool, typer.Option("--all", "-a", help="Stop all models on the pods.")]
Forget = Annotated[
    bool,
    typer.Option("--forget", help="Only remove the models from pi's list, stop nothing: for a pod that is gone."),
]

NamesOfLogs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME…]",
        help="Names of models, or POD/NAME; may be left out if there is only one.",
        autocompletion=complete_model,
    ),
]
Lines = Annotated[
    str | None,
    typer.Option(
        "--lines",
        "-n",
        metavar="LINES",
        help="Start with this many last lines, or `all`.  [default: 100; all with --since or --grep]",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start this long ago (10m, 2h, 1d) or at a time on the pod's clock (13:30)."),
]
Grep = Annotated[str | None, typer.Option(metavar="REGEX", help="Show only matching lines; the pod filters them.")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Follow the log as it grows.")]
AllLines = Annotated[
    bool,
    typer.Option("--all-lines", help="Show requests of pi itself (/health, /metrics), too."),
]
AsLines = Annotated[bool, typer.Option("--json", help="Print each line as JSON, with its pod and model.")]

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[POD] [CMD]…", help="Pod, and a command to run on it.", autocompletion=complete_pod),
]
Tty = Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal; `htop` and `watch` need one.")]
