"""The screen of `pi top`: what each key does."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from pi_cli.commands import gateway_members
from pi_cli.errors import PiError
from pi_cli.events import Event, Note
from pi_cli.models import logs, stopping, watching
from pi_cli.models.load import Loads, ModelLoad
from pi_cli.models.logs import LogQuery, Source
from pi_cli.models.parts import Part
from pi_cli.pods import fleet
from pi_cli.pods.reports import Survey
from pi_cli.safe import safe_line
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Pod
from pi_cli.view import full_screen, load
from pi_cli.view import logs as log_view
from pi_cli.view.full_screen import FullScreen
from pi_cli.view.load import Look

CLOCK = 1.0  # seconds after which the screen is drawn again, for the age of an outage
BACK = ("q", "escape", full_screen.CTRL_C)
PAGE = 10  # rows
DRAWING_PAUSE = 0.1  # seconds
SORTS = list(load.SORTS)


async def show(pods: Mapping[str, Pod], interval: float) -> None:
    """Show the load of pods until the user leaves."""
    with full_screen.opened() as screen:
        top = _Top(pods, screen, Look(interval=interval, is_ascii=full_screen.is_ascii()))
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(top.keep_looking(interval))
            await top.follow_keys(group)
            looking.cancel()
            if not top.is_stopping:
                screen.stop()  # closing the connections may take a moment


class _Top:
    """The state of the screen: what is selected, and which question is open."""

    def __init__(self, pods: Mapping[str, Pod], screen: FullScreen, look: Look) -> None:
        self._pods, self._screen, self._look = pods, screen, look
        self._loads = Loads(pods)
        self._asks_about: ModelLoad | None = None
        self._stopping: set[tuple[str, str]] = set()
        self._is_due = False
        self._has_moved = False  # until then, the first model is selected

    @property
    def is_stopping(self) -> bool:
        return bool(self._stopping)

    async def keep_looking(self, interval: float) -> None:
        def see(pod: str, survey: Survey) -> None:
            self._loads.see(pod, survey)
            self._draw_soon()

        def lost(pod: str, error: PiError) -> None:
            self._loads.lost(pod, error)
            self._draw_soon()

        await watching.keep_looking(
            self._pods, self._loads.look, see, lost=lost, report=lambda _: None, interval=interval
        )

    async def follow_keys(self, group: asyncio.TaskGroup) -> None:
        """Do what the keys say until one of them says to leave; wait for models that are being stopped."""
        while True:
            self._draw()
            try:
                async with asyncio.timeout(CLOCK):
                    key = await self._screen.pressed.get()
            except TimeoutError:
                continue
            if key == "resize":
                continue
            if self._asks_about:
                self._answer(key, group)
            elif key == "q":
                for pod, name in self._stopping:
                    self._say(f"leaving when {pod}/{name} is stopped")
                self._draw()
                return
            elif key == "l" and (model := self._selected()):
                self._say("")
                await self._follow_log(model)
            else:
                self._take(key)

    def _take(self, key: str) -> None:
        is_help = key == "?" and not self._look.shows_help
        self._look = replace(self._look, message="", shows_help=is_help)
        match key:
            case "up" | "k":
                self._move(-1)
            case "down" | "j":
                self._move(1)
            case "page-up":
                self._move(-PAGE)
            case "page-down":
                self._move(PAGE)
            case "home" | "g":
                self._move(-len(self._ordered()))
            case "end" | "G":
                self._move(len(self._ordered()))
            case "s":
                following = SORTS[(SORTS.index(self._look.sort) + 1) % len(SORTS)]
                self._look = replace(self._look, sort=following)
            case "x" if model := self._selected():
                self._ask(model)

    def _ordered(self) -> list[ModelLoad]:
        return load.ordered(self._loads.pods, self._look.sort)

    def _selected(self) -> ModelLoad | None:
        models = self._ordered()
        return next((model for model in models if (model.pod, model.name) == self._look.selected), None)

    def _move(self, rows: int) -> None:
        names = [(model.pod, model.name) for model in self._ordered()]
        row = names.index(self._look.selected) if self._look.selected in names and self._has_moved else 0
        selected = names[min(max(row + rows, 0), len(names) - 1)] if names else None
        self._has_moved = self._has_moved or rows != 0
        self._look = replace(self._look, selected=selected)

    def _ask(self, model: ModelLoad) -> None:
        if model.is_foreign:
            self._say(f"pi does not stop {safe_line(model.name)}: its name breaks pi's rule for names")
        elif (model.pod, model.name) in self._stopping:
            self._say(f"{model.pod}/{model.name} is being stopped already")
        else:
            self._asks_about = model
            self._say(f"stop {model.pod}/{model.name}? [y/N]")

    def _answer(self, key: str, group: asyncio.TaskGroup) -> None:
        model, self._asks_about = self._asks_about, None
        if model and key in ("y", "Y"):
            self._say(f"stopping {model.pod}/{model.name}")
            self._stopping.add((model.pod, model.name))
            group.create_task(self._stop(model))
        else:
            self._say("")

    async def _stop(self, model: ModelLoad) -> None:
        """Stop a model as `pi stop` does, and say what came of it."""
        said, elsewhere = f"stopped {model.pod}/{model.name}", list[Part]()

        async def stop(session: PodSession) -> None:
            nonlocal said
            stopped = await stopping.stop(session, [model.name])
            stopping.require_success(model.pod, stopped)
            if stopped.outcome[model.name] == "gone":
                said = f"{model.pod}/{model.name} had already exited"
            elsewhere.extend(stopped.elsewhere)

        async with gateway_members.leaving([(model.pod, model.name)]):
            failures = await fleet.on_each({model.pod: self._pods[model.pod]}, stop)
        failures |= await stopping.stop_elsewhere(elsewhere)
        self._stopping.discard((model.pod, model.name))
        for error in failures.values():
            said = f"error: {error}"
        self._say(said)
        self._draw()

    async def _follow_log(self, model: ModelLoad) -> None:
        """Show the log of a model until the user goes back."""
        if model.is_foreign:
            self._say(f"pi does not read the log of {safe_line(model.name)}: its name breaks pi's rule for names")
            return
        _, rows = self._screen.size
        with self._screen.lent(f"the log of {model.pod}/{model.name}; q goes back"):
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._show_log(model, max(rows - 2, 1)))
                while await self._screen.pressed.get() not in BACK:
                    pass
                following.cancel()

    async def _show_log(self, model: ModelLoad, lines: int) -> None:
        source = Source(model.pod, model.name)
        pods = {model.pod: self._pods[model.pod]}
        async with log_view.showing([source]) as view:

            def report(event: Event) -> None:
                view.note(event)

            failures = await logs.follow(pods, [source], LogQuery(lines), sink=view.write, report=report)
            view.note(Note(model.pod, str(failures.get(model.pod, "the log has ended"))))

    def _say(self, text: str) -> None:
        self._look = replace(self._look, message=safe_line(text))

    def _draw_soon(self) -> None:
        """Draw once for the pods that answer at about the same time."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(DRAWING_PAUSE, self._draw)

    def _draw(self) -> None:
        self._is_due = False
        self._move(0)
        columns, rows = self._screen.size
        self._screen.draw(load.screen(self._loads.pods, self._look, width=columns, height=rows))
