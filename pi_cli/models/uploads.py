"""Upload files of this machine to a pod before a launch, and give vLLM their paths there."""

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.events import Phase, Report
from pi_cli.models import local_files
from pi_cli.models.local_files import Upload
from pi_cli.planning.plan import Plan
from pi_cli.pods import agent
from pi_cli.pods.reports import Downloaded, StartEvent, StoredFiles
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh.session import PodSession

if TYPE_CHECKING:
    from agent import protocol

STEP = 10  # percent of an upload between two reports
CHANGED = (errno.EIO, errno.EPIPE)  # the agent got other bytes than were announced, or fewer


async def send(session: PodSession, plan: Plan, uploads: Sequence[Upload], report: Report) -> Plan:
    """Upload what the pod does not have yet; return the plan with the paths on the pod.

    Raises `PiError`. If this fails or is cancelled, the agent deletes what it has received.
    """
    arguments = plan.arguments
    for upload in uploads:
        stored = await agent.store(session, _request(upload, sends=False), lambda _: None)
        if not stored.is_stored:
            stored = await _upload(session, upload, report)
        here = f"{local_files.ON_POD}/{upload.digest}"
        arguments = tuple(argument.replace(here, stored.folder) for argument in arguments)
    return replace(plan, arguments=arguments)


async def _upload(session: PodSession, upload: Upload, report: Report) -> StoredFiles:
    text = f"uploading {upload.typed} ({units.size(upload.size)})"
    shown = {0}

    def on_event(event: StartEvent) -> None:
        if isinstance(event, Downloaded) and event.total:
            percent = event.done * 100 // event.total // STEP * STEP
            if percent not in shown:
                shown.add(percent)
                report(Phase(session.pod, f"{text}: {percent}%"))

    report(Phase(session.pod, text))
    try:
        content = local_files.content(upload.files)
        stored = await agent.store(session, _request(upload, sends=True), on_event, content)
    except AgentRefused as error:
        if error.code == "os" and error.refusal.errno in CHANGED:
            raise _changed(upload) from error
        raise
    if not stored.is_stored:
        raise _changed(upload)
    return stored


def _changed(upload: Upload) -> PiError:
    return PiError(f"`{upload.typed}` changed, or could not be read, while it was uploaded", hint="start it again")


def _request(upload: Upload, *, sends: bool) -> "protocol.StoreRequest":
    files: list[protocol.UploadedFile] = [{"name": file.name, "size": file.size} for file in upload.files]
    return {"digest": upload.digest, "files": files, "sends": sends}
