"""The work of `pi up`: set up pods and start models on all pods at once, then restart replicas one after the other."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from pi_cli.commands import gateway_members, options, start, start_across, start_arguments, start_plan, up_lock
from pi_cli.commands.up_lock import InForce
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.events import Note, Phase, Report
from pi_cli.fleet import changes as fleet_changes
from pi_cli.fleet.changes import Changes, ModelChange, PodChange
from pi_cli.fleet.file import FleetModel
from pi_cli.fleet.values import OFF
from pi_cli.models import leases, listing, starting, stopping
from pi_cli.models.start_options import Across, StartOptions
from pi_cli.models.starting import Started
from pi_cli.pods import fleet, provision, recording
from pi_cli.pods.provision import SetupOptions
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import host_keys
from pi_cli.ssh.session import PodSession
from pi_cli.store import costs, mounts, paths, quantities, state
from pi_cli.store.records import Pod


@dataclass(slots=True)
class Outcome:
    """What became ready, by POD/NAME, and what failed, by POD or POD/NAME."""

    ready: dict[str, Started] = field(default_factory=dict)
    failures: dict[str, PiError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: `pods` are those to work on, as they are to be reached."""

    pods: Mapping[str, Pod]
    setups: Mapping[str, PodChange]
    starts: Mapping[str, list[ModelChange]]
    over_several: tuple[ModelChange, ...]
    restarts: tuple[ModelChange, ...]
    options: Mapping[str, StartOptions]
    records: tuple[PodChange, ...]
    lock: InForce | None = None

    @property
    def is_needed(self) -> bool:
        return bool(self.pods or self.over_several or self.restarts or self.records)

    @property
    def rows(self) -> list[str]:
        """Return all pods that something is reported about."""
        changes = [*self.over_several, *self.restarts]
        return list(dict.fromkeys([*self.pods, *(pod for each in changes for pod in each.model.across or (each.pod,))]))


def prepare(changes: Changes, lock: InForce | None = None, *, restart: bool) -> Work:
    """Check all that can be checked before a pod is changed. Raises `BadUsage`, and `NotSet` for a missing secret."""
    again = ("differs",) if restart else ()
    setups = {change.pod.name: change for change in changes.pods if change.is_set_up or change.action in again}
    if setups:
        options.require_secrets()
    starts: dict[str, list[ModelChange]] = {}
    over_several = tuple(each for each in changes.models if each.action == "start" and each.model.across)
    for change in changes.models:
        if change.action in ("start", "starting", "lease") and change not in over_several:
            starts.setdefault(change.pod, []).append(change)
    restarts = changes.differing if restart else ()
    current = state.load().pods
    pods = {
        change.pod.name: _reached(change, current.get(change.pod.name))
        for change in changes.pods
        if change.pod.name in setups or change.pod.name in starts
    }
    wanted = {change.model.name: change.model for change in changes.models if change.action != "as written"}
    where = {
        name: [pod for each in changes.models if each.model.name == name for pod in each.model.across or (each.pod,)]
        for name in wanted
    }
    started = {change.model.name for changes_on in starts.values() for change in changes_on}
    started |= {change.model.name for change in (*over_several, *restarts)}
    start_options = {
        name: _start_options(model, {pod: current.get(pod) or Pod("") for pod in where[name]})
        for name, model in wanted.items()
        if name in started
    }
    records = tuple(change for change in changes.pods if change.action in ("record", "differs"))
    return Work(pods, setups, starts, over_several, restarts, start_options, records, lock)


def _reached(change: PodChange, recorded: Pod | None) -> Pod:
    """Return a pod as it is to be reached: with the file's ssh command if it is set up, else the recorded one."""
    if recorded is None or change.is_set_up:
        return Pod(change.pod.ssh, connect_timeout=change.pod.connect_timeout)
    return recorded


def _start_options(model: FleetModel, pods: Mapping[str, Pod]) -> StartOptions:
    """Return the start that a model of the file asks for, as `pi start` would make it of the same words."""
    with _named(model):
        own = None
        if model.vllm is not None:
            typed = start_arguments.Typed(model.model, ("--name", model.name), {})
            own = start_arguments.checked(typed, model.vllm, pods)
        constraints = replace(
            start.constraints_of(model.gpus, model.memory, model.context, own),
            environment=start.variables_of(model.env, pods),
        )
        secrets = start.secrets_of(model.api_key_env)
    lease = None if model.lease in (None, OFF) else model.lease
    rest = [*(["--private"] if model.private else []), *(f"--api-key-env={name}" for name in model.api_key_env)]
    across = Across(model.across) if model.across else None
    rest += start_across.words(across)
    rest += [*(["--lease", lease] if lease else []), *(["--then", model.then] if lease and model.then else [])]
    command = StartCommand(
        model.model,
        model.name,
        None,
        model.gpus,
        model.memory,
        model.context,
        own.arguments if own else None,
        tuple(rest),
    ).with_variables(model.env)
    uploads = own.uploads if own else ()
    return StartOptions(
        command,
        constraints,
        secrets,
        private=model.private,
        uploads=uploads,
        lease=quantities.lease(lease, None) if lease else None,
        then=model.then if lease else None,
        across=across,
    )


@contextmanager
def _named(model: FleetModel) -> Iterator[None]:
    """Say which model of the file an error is about."""
    try:
        yield
    except BadUsage as error:
        error.message = f"models.{model.name}: {error.message}"
        error.args = (error.message,)
        raise


async def do(work: Work, outcome: Outcome) -> None:
    """Do the work; the failure of one pod or model stops no other. Ctrl+C stops what is in progress."""
    for pod in work.records:
        _keep(pod)
    keys = {name: host_keys.read(name) for name in work.setups}
    known = set(state.load().pods)
    async with _noting_an_interruption():
        await _do(work, outcome, keys, known)


@asynccontextmanager
async def _noting_an_interruption() -> AsyncIterator[None]:
    """Say after Ctrl+C how to continue."""
    from pi_cli.view import terminal

    try:
        yield
    except BaseException as error:
        if not isinstance(error, PiError):
            terminal.note("interrupted: what is ready stays; continue with the same command")
        raise


async def _do(work: Work, outcome: Outcome, keys: Mapping[str, str | None], known: Collection[str]) -> None:
    from pi_cli.view import progress

    with progress.following(work.rows) as report:

        async def work_on(session: PodSession) -> None:
            name = session.pod
            if name in work.setups:
                await _set_up(session, work.setups[name], report, known_key=keys[name])
            await _start_all(session, work.starts.get(name, []), work, outcome, report)

        others = {name for name, change in work.setups.items() if change.is_other_machine}
        for change in work.restarts:
            report(Phase(change.pod, f"waiting to restart {change.model.name}"))
        failures = await fleet.on_each(work.pods, work_on, report, learn=work.setups, accept_new=others)
        outcome.failures.update(failures)
        _put_in_order([name for name in work.setups if name not in known])
        for change in work.over_several:
            if not set(change.model.across) & set(outcome.failures):
                await _one_after_the_other(work, change, outcome, report)
        await _restart_all(work, outcome, report)


def _put_in_order(new: Sequence[str]) -> None:
    """Have new pods in the order of the file, not in that in which their setups ended; the first one is active."""
    with state.edit() as current:
        ordered = [name for name in new if name in current.pods]
        if set(current.pods) == set(ordered):
            current.active = ordered[0] if ordered else current.active
        for name in ordered:
            current.pods[name] = current.pods.pop(name)


def _keep(change: PodChange) -> None:
    """Record what only pi itself keeps of a pod."""
    with state.edit() as current:
        pod = current.pod(change.pod.name)
        pod.price = quantities.price(change.pod.price) if change.pod.price else pod.price
        pod.connect_timeout = change.pod.connect_timeout or pod.connect_timeout


async def _set_up(session: PodSession, change: PodChange, report: Report, *, known_key: str | None) -> None:
    """Set up a pod as `pi pods setup` does, and record it."""
    wanted, name = change.pod, session.pod
    since = costs.now()
    before = state.load().pods.get(name)
    if change.is_other_machine:
        text = "this is another machine than before; if the old one still runs, its provider bills it"
        report(Note(name, text))
    if known_key and host_keys.read(name) != known_key:
        recording.forget_machine(name, report)
    mount, models_path = wanted.mount, wanted.models_path
    if not (mount or models_path or change.is_other_machine) and before and before.storage and before.storage.mount:
        mount, models_path = before.storage.mount, before.storage.path
    is_cpu = wanted.cpu or bool(before and before.is_cpu and not change.is_other_machine)
    setup_options = SetupOptions(
        mount, models_path, wanted.vllm, is_cpu, home=wanted.home, last_home=before.home if before else None
    )
    again = ["pi", "pods", "setup", name, wanted.ssh, *setup_options.arguments()]
    log = paths.log_dir() / f"setup-{name}.log"
    machine = await provision.prepare(session, setup_options, log=log, again=again, report=report)
    price = quantities.price(wanted.price) if wanted.price else None
    given = Pod(wanted.ssh, price=price, connect_timeout=wanted.connect_timeout)
    kept = None if mount and mounts.has_secret(mount) else mount
    recording.record(name, given, machine, mount=kept, is_cpu=is_cpu, began=since, is_price_new=price is not None)


async def _start_all(
    session: PodSession,
    changes: list[ModelChange],
    work: Work,
    outcome: Outcome,
    report: Report,
) -> None:
    """Start the models of a pod, one after the other: vLLM fails if the free memory changes while it measures it."""
    if not changes:
        return
    running = {model.name: model for model in await listing.running(session)}
    facts = await up_lock.look(session, work.lock)
    for change in changes:
        name = change.model.name
        told = report if len(changes) == 1 else _naming(name, report)
        there = running.get(name)
        try:
            if there is not None:
                await _set_lease(session, change.model, there)
            if there is not None and there.status != "starting":
                continue
            if there is not None:
                key = options.api_key_of(name, state.load().pod(session.pod).models.get(name))
                started = await starting.attach(session, name, key=key, report=told)
            else:
                start_options = up_lock.locked(work.options[name], work.lock, session.pod, facts, told)
                started = await _start(session, start_options, told)
            outcome.ready[change.place] = started
        except PiError as error:
            outcome.failures[change.place] = error
            report(Note(session.pod, f"`{name}` did not start"))


async def _set_lease(session: PodSession, model: FleetModel, running: RunningModel) -> None:
    """Give a running model the lease of the file, which needs no restart."""
    if not list(fleet_changes.of_lease(model, running)):
        return
    if model.lease in (None, OFF):
        await leases.take_back(session, model.name)
    else:
        await leases.give(session, model.name, quantities.lease(model.lease, model.then) or 0, model.then)


def _naming(model: str, report: Report) -> Report:
    """Return a report that says which of several models of a pod it is about."""

    def report_named(event: object) -> None:
        if isinstance(event, Phase):
            event = replace(event, text=f"{model}: {event.text}")
        report(event)  # type: ignore[arg-type]

    return report_named


async def _start(session: PodSession, start_options: StartOptions, report: Report) -> Started:
    pods = {session.pod: state.load().pod(session.pod)}
    command, constraints = start_options.command, start_options.constraints
    profile = await start_plan.find_profile(command.model, constraints, pods, name=command.name)
    make_plan = start_plan.planner(profile, constraints, pods, session.pod)
    on_pod = replace(start_options, command=replace(command, pod=session.pod))
    return await starting.start(session, on_pod, make_plan, report)


async def _restart_all(work: Work, outcome: Outcome, report: Report) -> None:
    """Restart replicas one after the other; after a failure, the other replicas of that model stay as they are."""
    failed = {place.partition("/")[2] for place in outcome.failures}
    for change in work.restarts:
        name, pods = change.model.name, change.model.across or (change.pod,)
        if name in failed or set(pods) & set(outcome.failures):
            continue
        if not await _one_after_the_other(work, change, outcome, report):
            failed.add(name)


async def _one_after_the_other(work: Work, change: ModelChange, outcome: Outcome, report: Report) -> bool:
    """Start a model again, or one over several pods; stop before what runs of it. Return whether it is ready."""
    name, options_of_model = change.model.name, work.options[change.model.name]
    current = state.load()
    pods = {pod: current.pod(pod) for pod in change.model.across or (change.pod,)}

    async def restart_on(session: PodSession) -> None:
        start_options = options_of_model
        if not change.model.across:
            facts = await up_lock.look(session, work.lock)
            start_options = up_lock.locked(options_of_model, work.lock, session.pod, facts, report)
        if change.action == "differs":
            report(Phase(session.pod, f"stopping {name}"))
            stopping.require_success(session.pod, await stopping.stop(session, [name]))
        if not change.model.across:
            outcome.ready[change.place] = await _start(session, start_options, report)

    places = [(pod, name) for pod in pods] if change.action == "differs" else []
    try:
        async with gateway_members.leaving(places):
            raise_any(await fleet.on_each(pods, restart_on, report))
            if change.model.across:
                outcome.ready[change.place] = await start_across.start_reporting(options_of_model, pods, report)
    except PiError as error:
        outcome.failures[change.place] = error
        return False
    await gateway_members.joined(places)  # before the next replica is stopped
    return True
