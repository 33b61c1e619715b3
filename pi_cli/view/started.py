"""What a start leaves on the screen: where the model answers, how long that took, and what to type next."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.hints import fill
from pi_cli.view import terminal

if TYPE_CHECKING:
    from pi_cli.models.starting import Started

SSH_ONLY = "through SSH only"
TRY_TEXT = 'try it with `pi prompt {name} "What is 2+2?"`'
TRY_OTHERS = "try it with `pi check {name}`"  # for a model that embeds, ranks, classifies or transcribes
DOWNLOADING, COMPILING = "downloading", "compiling"
MIN_SHOWN = 1.0  # seconds of a phase that is named


def show(started: Sequence["Started"], names: Mapping[str, str], waited: Mapping[str, float]) -> None:
    """Print the results. `names` are what to type for the model of each pod, `waited` are the seconds of each."""
    ready = [each for each in started if each.is_ready]
    if len(ready) > 1 and sys.stdout.isatty():
        _show_together(ready, names, waited)
    else:
        for each in ready:
            _show_ready(each, names[each.pod], waited[each.pod])
    for each in started:
        if not each.is_ready:
            launched = "launched `{name}` on `{pod}`; watch it with `pi start --attach {name} --pod {pod}`"
            terminal.say(fill(launched, name=each.name, pod=each.pod))


def show_lease(started: Sequence["Started"], lease: float | None, then: str | None) -> None:
    """Say when the lease ends the models, and what becomes of the bill."""
    if started and lease:
        pods = "the pod" if len(started) == 1 else "each pod"
        after = f"then {pods} is stopped" if then else f"{pods} stays on and is billed"
        terminal.say((f"ends after {units.span(lease)} without work; {after}", "dim"))


def show_urls(started: Sequence["Started"]) -> None:
    """Print nothing but the URLs that answer from here."""
    for each in started:
        if each.url:
            terminal.say(each.url)


def note_fixes(started: Sequence["Started"]) -> None:
    """Say what `--fix` has changed, in every kind of output: the model does not run as it was typed."""
    for each in started:
        for fix in each.fixes[-1:]:
            causes = "; then ".join(dict.fromkeys(fix.cause for fix in each.fixes))
            template = "`{name}` on `{pod}` was started with `{start}`, since: {causes}"
            text = fill(template, name=each.name, pod=each.pod, start=fix.command.argv, causes=causes)
            terminal.note(text, is_needed=True)


def _show_ready(started: "Started", name: str, waited: float) -> None:
    url = (started.url, "bold") if started.url else SSH_ONLY
    terminal.say(("ready", "green"), f" `{started.name}` on `{started.where}`: ", url)
    _say_time(started, name, waited)
    _say_way_in(started, name)
    terminal.say(attempt(started, name))


def _show_together(started: Sequence["Started"], names: Mapping[str, str], waited: Mapping[str, float]) -> None:
    """Print one line for each pod of a terminal, aligned; then what to type for the first."""
    pods, urls = max(len(each.pod) for each in started), max(len(each.url or SSH_ONLY) for each in started)
    terminal.say(("ready", "green"), f" `{started[0].name}` on {len(started)} pods:")
    for each in started:
        url = each.url or SSH_ONLY
        time = (f"{'':{urls - len(url)}}  {units.age(waited[each.pod])}", "dim")
        terminal.say(f"  {each.pod:{pods}}  ", (url, "bold" if each.url else ""), time)
    for each in started:
        _say_way_in(each, names[each.pod])
    terminal.say(attempt(started[0], names[started[0].pod]))


def _say_time(started: "Started", name: str, waited: float) -> None:
    """Print how long the whole wait was, and its longest parts; quieter than the URL on a terminal."""
    waited = max(waited, started.took or 0)  # longer if pi has followed only the end of it
    meanwhile = f" ({COMPILING} {units.age(started.compiling)} of it)" if started.compiling else ""
    download = {f"{DOWNLOADING}{meanwhile}": started.downloading} if started.downloading else {}
    spans = download | dict(started.phases)
    times = ", ".join(f"{phase} {units.age(seconds)}" for phase, seconds in spans.items() if seconds >= MIN_SHOWN)
    took = f"took {units.age(waited)}{f': {times}' if times else ''}"
    if sys.stderr.isatty():
        terminal.aside(took)
    else:
        terminal.note(f"`{name}` {took}")


def _say_way_in(started: "Started", name: str) -> None:
    if not started.url:
        is_private = started.model.is_private
        reason = "it has no public URL"
        if not is_private:
            is_known = started.answers_here is not None
            reason = f"port {started.model.port} {'cannot be reached' if is_known else 'has not answered'} from here"
        forward = "{reason}; open a local port for other programs with `pi forward {name}`"
        terminal.note(fill(forward, reason=reason, name=name))


def attempt(started: "Started", name: str) -> str:
    """Return what to type to try a model."""
    return fill(TRY_TEXT if started.kind == "generation" else TRY_OTHERS, name=name)
