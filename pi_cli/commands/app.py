"""The table of commands, and the options of `pi` itself."""

from typing import Annotated, Any, ClassVar

import typer

from pi_cli import __version__
from pi_cli.commands.lazy import Command, LazyGroup

OPTIONS_FIRST = {"context_settings": {"allow_interspersed_args": False}}  # the words behind belong to another command


class Commands(LazyGroup):
    """The commands, in the order of the help."""

    table: ClassVar = {
        "start": Command("start.start", "Start a model and wait until it answers."),
        "list": Command("list.list_models", "List models and their current status."),
        "top": Command("top.top", "Show the load of all pods and models on one screen."),
        "models": Command("models.models", "Show which models of the catalogue fit your GPUs, and how."),
        "models update": Command("models_update.update", "Take newer vLLM recipes into the catalogue."),
        "lease": Command("lease.lease", "Stop a model by itself after some time without work."),
        "stop": Command("stop.stop", "Stop models and free their GPUs."),
        "logs": Command("logs.logs", "Show and follow the log of vLLM."),
        "why": Command("why.why", "Say why a model failed, from its log."),
        "prompt": Command("prompt.prompt", "Ask a model; it can read files on this machine."),
        "run": Command("run.run", "Run a command that uses a model.", OPTIONS_FIRST),
        "env": Command("env.env", "Print shell commands that point OpenAI clients to a model."),
        "forward": Command("forward.forward", "Forward a local port to a model, for other programs."),
        "gateway": Command("gateway.gateway", "Serve the models of several pods at one URL."),
        "gateway status": Command("gateway_status.status", "Show what a gateway does: its models and their replicas."),
        "check": Command("check.check", "Check whether a model is fit for agents."),
        "bench": Command("bench.bench", "Measure how fast a model answers one request, and many."),
        "up": Command("up.up", "Set up the pods and start the models of a fleet file."),
        "down": Command("down.down", "Stop the models of a fleet file, and no others."),
        "export": Command("export.export", "Write a fleet file from pi's list and what runs."),
        "diff": Command("diff.diff", "Compare a fleet file, its lock and what runs."),
        "ssh": Command("ssh.ssh", "Open a shell on a pod, or run a command on it.", OPTIONS_FIRST),
        "demo": Command("demo.demo", "Run a tour of pi on a simulated pod."),
        "pods": Command("pods.app", "Set up, list, check, activate, rename and remove pods."),
        "key": Command("key.app", "Make, show and keep the API key of your models."),
        "help": Command("help.help_", "Show the help of a command, or a page of the documentation."),
        "doctor": Command("doctor.doctor", "Check this machine and all pods, and change nothing."),
        "completion": Command("completion.completion", "Print the script for Tab in your shell."),
        "version": Command("version.version", "Print the versions of pi, Python and SSH, and where pi is."),
    }
    headings: ClassVar = {  # of the help; a command that is missing here is under "Other commands"
        "Set up": ("key", "pods", "doctor", "demo"),
        "Models": ("models", "models update", "start", "list", "top", "logs", "why", "lease", "stop"),
        "Many pods": ("up", "down", "export", "diff"),
        "Use a model": ("prompt", "run", "env", "forward", "gateway", "gateway status", "check", "bench"),
    }

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from pi_cli.store.pages import PAGES

        self.epilog = f"Pages, with `pi help PAGE`: {', '.join(PAGES)}."
        super().format_epilog(ctx, formatter)


app = typer.Typer(
    cls=Commands,
    help="Turn a rented GPU machine into a private, OpenAI-compatible vLLM endpoint.",
    invoke_without_command=True,
    add_completion=False,  # `pi completion`
    rich_markup_mode=None,  # help drawn by rich takes twice as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"pi {__version__}")
        raise typer.Exit


@app.callback()
def pi(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Write what pi does (logins, requests to pods without secrets, times) to stderr and "
            "~/.pi/logs/last.log; same as PI_DEBUG=1.",
        ),
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours; same as NO_COLOR=1.")] = False,
) -> None:
    """Turn a rented GPU machine into a private, OpenAI-compatible vLLM endpoint."""
    del version, debug, no_color  # `main` handles those that come before the command
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
