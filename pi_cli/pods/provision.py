"""Make a bare machine vLLM-ready: upload `remote/pod_setup.sh`, run it, and read what came of it."""

import gzip
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Note, Report
from pi_cli.pods import machine, shell
from pi_cli.pods.machine import Machine
from pi_cli.pods.steps import Lines, Script
from pi_cli.ssh.session import Completed, PodSession
from pi_cli.store import paths


@dataclass(frozen=True, slots=True)
class Wanted:
    """What setup is asked for; None leaves it to the script on the pod."""

    mount: str | None = None
    models_path: str | None = None
    vllm: str | None = None
    cpu: bool = False
    cuda: str | None = None
    flashinfer: str | None = None
    shell_env: bool = False

    def arguments(self) -> list[str]:
        """Return the script's arguments, which are also those of `pi pods setup`."""
        values = {
            "--mount": self.mount,
            "--models-path": self.models_path,
            "--vllm": self.vllm,
            "--cuda": self.cuda,
            "--flashinfer": self.flashinfer,
        }
        flags = {"--cpu": self.cpu, "--shell-env": self.shell_env}
        given = [word for option, value in values.items() if value for word in (option, value)]
        return given + [option for option, is_wanted in flags.items() if is_wanted]


async def prepare(session: PodSession, wanted: Wanted, *, log: Path, again: str, report: Report) -> Machine:
    """Run the setup script on a pod, reporting its steps, and return what the pod has then.

    Leaving early (Ctrl+C, a lost link) ends the script and everything it started. What it prints is kept in `log`, and
    the log before as `.1`. `again` is the command that would do all this again.
    """
    for host, fingerprint in session.learned_on_the_way.items():
        report(Note(session.pod, f"learned the host key of jump host {host}: {fingerprint}"))
    if session.learned:
        report(Note(session.pod, f"learned its host key {session.learned}"))
    script = Script(session.pod)
    try:
        with _opened(log) as file:
            done = await _run(session, wanted, script, file, report)
        if done.status != 0:
            raise PiError(
                f"setup of `{session.pod}` failed: {script.last_words() or f'exit code {done.status}'}",
                hint=f"what it said is in {log}; when that is mended, go on from there with `{again}`",
            )
        found = await machine.inspect(session)
    except PodUnreachable as error:
        error.hint = f"what was under way on the pod ends too; go on from there with `{again}`"
        raise
    if not found.gpus and not wanted.cpu:
        reason = found.trouble[0] if found.trouble else "nvidia-smi lists none"
        raise PiError(f"pod `{session.pod}` has no usable GPU: {reason}")
    for trouble in found.trouble if found.gpus else ():
        report(Note(session.pod, trouble))
    return found


async def _run(session: PodSession, wanted: Wanted, script: Script, log: "_Log", report: Report) -> Completed:
    """Run the script to its end, or ours; every step that was begun is reported as ended."""
    lines = Lines()

    def hear(said: Iterable[str]) -> None:
        for line in said:
            log.write(line)
            if event := script.read(line):
                report(event)

    try:
        command = shell.setup(_archive(), wanted.arguments())
        done = await session.stream(shell.BASH, lambda chunk: hear(lines.feed(chunk)), input=command)
        hear(lines.end())
        hear(done.stderr.decode("utf-8", "replace").splitlines())
        return done
    finally:
        for event in script.end():
            report(event)


def _archive() -> bytes:
    """Return `remote/pod_setup.sh` and `remote/setup/` as a tar.gz, the same bytes whenever it is made."""
    script = paths.asset("remote/pod_setup.sh")
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in [script, *sorted(script.with_name("setup").glob("*.sh"))]:
            content = file.read_bytes()
            entry = tarfile.TarInfo(str(file.relative_to(script.parent)))
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tarred.getvalue(), mtime=0)


class _Log:
    """What the script said, with the time of day of every line. A full disk costs the log, and not the setup."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._descriptor, f"{datetime.now():%H:%M:%S} {line}\n".encode("utf-8", "replace"))


@contextmanager
def _opened(path: Path) -> Iterator[_Log]:
    """Open a new log that only we may read: installers' words are nobody else's. The previous one is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(f"{path}.1")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = f"cannot write `{path}`: {error.strerror}"
        raise PiError(reason, hint="free some disk, or correct the permissions of the folder") from error
    try:
        yield _Log(descriptor)
    finally:
        os.close(descriptor)
