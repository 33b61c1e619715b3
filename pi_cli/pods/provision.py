"""Make a bare machine vLLM-ready: upload `remote/pod_setup.sh`, run it, and read what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi_cli.errors import PiError
from pi_cli.events import Note, Output, Report
from pi_cli.pods import agent, nvidia, shell
from pi_cli.pods.ssh import PodSession
from pi_cli.store import paths
from pi_cli.store.records import Gpu


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a pod has after setup."""

    gpus: list[Gpu]
    vllm: str | None


async def prepare(session: PodSession, *, arguments: Sequence[str], log: Path, report: Report) -> Prepared:
    """Run the setup script on a pod with its output live, and read its GPUs and vLLM version.

    Leaving early (Ctrl+C, a lost link) ends the script and everything it started. What it prints is kept in `log`.
    """
    if session.learned:
        report(Note(session.pod, f"learned its host key {session.learned}"))
    script = paths.asset("remote/pod_setup.sh").read_text(encoding="utf-8")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch(mode=0o600)  # noqa: ASYNC240 - as quick as the lines around it; installers' words are nobody else's
    with log.open("wb") as file:

        def pass_on(chunk: bytes) -> None:
            file.write(chunk)
            report(Output(session.pod, chunk.decode("utf-8", "replace")))

        done = await session.stream(shell.BASH, pass_on, input=shell.setup(script, arguments).encode())
        file.write(done.stderr)
    if done.status != 0:
        reason = _last_error(log) or _last_line(done.stderr) or f"exit code {done.status}"
        raise PiError(
            f"setup of `{session.pod}` failed: {reason}",
            hint=f"everything it said is in {log}; when that is mended, run the same command again",
        )
    return Prepared(await read_gpus(session), await _vllm_version(session))


async def read_gpus(session: PodSession) -> list[Gpu]:
    told = await session.run(shell.query(nvidia.QUERY))
    gpus = nvidia.parse_gpus(told.stdout.decode("utf-8", "replace"))
    if told.status != 0 or not gpus:
        raise PiError(f"pod `{session.pod}` has no usable GPU: nvidia-smi lists none")
    return gpus


def arguments(*, mount: str | None, models_path: str | None, vllm: str | None) -> list[str]:
    """Return the setup script's arguments."""
    given = {"--mount": mount, "--models-path": models_path, "--vllm": vllm}
    return [word for option, value in given.items() if value for word in (option, value)]


async def _vllm_version(session: PodSession) -> str | None:
    told = await agent.ask(session, "survey", known=[])
    version: str | None = told["vllm"]
    return version


def _last_line(said: bytes) -> str:
    """Return the last line on stderr: of a login shell that runs nothing it is all there is."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _last_error(log: Path) -> str | None:
    """Return the script's own last word about what failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ").strip() for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else None
