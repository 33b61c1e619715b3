"""`pi doctor`: check this machine and the pods, in a form that can be pasted into a report."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import options
from pi_cli.commands.options import AsJson
from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.store import keys, paths, state

if TYPE_CHECKING:
    from pi_cli.commands.redaction import Redaction
    from pi_cli.models.pod_health import PodHealth
    from pi_cli.store.state import State

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
NAME_WIDTH = 14  # columns
POD = "pod "


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; `passed` is None for a fact that is neither good nor bad."""

    check: str
    passed: bool | None
    text: str
    hint: str | None = None


def doctor(
    redact: Annotated[
        bool, typer.Option(help="Hide host names, addresses, users and the home folder, for a public report.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check this machine and all pods, and change nothing.

    Shows the versions, the SSH keys (types only), where the API key and the Hub's token are (not what they are), and
    whether each pod can be reached: with one login each, all at once. The output is made to be pasted into a report.

    The exit code is 0 if all is well, and 1 if a check has failed (✗).

    \b
    Examples:
      pi doctor
      pi doctor --json
      pi doctor --no-redact
    """

    from pi_cli.commands.redaction import Redaction
    from pi_cli.view import terminal

    current, of_state = _state()
    findings = [*_machine(), *interrupts.run(_ssh_keys()), *_folder(), of_state, *_secrets()]
    pods = _pods(current) if current.pods else []
    findings += [_of_pod(pod) for pod in pods]
    redaction = Redaction(current.pods) if redact else None
    findings = [_redacted(finding, redaction) for finding in findings]
    is_well = all(finding.passed is not False for finding in findings)
    if as_json:
        rows = [{"check": each.check, "passed": each.passed, "text": each.text, "hint": each.hint} for each in findings]
        terminal.show_json(
            {"well": is_well, "redacted": redact, "checks": rows, "pods": [_pod_as_json(pod) for pod in pods]}
        )
    else:
        _show(findings)
    if not is_well:
        raise typer.Exit(1)


def _machine() -> Iterator[Finding]:
    from pi_cli.commands import version  # not at the top: the help loads one command only

    facts = version.versions()
    yield Finding("pi", None, f"{facts['pi']} in {facts['path']}")
    yield Finding("Python", None, f"{facts['python']}, {facts['python_path']}")
    yield Finding("platform", None, str(facts["platform"]))
    yield Finding("asyncssh", bool(facts["asyncssh"]), str(facts["asyncssh"] or "not found"))
    hint = None if facts["ssh"] else "install OpenSSH's client: pi asks it for your configuration"
    yield Finding("ssh", bool(facts["ssh"]), str(facts["ssh"] or "not found"), hint)


async def _ssh_keys() -> list[Finding]:
    from pi_cli.ssh import own_keys

    in_agent, files = await own_keys.in_agent(), own_keys.files()
    agent = "no agent" if in_agent is None else f"keys: {', '.join(in_agent) or 'none'}"
    has_key = bool(in_agent or files)
    hint = None if has_key else "make a key with `ssh-keygen -t ed25519`, unless the ssh commands of your pods name one"
    return [
        Finding("SSH agent", None, agent),
        Finding("SSH keys", True if has_key else None, f"in ~/.ssh: {', '.join(files) or 'none'}", hint),
    ]


def _folder() -> Iterator[Finding]:
    try:
        folder = paths.config_dir()
        status = folder.stat()
    except FileNotFoundError:
        yield Finding("folder", None, f"{folder} does not exist yet")
        return
    except (OSError, PiError) as error:
        yield Finding("folder", False, str(error), getattr(error, "hint", None))
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (os.geteuid(), 0):
        yield Finding("folder", False, f"{folder} belongs to another user", "set `PI_CONFIG_DIR` to your own folder")
    elif mode & OTHERS_WRITE:
        hint = fill("`chmod go-w {folder}`", folder=str(folder))
        yield Finding("folder", False, f"other users may write to {folder}: its mode is {mode:04o}", hint)
    elif not os.access(folder, os.W_OK):
        yield Finding("folder", False, f"{folder} cannot be written", fill("`chmod u+w {folder}`", folder=str(folder)))
    else:
        yield Finding("folder", True, f"{folder}, mode {mode:04o}")


def _state() -> "tuple[State, Finding]":
    try:
        current = state.load()
    except PiError as error:
        return state.State(), Finding("pods.json", False, error.message, error.hint)
    if not current.pods:
        hint = 'set one up with `pi pods setup NAME "ssh root@HOST"`'
        return current, Finding("pods.json", None, "no pods yet", hint)
    models = sum(len(pod.models) for pod in current.pods.values())
    return current, Finding("pods.json", True, f"pods: {len(current.pods)}, models: {models}")


def _secrets() -> Iterator[Finding]:
    """Say where the key and the token are. Their values are not kept."""
    try:
        key = keys.find()
    except PiError as error:
        yield Finding("API key", False, error.message, error.hint)
    else:
        hint = None if key else "make a key with `pi key new`"
        yield Finding("API key", key is not None, f"in {key.origin.strip('`')}" if key else "not found", hint)
    try:
        options.hf_token()
    except PiError as error:
        yield Finding("Hub token", False, error.message, error.hint)
    else:
        yield Finding("Hub token", True, "in HF_TOKEN" if os.environ.get("HF_TOKEN") else "of `hf auth login`")


def _pods(current: "State") -> "list[PodHealth]":
    from pi_cli.models import pod_health
    from pi_cli.view import progress

    with progress.following(current.pods):
        return interrupts.run(pod_health.ask(current.pods))


def _of_pod(pod: "PodHealth") -> Finding:
    name = f"{POD}{pod.pod}"
    if pod.error:
        return Finding(name, False, pod.error.message, pod.error.hint)
    others = [each for each in pod.versions if each != pod.vllm]
    facts = [f"reached in {pod.seconds:.1f} s", f"vLLM {pod.vllm}" if pod.vllm else "no vLLM"]
    facts += [f"also {', '.join(others)}"] if others else []
    scripts = {True: "set up by this pi", False: "set up by another version of pi", None: "no setup scripts"}
    hint = None if pod.vllm else fill("install vLLM with `pi pods setup {pod}`", pod=pod.pod)
    return Finding(name, bool(pod.vllm), ", ".join([*facts, scripts[pod.has_these_scripts]]), hint)


def _pod_as_json(pod: "PodHealth") -> dict[str, object]:
    return {
        "name": pod.pod,
        "reached": pod.error is None,
        "seconds": round(pod.seconds, 2),
        "vllm": pod.vllm,
        "vllm_versions": list(pod.versions),
        "setup_by_this_pi": pod.has_these_scripts,
    }


def _redacted(finding: Finding, redaction: "Redaction | None") -> Finding:
    """Hide what identifies: in what a pod has answered everywhere, in pi's own hints the home folder."""
    if redaction is None:
        return finding
    hide_in_hint = redaction.hide if finding.check.startswith(POD) else redaction.hide_home
    hint = hide_in_hint(finding.hint) if finding.hint else None
    return replace(finding, text=redaction.hide(finding.text), hint=hint)


def _show(findings: Iterable[Finding]) -> None:
    from pi_cli.safe import safe_line
    from pi_cli.view import agent_check, terminal

    for finding in findings:
        terminal.say(agent_check.MARKS[finding.passed], f" {finding.check:<{NAME_WIDTH}} {safe_line(finding.text)}")
        if finding.hint:
            terminal.say(f"  {'':<{NAME_WIDTH}} {safe_line(finding.hint)}")
    failed = sum(finding.passed is False for finding in findings)
    terminal.note("all is well" if not failed else f"checks that failed: {failed}")
