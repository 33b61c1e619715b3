"""`pi pods`: the list of pods."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import costs, state
from pi_cli.store.records import Pod, write_pod

if TYPE_CHECKING:
    from pi_cli.models.drift import Checked
    from pi_cli.ssh.session import PodSession


def show(*, check: bool, as_json: bool, wide: bool = False, quiet: bool = False) -> None:
    """Print the recorded pods; with `check`, ask them for their current status; `quiet` prints their names alone."""
    from pi_cli.hold import client
    from pi_cli.view import pods, terminal

    current = state.load()
    chosen = os.environ.get(state.POD_VARIABLE)
    active = chosen or current.active
    if quiet:
        _show_names(current.pods, check=check, as_json=as_json)
        return
    linked = client.linked()
    checked, failures = _check(current.pods) if check and current.pods else ({}, {})
    if as_json:
        terminal.show_json(
            [
                as_json_row(name, pod, is_active=name == active, is_linked=name in linked)
                | ({"check": _as_json(checked[name])} if check else {})
                for name, pod in current.pods.items()
            ]
        )
    elif not current.pods:
        terminal.note('there are no pods yet; set one up with `pi pods setup NAME "ssh root@HOST"`')
    elif check:
        pods.show_checked(list(checked.values()), active, is_wide=wide)
    else:
        pods.show_pods(current.pods, active, is_wide=wide, linked=linked)
    if not as_json:
        pods.show_costs(state.load().pods if checked else current.pods)
    if chosen and current.pods:
        terminal.note(_said_by_variable(current, chosen))
    for name, result in checked.items():
        for difference in result.differences:
            terminal.note(f"{name}: {difference.text}; {difference.hint}")
    raise_any(failures)


def _said_by_variable(current: state.State, chosen: str) -> str:
    """Return what PI_POD says: with a wrong name, this list is where the user looks for the right one."""
    if chosen in current.pods:
        return f"`{chosen}` is the active pod because {state.POD_VARIABLE} is set to it"
    from pi_cli.store import unknown

    error = unknown.pod_in_variable(current, state.POD_VARIABLE, chosen)
    return f"{error.message}; {error.hint}"


def _show_names(names: Iterable[str], *, check: bool, as_json: bool) -> None:
    from pi_cli.commands import rows

    if check:
        raise BadUsage("`--quiet` and `--check` exclude each other", hint="leave one of them out")
    rows.show_names(names, as_json=as_json)


def as_json_row(name: str, pod: Pod, *, is_active: bool, is_linked: bool = False) -> dict[str, object]:
    """Return a pod as `--json` shows it: what `pods.json` has, with the GPUs of models as numbers too."""
    recorded = write_pod(pod)
    models = {name: {"gpus": model.gpus} | recorded["models"][name] for name, model in pod.models.items()}
    unknown = dict.fromkeys(
        ("vllm", "abilities", "storage", "home", "provider", "connect_timeout", "quiet_since", "asked")
    )
    return (
        {"name": name, "active": is_active, "linked": is_linked}
        | unknown
        | recorded
        | costs.as_json(pod)
        | {"models": models}
    )


def _check(pods: Mapping[str, Pod]) -> "tuple[dict[str, Checked], dict[str, PiError]]":
    """Ask all pods at once; return the result for each, and the errors of those that did not answer."""

    from pi_cli.events import Phase
    from pi_cli.models import drift, listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    answered: dict[str, Checked] = {}
    with progress.following(pods, is_late=True) as report:

        async def check(session: "PodSession") -> None:
            answered[session.pod] = await drift.check(session, pods[session.pod], report)
            if machine := answered[session.pod].machine:
                listing.note_use(session.pod, pods[session.pod], machine.running)
            report(Phase(session.pod, "answered"))

        failures = interrupts.run(fleet.on_each(pods, check, at_once=True))
    failed = {name: drift.Checked(name, pods[name], error=error) for name, error in failures.items()}
    return {name: (answered | failed)[name] for name in pods}, failures


def _as_json(checked: "Checked") -> dict[str, object]:
    machine = checked.machine
    fields: dict[str, object] = {
        "status": checked.status,
        "error": str(checked.error) if checked.error else None,
        "differences": [asdict(difference) for difference in checked.differences],
    }
    if machine is None:
        return fields
    gpus = [
        {"id": gpu.id, "name": gpu.name, "memory": gpu.memory}
        | gpu.extra
        | dict(zip(("used_mib", "total_mib"), machine.used.get(gpu.id, (None, None)), strict=True))
        for gpu in machine.gpus
    ]
    return fields | {
        "gpus": gpus,
        "driver": machine.driver,
        "cuda": asdict(machine.cuda) if machine.cuda else None,
        "vllm": machine.vllm,
        "vllm_versions": machine.versions,
        "provider": machine.provider,
        "models": [model.name for model in machine.running],
        "home": asdict(machine.home),
        "place": asdict(machine.place) if machine.place else None,
        "storage": asdict(machine.storage) if machine.storage else None,
    }
