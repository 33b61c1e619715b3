"""`pi pods …` and `pi ssh`: the machines."""

import asyncio
import os
import shlex
import sys
from typing import Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPod, complete_pod
from pi_cli.errors import PiError
from pi_cli.store import paths, state
from pi_cli.store.records import Pod, write_pod

app = typer.Typer(rich_markup_mode=None)
PodName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pod.", autocompletion=complete_pod)]


@app.callback(invoke_without_command=True)
def pods(context: typer.Context, as_json: AsJson = False) -> None:
    """Set up, list, choose and forget pods.

    Without a command: the list of pods, from local state.

    \b
    Examples:
      pi pods
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods active dc1
    """
    if context.invoked_subcommand is None:
        _show_pods(as_json=as_json)


@app.command("list")
def list_pods(context: typer.Context, as_json: AsJson = False) -> None:
    """List the pods from local state; `*` marks the active one.

    \b
    Examples:
      pi pods list
      pi pods list --json
    """
    given_before = context.parent is not None and bool(context.parent.params.get("as_json"))
    _show_pods(as_json=as_json or given_before)


def _show_pods(*, as_json: bool) -> None:
    from pi_cli.view import tables, terminal

    current = state.load()
    if as_json:
        terminal.show_json(
            [{"name": name, "active": name == current.active} | write_pod(pod) for name, pod in current.pods.items()]
        )
    elif not current.pods:
        terminal.note('there are no pods yet; set one up with `pi pods setup NAME "ssh root@HOST"`')
    else:
        tables.show_pods(current.pods, current.active)


@app.command()
def setup(
    name: PodName,
    ssh: Annotated[str, typer.Argument(metavar="SSH", help='The ssh command of the machine, quoted: "ssh root@HOST".')],
    mount: Annotated[str | None, typer.Option(metavar="CMD", help="Command that mounts the volume for models.")] = None,
    models_path: Annotated[str | None, typer.Option(metavar="DIR", help="Folder on the pod to keep models in.")] = None,
    vllm: Annotated[
        str | None, typer.Option(metavar="SPEC", help="release (default), nightly, a version, or a pip requirement.")
    ] = None,
    accept_new_host_key: Annotated[bool, typer.Option(help="Trust the key of a machine that was recreated.")] = False,
) -> None:
    """Make a bare machine ready for vLLM and remember it as a pod. Safe to run again.

    HF_TOKEN and PI_API_KEY must be set. Ctrl+C ends the setup on the pod too; running it again goes on from there.

    \b
    Examples:
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods setup dc1 "ssh -p 40022 -i ~/.ssh/key root@1.2.3.4" --models-path /workspace
      pi pods setup dc1 "ssh root@1.2.3.4" --mount "mount -t nfs host:/share /mnt/models" --vllm 0.32.0
    """
    from pi_cli.pods import ssh_command

    state.check_name("pod", name)
    options.hf_token()
    options.api_key()
    command = ssh_command.parse(ssh)
    from pi_cli.pods import provision
    from pi_cli.pods import ssh as connections
    from pi_cli.view import progress, terminal

    for option in command.ignored:
        terminal.note(f"`{option}` in the ssh command means nothing to pi and is left out")
    given = provision.arguments(mount=mount, models_path=models_path, vllm=vllm)

    async def prepare() -> provision.Prepared:
        with progress.transcript() as report:
            async with connections.connect(name, ssh, learn=True, accept_new=accept_new_host_key) as session:
                log = paths.log_dir() / f"setup-{name}.log"
                return await provision.prepare(session, arguments=given, log=log, report=report)

    prepared = asyncio.run(prepare())
    with state.edit() as current:
        pod = current.pods.setdefault(name, Pod(ssh))
        pod.ssh, pod.gpus, pod.vllm = ssh, prepared.gpus, prepared.vllm
        current.active = current.active or name
        is_active = current.active == name
    gpus = f"{len(prepared.gpus)}x {prepared.gpus[0].name}"
    terminal.say(("ready", "green"), f" pod `{name}`: {gpus}, vLLM {prepared.vllm or 'unknown'}")
    if not is_active:
        terminal.say(f"make it the active pod with `pi pods active {name}`")


@app.command()
def active(name: PodName) -> None:
    """Make a pod the one that commands act on.

    \b
    Examples:
      pi pods active dc2
    """
    from pi_cli.view import terminal

    with state.edit() as current:
        current.pod(name)
        current.active = name
    terminal.say(f"`{name}` is the active pod")


@app.command()
def remove(
    name: PodName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even if models run there.")] = False,
) -> None:
    """Forget a pod. The machine itself is not touched: end it at its provider.

    \b
    Examples:
      pi pods remove dc1
      pi pods remove dc1 --yes
    """
    from pi_cli.pods import host_keys
    from pi_cli.view import terminal

    models = list(state.load().pod(name).models)
    if models and not yes:
        terminal.note(
            f"{', '.join(models)} may still run on `{name}`; end them first with `pi stop --all --pod {name}`"
        )
        if not sys.stdin.isatty():
            raise PiError(f"`{name}` was kept: nobody is there to ask", hint="give `--yes` to forget it all the same")
        if not typer.confirm(f"Forget `{name}` all the same?", err=True):
            raise PiError(f"`{name}` was kept")
    with state.edit() as current:
        current.pod(name)
        del current.pods[name]
        if current.active == name:
            current.active = next(iter(current.pods), None)
        now_active = current.active
    host_keys.forget(name)
    terminal.say(f"forgot `{name}`; the machine still runs and is billed until you end it at its provider")
    if now_active:
        terminal.say(f"the active pod is `{now_active}`")


def shell(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POD] [CMD]…", help="Pod, and a command to run there.", autocompletion=complete_pod),
    ] = None,
    pod: OnPod = None,
) -> None:
    """Open a shell on a pod, or run a command there.

    Your own ssh does it, with the pod's host key as pi knows it; its exit code is passed on.

    \b
    Examples:
      pi ssh
      pi ssh nvidia-smi
      pi ssh dc2 df -h
    """
    current = state.load()
    command = list(words or [])
    if pod is None and command and command[0] in current.pods:
        pod = command.pop(0)
    [(name, chosen)] = current.select([pod] if pod else []).items()
    given = shlex.split(chosen.ssh)
    ssh = given[1:] if given[0].rpartition("/")[2] == "ssh" else given
    # ssh joins its words with blanks for the remote shell: one word is taken as a command line, several as they are.
    remote = command if len(command) == 1 else [shlex.join(command)] if command else []
    try:
        os.execvp("ssh", ["ssh", *_known_host(name), *ssh, *remote])  # noqa: S606
    except OSError as error:
        raise PiError(
            f"cannot run ssh for pod `{name}`: {error.strerror}", hint="install the OpenSSH client"
        ) from error


def _known_host(name: str) -> list[str]:
    """Return the options with which ssh trusts the key that setup learned, kept under the pod's name."""
    from pi_cli.pods import host_keys

    if host_keys.read(name) is None:
        return []
    return ["-o", f"HostKeyAlias={name}", "-o", f'UserKnownHostsFile="{paths.known_hosts_file()}" ~/.ssh/known_hosts']
