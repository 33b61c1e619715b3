"""`pi gateway --on POD`: a gateway that runs on a pod."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.commands import gateway
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.gateway.on_pod import Options
    from pi_cli.gateway.replicas import Wanted
    from pi_cli.store.keys import ApiKey
    from pi_cli.store.state import State

OPEN_ROUTES = "/v1/models, /readiness and /engine_metrics"


def start(current: "State", wanted: "Wanted", key: "ApiKey", options: "Options", *, yes: bool, as_json: bool) -> None:
    """Start a gateway on a pod, or let it take in what has changed, and say how to reach it."""
    from pi_cli.gateway import on_pod
    from pi_cli.view import gateways as view
    from pi_cli.view import terminal

    on = current.pod(options.pod)

    def may_install() -> bool:
        gateway.require_consent(f"on `{options.pod}`", yes=yes)
        terminal.note(f"installing it on `{options.pod}`")
        return True

    printer = view.GatewayPrinter().show
    end = interrupts.run(on_pod.serve(wanted, on, key, options, printer, may_install))
    if as_json:
        terminal.show_json({"pod": options.pod, "name": on_pod.NAME} | asdict(end))
        return
    for id, url in sorted(end.workers.items()):
        terminal.say(f"{id} {url}")
    terminal.note(
        fill(
            "`{name}` on `{pod}` serves these; reach it with `pi forward {pod}/{name}`",
            name=on_pod.NAME,
            pod=options.pod,
        )
    )
    if options.is_public:
        where = f"its port {end.port} is open on all addresses of `{options.pod}`, as plain HTTP"
        terminal.note(f"{where}; clients without a key can read {OPEN_ROUTES}")
