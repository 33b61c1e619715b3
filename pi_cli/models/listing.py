"""What runs on pods. That is the truth, and `pods.json` follows it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi_cli.events import Note, Report
from pi_cli.models import health
from pi_cli.pods import agent, ssh_command
from pi_cli.pods.ssh import PodSession
from pi_cli.store import state
from pi_cli.store.records import Model


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as it is on its pod now; `age` is in seconds, `answers_here` whether its URL works from here."""

    pod: str
    name: str
    model: Model
    status: str
    url: str
    age: float | None = None
    answers_here: bool | None = None


async def survey(session: PodSession, ssh: str, report: Report) -> list[Listed]:
    """Ask a pod what runs on it, and bring `pods.json` in line: adopt what is new, forget what is gone."""
    known = state.load().pod(session.pod).models
    told = await agent.ask(session, "survey", known=as_json(known))
    found = {each["name"]: each for each in told["models"]}
    with state.edit() as current:
        models = current.pod(session.pod).models
        # What another pi has changed meanwhile is newer than what this pod was asked about.
        for name in [name for name in known if name not in found and models.get(name) == known[name]]:
            del models[name]
            report(Note(session.pod, f"`{name}` no longer runs and was forgotten; `pi logs {name}` may tell why"))
        for name, each in found.items():
            if name not in models and each["pid"]:
                report(Note(session.pod, f"found `{name}` running here and added it"))
            if each["pid"]:
                extra = models[name].extra if name in models else {}
                extra |= {"memory": each["memory"]} if each.get("memory") else {}
                models[name] = Model(each["model"], each["port"], each["gpu"], each["pid"], each.get("uid"), extra)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_listed(session.pod, ssh, each)) for each in found.values()]
    return [task.result() for task in tasks]


async def running_names(session: PodSession) -> list[str]:
    """Return the names of all models on a pod, also those that `pods.json` does not know."""
    return list(dict.fromkeys([*state.load().pod(session.pod).models, *await alive(session)]))


async def alive(session: PodSession) -> list[str]:
    """Return the names of the models that run on a pod now, whatever `pods.json` says."""
    told = await agent.ask(session, "survey", known=as_json(state.load().pod(session.pod).models))
    return [each["name"] for each in told["models"]]


def endpoint(ssh: str, port: int) -> str:
    """Return the URL of a model as seen from outside, if its provider routes the port."""
    host = ssh_command.parse(ssh).host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def as_json(models: Mapping[str, Model]) -> list[dict[str, Any]]:
    """Return models as the agent knows them."""
    return [
        {"name": name, "uid": model.uid, "model": model.model, "pid": model.pid, "port": model.port, "gpu": model.gpu}
        for name, model in models.items()
    ]


async def _listed(pod: str, ssh: str, each: dict[str, Any]) -> Listed:
    model = Model(each.get("model", ""), each["port"], each["gpu"], each["pid"], each.get("uid"))
    url = endpoint(ssh, model.port)
    answers_here = await health.answers_from_here(url) if each["status"] == "ready" else None
    return Listed(pod, each["name"], model, each["status"], url, each.get("age"), answers_here)
