"""docs/providers.md shows commands that pi accepts, and has every provider that setup can recognise."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands.app import app
from pi_cli.commands.main import separate_vllm_arguments
from pi_cli.ssh import ssh_command
from pi_cli.store import mount_commands
from tests.every import every

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
SETUP = ROOT / "remote" / "setup"
PI: Any = get_command(app)
PREFLIGHT = (SETUP / "preflight.sh").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Return the text of each section, under its heading."""
    _, *parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets: `Verda (DataCrunch)` becomes `verda-datacrunch`."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def commands(text: str) -> list[str]:
    """Return the command lines of pi in the blocks of a text, with continued lines joined."""
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return re.findall(r"^pi .*$", blocks.replace("\\\n", ""), re.MULTILINE)


def given(line: str) -> tuple[str, dict[str, Any]]:
    """Parse a command line with pi's own parser, without running it; return the command and its parameters."""
    command = PI
    words = separate_vllm_arguments(shlex.split(line)[1:])
    name = "pi"
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        name = words.pop(0)
        command = command.get_command(Context(command), name)
    return name, command.make_context(name, words).params


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the first table behind a heading."""
    table = PAGE.split(f" {heading}\n", 1)[1].split("|---", 1)[1].split("\n\n", 1)[0]
    return [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[1:]]


def ask(script: str, function: str, text: str) -> str:
    """Call a function of the setup script."""
    done = subprocess.run(
        ["bash", "-euc", 'source "$1"; "$2" "$3"', "bash", str(SETUP / script), function, text],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


LINES = commands(PAGE)
SETUPS = [params for name, params in map(given, LINES) if name == "setup"]
PROVIDERS = {link for row in rows("Find yours") for link in re.findall(r"\(#(.*?)\)", row[1])}
RECOGNISED = {row[0].strip("`"): row for row in rows("How pi recognises the provider")}
SIGNS = [(word, sign) for word, row in RECOGNISED.items() for sign in re.findall(r"`([A-Z]+_[A-Z_]*)…?`", row[2])]


@every(LINES)
def test_every_command_of_the_page_is_accepted_by_pis_own_parser(line: str) -> None:
    name, _ = given(line)
    assert name in ("setup", "pods", "start")


@every(sorted({params["ssh"] for params in SETUPS}))
def test_every_ssh_command_of_the_page_is_accepted_and_none_of_its_options_ignored(ssh: str) -> None:
    read = ssh_command.parse(ssh)
    assert read.host in ssh
    assert not read.ignored


@every(sorted({params["mount"] for params in SETUPS if params["mount"]}))
def test_the_mount_point_of_every_mount_command_of_the_page_is_found(mount: str) -> None:
    assert mount_commands.read(mount).target == mount.rsplit(maxsplit=1)[-1]


def test_the_page_has_all_the_ways_to_set_up() -> None:
    assert len(SETUPS) > 20
    assert all(any(params[name] for params in SETUPS) for name in ("mount", "models_path", "cpu"))
    assert any(params["accept_new_host_key"] for params in SETUPS)


@every(sorted(set(re.findall(r"\]\(#(.*?)\)", PAGE))))
def test_every_link_within_the_page_leads_to_a_heading(link: str) -> None:
    assert link in map(anchor, re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE))


@every(sorted(PROVIDERS))
def test_every_providers_section_has_all_its_topics(provider: str) -> None:
    [text] = [text for heading, text in sections().items() if anchor(heading) == provider]
    assert [topic for topic in ("ssh", "ports", "storage") if f"**{topic}**" not in text] == []
    shown = [params for name, params in map(given, commands(text)) if name == "setup"]
    assert any(params["cpu"] for params in shown)
    assert any(not params["cpu"] for params in shown)


def test_every_provider_that_setup_can_recognise_has_a_section() -> None:
    bodies = "".join(re.findall(r"^provider_by_\w+\(\) \{\n.*?^\}", PREFLIGHT, re.MULTILINE | re.DOTALL))
    assert {*RECOGNISED} == {*re.findall(r"\becho ([a-z]+)", bodies)}
    assert {link for row in RECOGNISED.values() for link in re.findall(r"\(#(.*?)\)", row[1])} <= PROVIDERS


@every(SIGNS)
def test_the_provider_is_recognised_by_each_variable_that_the_page_names(word: str, sign: str) -> None:
    name = f"{sign}X" if sign.endswith("_") else sign
    assert ask("preflight.sh", "provider_by_variables", f" HOME {name} PATH ") == word
