"""Make a bare machine ready for vLLM: upload `remote/pod_setup.sh`, run it, and inspect the result."""

import gzip
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Note, Report
from pi_cli.hints import fill
from pi_cli.pods import machine, shell
from pi_cli.pods.machine import Machine
from pi_cli.pods.steps import LineBuffer, Script
from pi_cli.ssh import refusals
from pi_cli.ssh.completed import Completed
from pi_cli.ssh.session import PodSession
from pi_cli.store import mounts, paths


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """The options of a setup; for None, the script on the pod decides."""

    mount: str | None = field(default=None, repr=False)  # it may contain a secret
    models_path: str | None = None
    vllm: str | None = None
    cpu: bool = False
    cuda: str | None = None
    flashinfer: str | None = None
    shell_env: bool = False
    home: str | None = None
    last_home: str | None = None  # that of the last setup, for a machine that does not remember it

    def arguments(self) -> list[str]:
        """Return the arguments of `pi pods setup`, for hints: without a mount command that has a secret."""
        mount = ["--mount", mounts.shown(self.mount)] if self.mount else []
        return mount + replace(self, last_home=None).for_the_script()

    def for_the_script(self) -> list[str]:
        """Return the arguments for the script, without the mount command: every user of the pod can read arguments."""
        values = {
            "--home": self.home,
            "--last-home": self.last_home,
            "--models-path": self.models_path,
            "--vllm": self.vllm,
            "--cuda": self.cuda,
            "--flashinfer": self.flashinfer,
        }
        flags = {"--cpu": self.cpu, "--shell-env": self.shell_env}
        arguments = [word for option, value in values.items() if value for word in (option, value)]
        return arguments + [option for option, is_set in flags.items() if is_set]


async def prepare(
    session: PodSession, options: SetupOptions, *, log: Path, again: Sequence[str], report: Report
) -> Machine:
    """Run the setup script on a pod, report its steps, and return what the pod has afterwards.

    Ctrl+C or a lost connection stops the script and everything it started. Its output is written to `log`; the previous
    log is kept as `.1`. `again` is the `pi pods setup` command that repeats this setup.
    """
    for host, fingerprint in session.learned_on_the_way.items():
        report(Note(session.pod, f"learned the host key of jump host {host}: {fingerprint}"))
    if session.learned:
        report(Note(session.pod, f"learned its host key {session.learned}"))
    script = Script(session.pod)
    await session.require_forwarding(or_runs_nothing=True)
    try:
        with _opened(log) as file:
            done = await _run(session, options, script, file, report)
        if done.status != 0:
            refusal = None if script.has_begun else refusals.hint(script.failure(), session.pod, session.ssh)
            raise PiError(
                f"setup of `{session.pod}` failed: {script.failure() or f'exit code {done.status}'}",
                hint=refusal or _hint(log, again, script.other_home),
            )
        inspected = await machine.inspect(session, report=report)
    except PodUnreachable as error:
        error.with_hint(fill("the setup on the pod stops too; continue it with `{again}`", again=again))
        raise
    if not inspected.gpus and not options.cpu:
        reason = inspected.trouble[0] if inspected.trouble else "nvidia-smi lists none"
        raise PiError(
            f"pod `{session.pod}` has no usable GPU: {reason}",
            hint=fill("restart the machine, then continue with `{again}`; what is installed is kept", again=again),
        )
    for trouble in inspected.trouble if inspected.gpus else ():
        report(Note(session.pod, trouble))
    return inspected


def _hint(log: Path, again: Sequence[str], other_home: str) -> str:
    """Return what to do after a failure; the script may have found another disk for vLLM.

    >>> _hint(Path("/log"), ["pi", "pods", "setup", "dc1", "--home", "/a", "--cpu"], "/b")
    'its output is in /log; use that disk with `pi pods setup dc1 --cpu --home /b`'
    """
    if not other_home:
        return fill("its output is in {log}; fix the cause, then continue with `{again}`", log=str(log), again=again)
    words = list(again)
    if "--home" in words:
        at = words.index("--home")
        del words[at : at + 2]
    return fill(
        "its output is in {log}; use that disk with `{again}`", log=str(log), again=[*words, "--home", other_home]
    )


async def _run(
    session: PodSession, options: SetupOptions, script: Script, log: "_SetupLog", report: Report
) -> Completed:
    """Run the script until it ends or this is cancelled; every step that began is reported as ended."""
    buffer = LineBuffer()

    def receive(lines: Iterable[str]) -> None:
        for line in lines:
            log.write(line)
            if event := script.read(line):
                report(event)

    try:
        command = shell.setup(
            _archive(), options.for_the_script(), mount=options.mount or "", models_path=options.models_path
        )
        done = await session.stream(shell.BASH, lambda chunk: receive(buffer.feed(chunk)), input=command)
        receive(buffer.end())
        receive(done.stderr.decode("utf-8", "replace").splitlines())
        return done
    finally:
        for event in script.end():
            report(event)


def _archive() -> bytes:
    """Return `remote/pod_setup.sh` and the files of `remote/setup/` as a tar.gz, with the same bytes each time."""
    script = paths.asset("remote/pod_setup.sh")
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in [script, *sorted(script.with_name("setup").glob("*.[ps][yh]"))]:
            content = file.read_bytes()
            entry = tarfile.TarInfo(str(file.relative_to(script.parent)))
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tarred.getvalue(), mtime=0)


class _SetupLog:
    """The output of the script, each line with the time of day. On a full disk the setup continues without a log."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._descriptor, f"{datetime.now():%H:%M:%S} {line}\n".encode("utf-8", "replace"))


@contextmanager
def _opened(path: Path) -> Iterator[_SetupLog]:
    """Open a new log that only the user may read, since installers may print private data. Keep the previous one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(f"{path}.1")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = f"cannot write `{path}`: {error.strerror}"
        raise PiError(reason, hint="free some disk, or correct the permissions of the folder") from error
    try:
        yield _SetupLog(descriptor)
    finally:
        os.close(descriptor)
