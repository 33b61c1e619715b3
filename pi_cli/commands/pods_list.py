"""`pi pods`: the list of pods."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod, write_pod

if TYPE_CHECKING:
    from pi_cli.models.drift import Checked
    from pi_cli.ssh.session import PodSession


def show(*, check: bool, as_json: bool) -> None:
    """Print the recorded pods; with `check`, ask them for their current status."""
    from pi_cli.view import pods, terminal

    current = state.load()
    checked, failures = _check(current.pods) if check and current.pods else ({}, {})
    if as_json:
        terminal.show_json(
            [
                as_json_row(name, pod, is_active=name == current.active)
                | ({"check": _as_json(checked[name])} if check else {})
                for name, pod in current.pods.items()
            ]
        )
    elif not current.pods:
        terminal.note('there are no pods yet; set one up with `pi pods setup NAME "ssh root@HOST"`')
    elif check:
        from pi_cli.view import tables

        tables.show_checked(list(checked.values()), current.active)
    else:
        pods.show_pods(current.pods, current.active)
    for name, result in checked.items():
        for difference in result.differences:
            terminal.note(f"{name}: {difference.text}; {difference.hint}")
    raise_any(failures)


def as_json_row(name: str, pod: Pod, *, is_active: bool) -> dict[str, object]:
    """Return a pod as `--json` shows it: what `pods.json` has, with the GPUs of models as numbers too."""
    recorded = write_pod(pod)
    models = {name: {"gpus": model.gpus} | recorded["models"][name] for name, model in pod.models.items()}
    unknown = dict.fromkeys(("vllm", "abilities", "storage", "home", "provider", "connect_timeout"))
    return {"name": name, "active": is_active} | unknown | recorded | {"models": models}


def _check(pods: Mapping[str, Pod]) -> "tuple[dict[str, Checked], dict[str, PiError]]":
    """Ask all pods at once; return the result for each, and the errors of those that did not answer."""
    import asyncio

    from pi_cli.events import Phase
    from pi_cli.models import drift
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    answered: dict[str, Checked] = {}
    with progress.following(pods) as report:

        async def check(session: "PodSession") -> None:
            answered[session.pod] = await drift.check(session, pods[session.pod], report)
            report(Phase(session.pod, "answered"))

        failures = asyncio.run(fleet.on_each(pods, check))
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
