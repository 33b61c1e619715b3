"""What `pi env --gateway` and `pi run --gateway` set: the URL of a running gateway, its key, and a model of it."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pi_cli import hints
from pi_cli.commands import gateway_status
from pi_cli.errors import BadUsage, NotSet, PiError
from pi_cli.hints import fill
from pi_cli.store import gateways, paths
from pi_cli.store.gateways import Gateway

if TYPE_CHECKING:
    from pi_cli.store.keys import ApiKey

CONTEXT = "PI_CONTEXT_LENGTH"


@contextmanager
def prepared(
    name: str | None, pod: str | None, argv: Sequence[str], keep: Sequence[str]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Give the words of a command that uses a gateway, and its environment."""
    from pi_cli.models import client_recipes, clients
    from pi_cli.models.client_recipes import Endpoint

    gateway, model = _find(name, pod)
    key = _key(gateway)
    settings = clients.environment(gateway.url, model, key.value, os.environ, [key.variable], keep)
    with client_recipes.prepared(argv, Endpoint(gateway.url, model, gateway.context_of(model))) as (words, more):
        yield words, settings | _context(gateway, model) | more


def show_settings(name: str | None, pod: str | None, language: str, *, show_key: bool, as_json: bool) -> None:
    """Print the lines for a shell, or JSON."""
    from pi_cli.models import clients
    from pi_cli.view import exports, terminal

    gateway, model = _find(name, pod)
    key = _key(gateway)
    settings = clients.settings(gateway.url, model, key.value if show_key else None) | _context(gateway, model)
    if as_json:
        variables = {each: value for each, value in settings.items() if value is not None}
        place = {"api_key_env": None if key.file else key.variable, "api_key_file": key.file}
        length = gateway.context_of(model)
        terminal.show_json({"name": model, "via": "gateway", "context_length": length, "env": variables} | place)
        return
    folder = str(paths.config_dir().absolute()) if os.environ.get("PI_CONFIG_DIR") else None
    reference = exports.kept_key(folder, language) if key.file else exports.variable(key.variable, language)
    for line in exports.lines(settings | clients.past_proxies(gateway.url, os.environ), language, key=reference):
        terminal.say(line)
    for conflicting in (each for each in clients.CONFLICTING if os.environ.get(each)):
        terminal.say(exports.removal(conflicting, language))
    if sys.stdout.isatty():
        this_command = hints.command("pi", "env", "--gateway", model)
        terminal.note(fill("set them with `{command}`", command=exports.eval_command(this_command, language)))


def _find(name: str | None, pod: str | None) -> tuple[Gateway, str]:
    """Return the running gateway that serves a model, and the model; without a name, its only one."""
    if pod or (name and "/" in name):
        raise BadUsage(
            "`--gateway` takes the name of a model without its pod",
            hint="the gateway chooses the pod; leave out `--gateway` to use one of them",
        )
    running = [each for each in gateways.running() if each.is_up]
    if not running:
        raise gateway_status.none_running()
    served = sorted({each for gateway in running for each in gateway.names})
    if name is None and len(served) == 1:
        [name] = served
    if name is None and served:
        raise BadUsage("no model is named, and the gateway serves several", hint=f"choose {hints.one_of(served)}")
    found = next((gateway for gateway in running if name in gateway.names), None)
    if found is None or name is None:
        message = f"no running gateway serves `{name}`" if name else "no model can be reached through the gateway"
        raise PiError(message, hint="see what it serves with `pi gateway status`")
    return found, name


def _key(gateway: Gateway) -> "ApiKey":
    if key := gateway_status.key_of(gateway):
        return key
    if gateway.key_file:
        hint = fill(
            "the gateway was started with the key in `{file}`: keep it again with `pi key set`", file=gateway.key_file
        )
    else:
        hint = fill("`export {variable}=…` with the key of the gateway", variable=gateway.key_variable)
    raise NotSet([gateway.key_variable], hint=hint)


def _context(gateway: Gateway, model: str) -> dict[str, str]:
    length = gateway.context_of(model)
    return {CONTEXT: str(length)} if length else {}
