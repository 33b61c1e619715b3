"""Words of other command lines: those that pi takes, and hints for those that it does not.

`ls`, `ps` and `rm` are those of docker and ollama; `use` is kubectl's and docker's `context use`; `serve`, `pull` and
`up` are vLLM's, ollama's and SkyPilot's.
"""

# What pi runs for a word, or for two; neither the help nor completion lists these.
ALIASES = {
    "ls": ("list",),
    "ps": ("list",),
    "rm": ("stop",),
    "use": ("pods", "active"),
    "chat": ("prompt", "--interactive"),
    "--show-completion": ("completion",),  # Typer's options, which earlier versions had
    "--install-completion": ("completion", "--install"),
    "pods ls": ("pods", "list"),
    "pods rm": ("pods", "remove"),
    "pods add": ("pods", "setup"),
    "pods use": ("pods", "active"),
    "pods mv": ("pods", "rename"),
}

START = "start a model with `pi start MODEL --name NAME`"
STOP = "stop a model with `pi stop NAME`; forget a pod with `pi pods remove NAME`"
SETUP = 'prepare a machine with `pi pods setup NAME "ssh root@HOST"`'
PULL = "`pi start MODEL --name NAME` downloads the model on the pod, and starts it; see `pi models`"
STATUS = "see the models with `pi list`, the pods with `pi pods --check`"
KEY = "keep the API key of your models with `pi key new`; a token for the Hub is that of `hf auth login`"
CHAT = "chat with a model with `pi prompt NAME -i`"
PROGRAM = "run a program with a model with `pi run NAME -- COMMAND`"
SHELL = "open a shell on a pod with `pi ssh POD`"

HINTS = {
    "serve": START, "launch": START, "load": START, "deploy": START, "create": START,
    "kill": STOP, "remove": STOP, "delete": STOP, "unload": STOP, "terminate": STOP, "destroy": STOP,
    "setup": SETUP, "add": SETUP, "init": SETUP, "install": SETUP, "provision": SETUP,
    "pull": PULL, "download": PULL,
    "status": STATUS, "info": STATUS, "show": STATUS, "get": STATUS, "describe": STATUS, "inspect": STATUS,
    "ask": CHAT, "repl": CHAT,
    "login": KEY, "auth": KEY, "keys": KEY,
    "exec": SHELL, "shell": SHELL, "bash": SHELL, "connect": SHELL,
    "launch-agent": PROGRAM, "with": PROGRAM,
    "log": "read the log of a model with `pi logs NAME`", "tail": "follow the log of a model with `pi logs NAME`",
    "restart": "start the model again: `pi stop NAME`, then `pi start MODEL --name NAME`",
    "search": "find models with `pi models TEXT`", "fits": "see what fits your GPUs with `pi models`",
    "active": "choose the pod that commands use with `pi pods active NAME`",
    "rename": "rename a pod with `pi pods rename NAME NEW`",
    "proxy": "forward a port to a model with `pi forward NAME`",
    "port-forward": "forward a port to a model with `pi forward NAME`",
    "test": "send a model the requests of agents with `pi check NAME`",
    "completions": "print the script for your shell with `pi completion SHELL`",
    "upgrade": "upgrade pi with the program that installed it, e.g. `uv tool upgrade pi-pods`",
    "update": "upgrade pi with `uv tool upgrade pi-pods`, and the catalogue with `pi models update`",
}  # fmt: skip
POD_HINTS = {
    "create": SETUP, "new": SETUP, "init": SETUP, "start": START, "stop": "stop its models with `pi stop --all`",
    "delete": "forget a pod with `pi pods remove NAME`", "show": "see the pods with `pi pods --check`",
    "status": "see the pods with `pi pods --check`", "check": "see the pods with `pi pods --check`",
    "select": "choose the pod that commands use with `pi pods active NAME`",
    "switch": "choose the pod that commands use with `pi pods active NAME`",
    "ssh": SHELL, "purge": "delete what pi has put on a machine with `pi pods remove NAME --purge`",
}  # fmt: skip


def hint(words: str, name: str) -> str | None:
    """Return what pi has for a word of another command line; `words` are those before it, e.g. `pi pods`."""
    return {"pi": HINTS, "pi pods": POD_HINTS}.get(words, {}).get(name)


def without_aliases(arguments: list[str]) -> list[str]:
    """Replace a word of another command line by pi's own.

    >>> without_aliases(["pods", "rm", "dc1"]), without_aliases(["chat", "q"])
    (['pods', 'remove', 'dc1'], ['prompt', '--interactive', 'q'])
    """
    for count in (2, 1):
        if meant := ALIASES.get(" ".join(arguments[:count])):
            return [*meant, *arguments[count:]]
    return arguments
