"""`pi run --for CLIENT`: what a program would get, without running it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pi_cli import hints

if TYPE_CHECKING:
    from pi_cli.commands.resolve import ModelOnPod

URL = "http://127.0.0.1:PORT/v1"
KEY = "(a key that is good at that port only)"


def show(target: "ModelOnPod", argv: Sequence[str]) -> None:
    """Print the variables, the files and the command for a program that uses the model."""
    from pi_cli.models import client_recipes, clients
    from pi_cli.models.client_recipes import Endpoint, Setup
    from pi_cli.view import terminal

    recipe = client_recipes.recipe_for(argv[0])
    setup = (recipe(Endpoint(URL, target.name)) if recipe else Setup()).in_folder("FOLDER")
    for name, value in {**clients.settings(URL, target.name, KEY), **setup.variables}.items():
        terminal.say(f"{name}={value}")
    for name, text in setup.files.items():
        terminal.say(f"FOLDER/{name}:")
        for line in text.splitlines():
            terminal.say(f"  {line}")
    terminal.say(hints.command(argv[0], *setup.arguments, *argv[1:]))
    if reason := client_recipes.refusal(argv[0]):
        terminal.note(f"`pi run` does not start it: {reason}")
