"""`pi start --fix`: if a start fails, try what its diagnosis offers, as long as that changes nothing that matters.

Between two attempts nothing of the model is on the pod but what it has downloaded and compiled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from pi_cli.diagnosis import fixes
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import BadUsage, NoRoom
from pi_cli.events import Note, Report
from pi_cli.hints import fill
from pi_cli.models import starting
from pi_cli.models.start_errors import Diagnosed
from pi_cli.models.start_options import StartOptions
from pi_cli.models.starting import Choose, Fix, Started
from pi_cli.ssh.session import PodSession

MAX_FIXES = 2

Replan = Callable[[StartOptions], Awaitable[tuple[StartOptions, Choose]]]
"""Plans a start whose command was changed: returns its options with what follows from that, and how to plan it."""


async def start(
    session: PodSession, options: StartOptions, choose: Choose, report: Report, *, replan: Replan
) -> Started:
    """Start a model as `starting.start` does; if it fails, try up to two other commands.

    Raises the error of the last attempt, or of the one before if the pod has no room for the last. `--timeout` is for
    all attempts together, and Ctrl+C ends them all.
    """
    clock = asyncio.get_running_loop().time
    began, typed = clock(), options.command
    applied: list[Fix] = []
    failure: Diagnosed | None = None
    while True:
        try:
            started = await starting.start(session, options, choose, report, spent=clock() - began)
            return replace(started, fixes=tuple(applied))
        except Diagnosed as error:
            failure = error
        except (BadUsage, NoRoom) as error:
            if failure is None:
                raise
            report(Note(session.pod, f"that is not possible here: {error}"))
        fix = _next(typed, failure, applied)
        if fix is None:
            raise failure
        applied.append(fix)
        report(Note(session.pod, _announced(fix, len(applied))))
        try:
            options, choose = await replan(_changed(options, fix))
        except (BadUsage, NoRoom) as error:
            report(Note(session.pod, f"that is not possible here: {error}"))
            raise failure from error


def _next(typed: StartCommand, failure: Diagnosed, applied: list[Fix]) -> Fix | None:
    """Return what to try next; None if nothing is safe, or enough was tried."""
    if failure.cause is None or len(applied) == MAX_FIXES:
        return None
    command = fixes.choose(typed, failure.cause.starts, [fix.command for fix in applied])
    return Fix(failure.cause.summary, command) if command else None


def _announced(fix: Fix, count: int) -> str:
    template = "it did not start: {cause}; trying `{start}` (fix {count} of at most {most})"
    return fill(template, cause=fix.cause, start=fix.command.argv, count=count, most=MAX_FIXES)


def _changed(options: StartOptions, fix: Fix) -> StartOptions:
    """Return the options of the next attempt; a cache that was deleted once is not deleted again."""
    command = fix.command
    has_cleaned = command.has_cleaned or command.cleans_cache
    following = replace(command, planned_arguments=(), cleans_cache=False, has_cleaned=has_cleaned)
    return replace(options, command=following, clean_cache=command.cleans_cache)
