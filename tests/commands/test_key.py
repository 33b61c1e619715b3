"""`pi key`: the API key in a file of this machine, and the Hub's token in the file of its own client."""

import os
import re
import signal
import stat
import subprocess
import sys
import termios
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.terminal import at_a_terminal

OWN, OTHER = "my-own-key-0123456789", "another-key-0123456789"
UNSET = {"PI_API_KEY": ""}


@pytest.fixture
def file() -> Path:
    """The file of the key, in an empty folder."""
    path = Path(os.environ["PI_CONFIG_DIR"], "key")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def kept(file: Path) -> Path:
    """The file with a key."""
    write(file, f"{OWN}\n")
    return file


def write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def shown(pi: Pi) -> str:
    result = pi("key", "show", **UNSET)
    assert result.code == 0, result.err
    return result.out.removesuffix("\n")


def test_a_new_key_is_kept_for_its_user_only_and_is_not_printed(pi: Pi, file: Path) -> None:
    made = pi("key", "new", **UNSET)
    assert (made.code, made.out) == (0, f"made a key, which is in `{file}`; only you can read it\n")
    key = file.read_text().strip()
    assert re.fullmatch(r"[0-9a-f]{64}", key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in made.out + made.err
    printed = pi("key", "show", **UNSET)
    assert (printed.out, printed.err) == (f"{key}\n", f"note: the key in `{file}`\n")


def test_the_variable_counts_more_than_the_file(pi: Pi, kept: Path) -> None:
    printed = pi("key", "show", PI_API_KEY=OTHER)
    assert (printed.out, printed.err) == (f"{OTHER}\n", "note: the key in PI_API_KEY\n")
    replaced = pi("key", "new", "--force", PI_API_KEY=OTHER)
    assert "note: PI_API_KEY is set to another key, which takes precedence: `unset PI_API_KEY`" in replaced.err
    assert kept.read_text() != f"{OWN}\n"


def test_a_key_is_not_lost_by_another_one(pi: Pi, kept: Path) -> None:
    for words in (["key", "new"], ["key", "set"]):
        refused = pi(*words, input=OTHER, **UNSET)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.startswith(f"error: there is already a key in `{kept}`\nhint: ")
        assert shown(pi) == OWN
    assert pi("key", "set", input=OWN, **UNSET).code == 0
    assert pi("key", "set", "--force", input=OTHER, **UNSET).code == 0
    assert shown(pi) == OTHER


def test_of_two_at_the_same_time_one_makes_the_key(pi: Pi, file: Path) -> None:
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(lambda _: pi("key", "new", **UNSET), range(4)))
    assert sorted(result.code for result in results) == [0, 2, 2, 2]
    assert re.fullmatch(r"[0-9a-f]{64}", shown(pi))
    assert {path.name for path in file.parent.iterdir()} <= {"key", "key.lock"}


def test_a_full_disk_leaves_the_old_key(kept: Path) -> None:
    """No file may grow here, as on a full disk."""
    command = 'ulimit -f 0; exec "$0" -m pi_cli key new --force'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"error: cannot write `{kept}`: File too large\nhint: nothing was changed" in done.stderr
    assert kept.read_text() == f"{OWN}\n"
    assert not kept.with_name("key.new").exists()


@pytest.mark.parametrize(
    "content",
    [OWN, f"{OWN}\n", f"{OWN}\r\n", f"\n  {OWN}\t\n\n", f"\ufeff{OWN}\n"],
    ids=["no-newline", "newline", "crlf", "space", "bom"],
)
def test_what_editors_add_around_a_key_does_not_count(pi: Pi, file: Path, content: str) -> None:
    write(file, content)
    assert shown(pi) == OWN
    file.unlink()
    assert pi("key", "set", input=content, **UNSET).code == 0
    assert file.read_text() == f"{OWN}\n"


HEADER = "contains characters that an HTTP header cannot carry"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("short", "has fewer than 8 characters"),
        ("a key of words", HEADER),
        ("schlüssel-0123456789", HEADER),
        ("two-keys-in-one\nfile-of-lines", HEADER),
        (b"\xff\xfe" + OWN.encode("utf-16-le"), HEADER),
        ("x" * 5000, "has more than 4000 characters"),
        ("x" * 1_000_000, "has more than 4000 characters"),
        (b"\0" * 64, HEADER),
    ],
    ids=["short", "words", "not-ascii", "lines", "utf-16", "long", "1-MB", "zeros"],
)
def test_a_text_that_cannot_be_a_key_is_refused(pi: Pi, file: Path, content: str | bytes, said: str) -> None:
    write(file, content)
    result = pi("key", "show", **UNSET)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: `{file}` {said}\nhint: write it again with `pi key set --force`")
    if isinstance(content, str):
        given = pi("key", "set", "--force", input=content, **UNSET)
        assert (given.code, given.out) == (2, "")
        assert f"error: the key {said}\n" in given.err
        assert content not in given.err
    assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["missing", "empty", "newline"])
def test_without_a_key_the_way_to_make_one_is_named(pi: Pi, file: Path, content: str | None) -> None:
    if content is not None:
        write(file, content)
    refused = pi("key", "show", **UNSET)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: PI_API_KEY is not set\nhint: make a key with `pi key new`\n"
    assert pi("key", "new", **UNSET).code == 0
    assert len(shown(pi)) == 64


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused(pi: Pi, file: Path, mode: int) -> None:
    write(file, OWN, mode)
    result = pi("key", "show", **UNSET)
    assert (result.code, result.out) == (5, "")
    assert f"error: other users may read or write `{file}`: its mode is {mode:04o}" in result.err
    assert f"hint: `chmod 600 {file}`" in result.err
    assert pi("key", "new", **UNSET).code == 2
    file.chmod(0o600)
    assert shown(pi) == OWN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_until_it_is_replaced(pi: Pi, kept: Path) -> None:
    os.chown(kept, 65534, 65534)
    result = pi("key", "show", **UNSET)
    assert (result.code, result.out) == (5, "")
    assert f"error: `{kept}` belongs to another user" in result.err
    assert pi("key", "new", "--force", **UNSET).code == 0
    assert kept.stat().st_uid == os.geteuid()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [make_folder, make_fifo, link_to_device, link_to_itself])
def test_what_is_not_a_file_is_not_read(pi: Pi, file: Path, make: Callable[[Path], None]) -> None:
    make(file)
    result = pi("key", "show", timeout=20, **UNSET)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith(f"error: cannot read `{file}`: ")
    refused = pi("key", "new", timeout=20, **UNSET)
    assert refused.code in (2, 5)
    assert "Traceback" not in refused.err


def test_a_link_is_followed_and_kept(pi: Pi, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "my files" / "pi-key"
    target.parent.mkdir()
    file.symlink_to(target)
    assert pi("key", "new", **UNSET).code == 0
    assert file.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert shown(pi) == target.read_text().strip()


@pytest.mark.parametrize("folder", ["/dev/null/pi", "/proc/pi"])
def test_a_folder_that_cannot_be_written_to_is_named(pi: Pi, folder: str) -> None:
    result = pi("key", "new", PI_CONFIG_DIR=folder, **UNSET)
    assert (result.code, result.out) == (5, "")
    assert f"error: cannot write `{folder}/key`: " in result.err


def test_a_key_is_not_taken_as_an_argument_and_not_repeated(pi: Pi, file: Path) -> None:
    result = pi("key", "set", OWN, **UNSET)
    assert result.code == 2
    assert "error: the key cannot be an argument" in result.err
    assert OWN not in result.out + result.err
    assert not file.exists()
    assert "error: no key was given" in pi("key", "set", **UNSET).err


def test_a_key_is_typed_without_echo(pi: Pi, file: Path) -> None:
    with at_a_terminal("key", "set", environ=os.environ | UNSET) as terminal:
        terminal.shows("API key (not shown): ")
        terminal.type(f"{OWN}\n")
        assert terminal.wait() == 0
        assert OWN not in terminal.text
    assert shown(pi) == OWN
    assert file.exists()


def test_ctrl_c_at_the_hidden_prompt_restores_the_terminal_and_keeps_nothing(file: Path) -> None:
    with at_a_terminal("key", "set", environ=os.environ | UNSET) as terminal:
        terminal.shows("API key (not shown): ")
        assert not termios.tcgetattr(terminal.keys)[3] & termios.ECHO
        terminal.type("\x03")
        assert terminal.wait() == 128 + signal.SIGINT
        assert termios.tcgetattr(terminal.keys)[3] & termios.ECHO
    assert not file.exists()


def test_a_key_in_the_file_is_not_in_the_traceback_of_a_bug(kept: Path) -> None:
    program = (
        "import sys; from pi_cli.commands import key, main; sys.argv = ['pi', 'key', 'show']\n"
        "def broken(value): raise RuntimeError('unexpected ' + value)\n"
        "key.typer.echo = broken\n"
        "main.main()\n"
    )
    environ = os.environ | UNSET | {"PI_DEBUG": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert "RuntimeError: unexpected [API key]" in done.stderr
    log = (kept.parent / "logs" / "last.log").read_text()
    assert "RuntimeError: unexpected [API key]" in log
    assert OWN not in done.stdout + done.stderr + log


HUB_FILES = {
    "home": ({}, "home/.cache/huggingface/token"),
    "XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "{}/cache"}, "cache/huggingface/token"),
    "HF_HOME": ({"HF_HOME": "{}/hf"}, "hf/token"),
    "HF_TOKEN_PATH": ({"HF_TOKEN_PATH": "{}/secret"}, "secret"),
}


@pytest.mark.parametrize("place", HUB_FILES)
def test_setup_takes_the_token_that_the_hubs_client_has_stored(
    pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for name in ("HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    variables, name = HUB_FILES[place]
    environ = {key: value.format(tmp_path) for key, value in variables.items()} | {"HF_TOKEN": ""}
    assert "error: HF_TOKEN is not set\n" in pi("pods", "setup", "dc1", **environ).err
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hf_stored_0123456789\n")
    found = pi("pods", "setup", "dc1", **environ)
    assert "note: HF_TOKEN is not set: downloads on the pod get the token of `hf auth login`" in found.err
    assert "error: there is no pod `dc1` yet" in found.err
    assert "hf_stored" not in found.out + found.err


def test_a_stored_token_that_cannot_be_read_is_named(pi: Pi, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    result = pi("pods", "setup", "dc1", HF_TOKEN="", HF_TOKEN_PATH=str(tmp_path / "secret"))
    assert result.code == 1
    assert "error: cannot read the token of `hf auth login`: Is a directory" in result.err


def test_the_hubs_old_variable_is_read_and_its_switch_is_respected(pi: Pi) -> None:
    old = {"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "hf_old_0123456789"}
    assert "HF_TOKEN is not set: downloads" in pi("pods", "setup", "dc1", **old).err
    off = pi("pods", "setup", "dc1", HF_HUB_DISABLE_IMPLICIT_TOKEN="1", **old)
    assert (off.code, "error: HF_TOKEN is not set\n" in off.err) == (2, True)


def test_setup_names_all_that_is_missing_at_once(pi: Pi, file: Path) -> None:
    result = pi("pods", "setup", "dc1", HF_TOKEN="", **UNSET)
    assert (result.code, result.out) == (2, "")
    error, hint = result.err.splitlines()
    assert error == "error: HF_TOKEN and PI_API_KEY are not set"
    assert "`export HF_TOKEN=…`" in hint
    assert "`pi key new`" in hint
    write(file, "short")
    both = pi("pods", "setup", "dc1", HF_TOKEN="", **UNSET)
    assert both.err.startswith(f"error: HF_TOKEN is not set; `{file}` has fewer than 8 characters\n")
