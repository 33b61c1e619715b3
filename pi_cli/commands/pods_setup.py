"""`pi pods setup`: prepare a machine for vLLM and record it as a pod."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pi_cli import hints, interrupts, units
from pi_cli.commands import options, pods_list
from pi_cli.commands.options import PodName
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import costs, mount_commands, mounts, paths, quantities, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:  # no asyncssh until the command line is checked
    from pi_cli.events import Report
    from pi_cli.pods.machine import Machine
    from pi_cli.pods.provision import SetupOptions

Ssh = Annotated[
    str | None,
    typer.Argument(metavar="[SSH]…", help='ssh command of the machine: "ssh root@HOST". Optional for a known pod.'),
]
Mount = Annotated[
    str | None, typer.Option(metavar="CMD", help="Command that mounts a volume for models; `-` reads it from stdin.")
]
ModelsPath = Annotated[str | None, typer.Option(metavar="DIR", help="Folder on the pod for the models.")]
Home = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder on the pod for vLLM and models, on another disk than the home folder; `~` is the home folder.",
    ),
]
Vllm = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="vLLM to install: release (default), nightly, a version, or a pip requirement."),
]
Cpu = Annotated[bool, typer.Option("--cpu", help="Install vLLM's CPU build, for a machine without GPUs.")]
Cuda = Annotated[
    Literal["auto", "full", "none"] | None,
    typer.Option(metavar="HOW", help="CUDA toolkit: auto (default; what vLLM needs to compile), full, or none."),
]
Flashinfer = Annotated[
    Literal["prebuilt", "source", "none"] | None,
    typer.Option(metavar="HOW", help="FlashInfer's kernels: prebuilt (default), source, or none."),
]
ShellEnv = Annotated[bool, typer.Option("--shell-env", help="Set vLLM's environment in the pod's login shells too.")]
ConnectTimeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=1, help="Connection time-out, remembered for this pod.")
]
AcceptNewHostKey = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Trust the new host key of a machine that was recreated.")
]
PricePerHour = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="PRICE",
        help="What the machine costs per hour, for estimates: 2.49 or 2,49€; none forgets it.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the output of the installers.")]


PROGRAMS = ("ssh", "ssh.exe", "sshpass", "mosh", "autossh", "scp", "sftp", "plink", "putty", "gcloud", "tailscale")


def setup(
    name: PodName,
    ssh: Ssh = None,
    mount: Mount = None,
    models_path: ModelsPath = None,
    home: Home = None,
    vllm: Vllm = None,
    cpu: Cpu = False,
    cuda: Cuda = None,
    flashinfer: Flashinfer = None,
    shell_env: ShellEnv = False,
    connect_timeout: ConnectTimeout = None,
    price: PricePerHour = None,
    accept_new_host_key: AcceptNewHostKey = False,
    verbose: Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Prepare a machine for vLLM and record it as a pod. Safe to run again.

    Running it again updates the pod. Without an ssh command it uses the recorded one, and mounts the pod's volume again
    if it has one.

    The ssh command may be in quotes, with pi's options anywhere. Without quotes, what follows NAME is the ssh command,
    with options like -i, -p and -v; pi's own short options then stand before NAME or after `--`.

    Needs a token for the Hugging Face Hub (HF_TOKEN, or that of `hf auth login`) and an API key (PI_API_KEY, or that of
    `pi key new`). Ctrl+C stops the setup on the pod too; run it again to continue.

    With `--price`, `pi pods`, `pi list` and `pi pods remove` show what the pod has cost since its first setup: an
    estimate that pi makes here, from the price and the time.

    \b
    Examples:
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods setup dc1 "ssh -p 40022 -i ~/.ssh/key root@1.2.3.4"
      pi pods setup dc1 ssh -p 40022 root@1.2.3.4
      pi pods setup dc1 "ssh root@1.2.3.4" --models-path /workspace
      pi pods setup dc1 "ssh root@1.2.3.4" --home /ephemeral
      pi pods setup dc1 --mount "mount -t nfs host:/share /mnt/models"
      pi pods setup dc1 --vllm 0.32.0
      pi pods setup dc1 --price 2.49
    """
    if mount == "-":
        mount = sys.stdin.read().replace("\0", "").strip()
    home = _home(home)
    _check_paths(mount, models_path)
    if cpu and (cuda or flashinfer):
        raise BadUsage("`--cpu` excludes `--cuda` and `--flashinfer`", hint="leave them out")
    _check_secrets()
    pod = _pod(name, ssh, connect_timeout)
    if price is not None:
        pod.price = quantities.price(price)
    cpu = cpu or (ssh is None and pod.is_cpu)
    if pod.storage and pod.storage.mount and not (mount or models_path):
        mount, models_path = pod.storage.mount, pod.storage.path
    from pi_cli.pods import recording
    from pi_cli.pods.provision import SetupOptions

    setup_options = SetupOptions(
        mount, models_path, vllm, cpu, cuda, flashinfer, shell_env, home=home, last_home=pod.home
    )
    from pi_cli.view import attention

    since, began = costs.now(), time.monotonic()
    with attention.afterwards("setup", [name]):
        machine = _prepare(
            name, pod, setup_options, price=price, accept_new_host_key=accept_new_host_key, verbose=verbose
        )
        is_kept = not (mount and mounts.has_secret(mount))
        kept_mount = mount if is_kept else None
        recorded = recording.record(
            name, pod, machine, mount=kept_mount, is_cpu=cpu, began=since, is_price_new=price is not None
        )
    _show(name, recorded, machine, is_mount_kept=is_kept, took=time.monotonic() - began, as_json=as_json)


def _check_secrets() -> None:
    from pi_cli.view import terminal

    options.require_secrets()
    if not os.environ.get("HF_TOKEN"):
        terminal.note("HF_TOKEN is not set: downloads on the pod get the token of `hf auth login`")


def _home(folder: str | None) -> str | None:
    """Return the folder of `--home` for the script. An unquoted `~` arrives here as the home folder of this machine."""
    if folder is None:
        return None
    if folder == str(Path.home()):
        return "~"
    if not (folder.startswith(("/", "~/", "$HOME/")) or folder in ("~", "$HOME")) or not folder.isprintable():
        raise BadUsage(f"`--home` must be absolute, not `{folder}`", hint="start it with `/`, or use `~`")
    return folder


def _check_paths(mount: str | None, models_path: str | None) -> None:
    if models_path is not None and not models_path.startswith("/"):
        raise BadUsage(f"`--models-path` must be absolute, not `{models_path}`", hint="start it with `/`")
    if mount is None:
        return
    try:
        mount_commands.read(mount, models_path)
    except mount_commands.Unclear as unclear:
        raise BadUsage(
            f"cannot tell where `{mounts.shown(mount)}` mounts: {unclear}",
            hint="name the folder as well, for example `--models-path /mnt/models`",
        ) from None
    except ValueError as error:
        raise BadUsage(f"`{mounts.shown(mount)}` is not a valid command: {error}") from error


def _pod(name: str, ssh: str | None, connect_timeout: float | None) -> Pod:
    """Return the recorded pod, or a new one, updated with the arguments; record nothing yet."""
    from pi_cli.ssh import ssh_command
    from pi_cli.view import terminal

    _require_name(name, ssh)
    pod = state.load().pods.get(name)
    if pod is None and ssh is None:
        hint = fill('give its ssh command: `pi pods setup {name} "ssh root@HOST"`', name=name)
        near = hints.did_you_mean(hints.nearest(name, state.load().pods))
        raise BadUsage(f"there is no pod `{name}` yet", hint=f"{near} Otherwise {hint}" if near else hint)
    pod = pod or Pod("")
    if ssh is not None:
        with _hints_with_name(name):
            for option, reason in ssh_command.parse(ssh).ignored.items():
                terminal.note(f"ignoring `{option}` in the ssh command: {reason}")
            pod.ssh = ssh_command.lasting(ssh)
    pod.connect_timeout = connect_timeout or pod.connect_timeout
    return pod


def _require_name(name: str, ssh: str | None) -> None:
    """Check the name of the pod; the ssh command may stand in its place."""
    from pi_cli.ssh import passwords

    if name in PROGRAMS and ssh is not None and name not in state.load().pods:
        raise _without_name(passwords.hide(f"{name} {ssh}"))
    if re.search(r"[\s@]", name):
        raise _without_name(passwords.hide(f"{name} {ssh}" if ssh else name))
    state.check_name("pod", name)


def _without_name(ssh: str) -> BadUsage:
    return BadUsage(
        "the name of the pod is missing before its ssh command",
        hint=fill("choose a name: `pi pods setup dc1 {ssh}`", ssh=ssh),
    )


@contextmanager
def _hints_with_name(name: str) -> Iterator[None]:
    """Name the pod in a hint with a corrected ssh command."""
    try:
        yield
    except BadUsage as error:
        if error.hint:
            error.with_hint(error.hint.replace("pi pods setup NAME ", fill("pi pods setup {name} ", name=name)))
        raise


def _prepare(
    name: str,
    pod: Pod,
    setup_options: "SetupOptions",
    *,
    price: str | None,
    accept_new_host_key: bool,
    verbose: bool,
) -> "Machine":
    from pi_cli.hold import client
    from pi_cli.pods import provision, recording
    from pi_cli.ssh import host_keys, login
    from pi_cli.view import checklist

    state.require_writable()
    again = ["pi", "pods", "setup", name, pod.ssh, *setup_options.arguments(), *(["--price", price] if price else [])]
    known_key = host_keys.read(name)
    client.unlink([name])  # an agent that waits there has seen the machine as it was

    async def prepare(report: "Report") -> "Machine":
        async with login.connect(
            name, pod.ssh, learn=True, accept_new=accept_new_host_key, connect_timeout=pod.connect_timeout
        ) as session:
            if known_key and host_keys.read(name) != known_key:
                recording.forget_machine(name, report)
            log = paths.log_dir() / f"setup-{name}.log"
            return await provision.prepare(session, setup_options, log=log, again=again, report=report)

    with checklist.following(name, verbose=verbose) as report:
        return interrupts.run(prepare(report))


def _show(name: str, pod: Pod, machine: "Machine", *, is_mount_kept: bool, took: float, as_json: bool) -> None:
    """Print a summary of a pod that is ready."""
    from pi_cli.view import terminal

    facts = [units.counted(gpu.name for gpu in pod.gpus) or "CPU only", f"vLLM {pod.vllm or 'unknown'}"]
    if machine.storage:
        size_in_brackets = f" ({units.size(machine.storage.total)})" if machine.storage.total else ""
        facts.append(f"models on {machine.storage.path}{size_in_brackets}")
    if not is_mount_kept:
        terminal.note(
            "the mount command seems to contain a secret and is not recorded: after a reboot of the pod, give it "
            "again, or use `-o credentials=FILE` with a file on the pod"
        )
    is_active = state.load().active == name
    if as_json:
        terminal.show_json(pods_list.as_json_row(name, pod, is_active=is_active))
        return
    terminal.say(("ready", "green"), f" pod `{name}`: {', '.join(facts)}")
    terminal.aside(f"took {units.duration(took)}")
    if not is_active:
        terminal.say(fill("make it the active pod with `pi pods active {name}`", name=name))
    terminal.next_step(_next_step(name, pod, is_active=is_active))


def _next_step(name: str, pod: Pod, *, is_active: bool) -> str:
    """Return the line with the command to type next: it starts a model that fits, if one is known without asking."""
    from pi_cli.commands.models import suggested_name
    from pi_cli.planning import first_model, gpu_space
    from pi_cli.vllm import abilities

    there = [] if is_active else ["--pod", name]
    if pod.models:
        return fill("see what runs with `{command}`", command=["pi", "list", *there])
    if pod.is_cpu:
        model: str | None = first_model.ON_CPU
    else:
        vllm = abilities.of(pod.vllm, pod.abilities)
        model = first_model.find(gpu_space.recorded(pod), vllm, pod=name) if pod.gpus else None
    if model is None:
        return fill("see which models fit it with `{command}`", command=["pi", "models", *there])
    command = ["pi", "start", model, "--name", suggested_name(model), *there]
    return fill("start a model with `{command}`", command=command)
