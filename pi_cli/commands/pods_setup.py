"""`pi pods setup`: a bare machine becomes a pod."""

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pi_cli import hints, units
from pi_cli.commands import options
from pi_cli.commands.options import PodName
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import paths, state
from pi_cli.store.records import Pod, Storage

if TYPE_CHECKING:  # a command line that is refused needs no asyncssh
    from pi_cli.events import Report
    from pi_cli.pods.machine import Machine
    from pi_cli.pods.provision import SetupOptions

HAS_SECRET = re.compile(r"pass(word|wd)?=", re.IGNORECASE)  # such a mount command is not remembered

Ssh = Annotated[
    str | None,
    typer.Argument(
        metavar="[SSH]", help='The ssh command of the machine, quoted: "ssh root@HOST". A known pod has one.'
    ),
]
Mount = Annotated[str | None, typer.Option(metavar="CMD", help="Command that mounts the volume for models.")]
ModelsPath = Annotated[str | None, typer.Option(metavar="DIR", help="Folder on the pod to keep models in.")]
Vllm = Annotated[
    str | None, typer.Option(metavar="SPEC", help="release (default), nightly, a version, or a pip requirement.")
]
Cpu = Annotated[bool, typer.Option("--cpu", help="Install vLLM's CPU build: the machine needs no GPU.")]
Cuda = Annotated[
    Literal["auto", "full", "none"] | None,
    typer.Option(metavar="HOW", help="CUDA toolkit: auto (default: what vLLM compiles with), full, or none."),
]
Flashinfer = Annotated[
    Literal["prebuilt", "source", "none"] | None,
    typer.Option(metavar="HOW", help="FlashInfer's kernels: prebuilt (default), from source, or none."),
]
ShellEnv = Annotated[bool, typer.Option("--shell-env", help="Let login shells on the pod have vLLM's environment too.")]
ConnectTimeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=1, help="Wait so long for a connection, now and ever after.")
]
AcceptNewHostKey = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Trust the key of a machine that was recreated.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show all that the installers print.")]


def setup(
    name: PodName,
    ssh: Ssh = None,
    mount: Mount = None,
    models_path: ModelsPath = None,
    vllm: Vllm = None,
    cpu: Cpu = False,
    cuda: Cuda = None,
    flashinfer: Flashinfer = None,
    shell_env: ShellEnv = False,
    connect_timeout: ConnectTimeout = None,
    accept_new_host_key: AcceptNewHostKey = False,
    verbose: Verbose = False,
) -> None:
    """Make a bare machine ready for vLLM and remember it as a pod. Safe to run again.

    A known name is updated; without an ssh command the pod's own is used, and what mounts its volume is run again.

    HF_TOKEN and PI_API_KEY must be set. Ctrl+C ends the setup on the pod too; running it again goes on from there.

    \b
    Examples:
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods setup dc1 "ssh -p 40022 -i ~/.ssh/key root@1.2.3.4" --models-path /workspace
      pi pods setup dc1 "ssh root@1.2.3.4" --mount "mount -t nfs host:/share /mnt/models" --vllm 0.32.0
      pi pods setup dc1 --vllm nightly
    """
    _check_places(mount, models_path)
    if cpu and (cuda or flashinfer):
        raise BadUsage("`--cpu` goes without CUDA", hint="leave `--cuda` and `--flashinfer` out")
    options.hf_token()
    options.api_key()
    pod = _pod(name, ssh, connect_timeout)
    cpu = cpu or (ssh is None and pod.is_cpu)
    if pod.storage and pod.storage.mount and not (mount or models_path):
        mount, models_path = pod.storage.mount, pod.storage.path
    from pi_cli.pods.provision import SetupOptions

    wanted = SetupOptions(mount, models_path, vllm, cpu, cuda, flashinfer, shell_env)
    found = _prepare(name, pod, wanted, accept_new_host_key=accept_new_host_key, verbose=verbose)
    _remember(name, pod, found, mount=mount, is_cpu=cpu)


def _check_places(mount: str | None, models_path: str | None) -> None:
    if models_path is not None and not models_path.startswith("/"):
        raise BadUsage(f"`--models-path` must be absolute, not `{models_path}`", hint="begin it with `/`")
    if mount is None:
        return
    try:
        words = shlex.split(mount)
    except ValueError as error:
        raise BadUsage(f"`{mount}` is no command: {str(error).lower()}") from error
    if not any(word.startswith("/") and word != "/dev/null" for word in words):
        raise BadUsage(
            f"cannot tell where `{mount}` mounts: it names no absolute path",
            hint="end it with the folder, such as `mount -t nfs HOST:/SHARE /mnt/models`",
        )


def _pod(name: str, ssh: str | None, connect_timeout: float | None) -> Pod:
    """Return the pod as it is known, or a new one, with what was given now; nothing is remembered yet."""
    from pi_cli.ssh import ssh_command
    from pi_cli.view import terminal

    state.check_name("pod", name)
    pod = state.load().pods.get(name)
    if pod is None and ssh is None:
        hint = fill('give its ssh command: `pi pods setup {name} "ssh root@HOST"`', name=name)
        raise BadUsage(f"`{name}` is no pod yet", hint=hint)
    pod = pod or Pod("")
    if ssh is not None:
        for option, reason in ssh_command.parse(ssh).ignored.items():
            terminal.note(f"`{option}` in the ssh command is left out: {reason}")
        pod.ssh = ssh_command.lasting(ssh)
    pod.connect_timeout = connect_timeout or pod.connect_timeout
    return pod


def _prepare(name: str, pod: Pod, wanted: "SetupOptions", *, accept_new_host_key: bool, verbose: bool) -> "Machine":
    import asyncio

    from pi_cli.pods import provision
    from pi_cli.ssh import host_keys, login, ssh_command
    from pi_cli.view import checklist

    again = ["pi", "pods", "setup", name, pod.ssh, *wanted.arguments()]
    known_key = host_keys.read(name)

    async def prepare(report: "Report") -> "Machine":
        async with login.connect(
            name, pod.ssh, learn=True, accept_new=accept_new_host_key, connect_timeout=pod.connect_timeout
        ) as session:
            if known_key and host_keys.read(name) != known_key:
                _forget_models(name, report)
            pod.host = session.host if session.host != ssh_command.parse(pod.ssh).host else None
            log = paths.log_dir() / f"setup-{name}.log"
            return await provision.prepare(session, wanted, log=log, again=again, report=report)

    with checklist.following(name, verbose=verbose) as report:
        return asyncio.run(prepare(report))


def _forget_models(name: str, report: "Report") -> None:
    """Forget what ran on the machine that this one has replaced; other pods' models are none of our business."""
    from pi_cli.events import Note

    with state.edit() as current:
        pod = current.pods.get(name)
        gone = list(pod.models) if pod else []
        if pod:
            pod.models.clear()
    if gone:
        models = ", ".join(f"`{model}`" for model in gone)
        report(Note(name, f"forgot {models}, which ran on the machine that was here before"))


def _remember(name: str, given: Pod, found: "Machine", *, mount: str | None, is_cpu: bool) -> None:
    """Record the pod and say what it has; what others changed meanwhile is kept."""
    from pi_cli.view import terminal

    with state.edit() as current:
        pod = current.pods.setdefault(name, Pod(given.ssh))
        pod.ssh, pod.host, pod.connect_timeout = given.ssh, given.host, given.connect_timeout
        pod.gpus, pod.vllm, pod.provider = [] if is_cpu else found.gpus, found.vllm, found.provider
        pod.storage = None
        if found.storage:
            total = found.storage.total
            own_size = units.size(total).replace(" ", "") if total else None
            pod.storage = Storage(found.storage.path, own_size, None if mount and HAS_SECRET.search(mount) else mount)
        current.active = current.active or name
        is_active = current.active == name
    words = [units.counted(gpu.name for gpu in pod.gpus) or "CPU only", f"vLLM {pod.vllm or 'unknown'}"]
    if found.storage:
        known_size = f" ({units.size(found.storage.total)})" if found.storage.total else ""
        words.append(f"models on {found.storage.path}{known_size}")
    terminal.say(("ready", "green"), f" pod `{name}`: {', '.join(words)}")
    if not is_active:
        terminal.say(fill("make it the active pod with `pi pods active {name}`", name=name))
