"""Held links: a second command uses the connection of the first, and is never worse off because of one.

Over an embedded pod, behind a relay that counts the connections: each is a login.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.hold import client, conversation, messages, place
from pi_cli.pods import shell
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.session import PodSession
from tests.commands.staying import staying
from tests.conftest import Pi, pods_json
from tests.lab.relay import Relay
from tests.until import until

LOADED = """
import os, sys
leave = os._exit
os._exit = lambda code: (print(*sys.modules, file=sys.__stderr__, flush=True), leave(code))
from pi_cli.__main__ import run
run()
"""


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch, environment: Path) -> Iterator[None]:
    monkeypatch.setenv("PI_HOLD", "1")
    monkeypatch.delenv("CI", raising=False)
    assert environment.is_dir()
    yield
    for pid in holders():
        with suppress(ProcessLookupError):  # it may be ending by itself
            os.kill(pid, signal.SIGKILL)


def holders() -> list[int]:
    """Return the holders of this test: they have its folder in their environment."""
    mine = f"PI_CONFIG_DIR={os.environ['PI_CONFIG_DIR']}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            is_holder = b"pi_cli.pods.holder" in (folder / "cmdline").read_bytes()
            if is_holder and mine in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def other() -> place.Place:
    """Return the place of a holder, whatever version of pi it is of."""
    there = place.find()
    assert there
    return there.of_all_versions()[0]


def holder() -> int:
    [pid] = holders()
    return pid


@pytest.fixture
def way(pod: EmbeddedPod) -> Iterator[Relay]:
    """The way to the pod `dc1`."""
    with Relay(pod.address, pod.port) as relay:
        change_ssh(f"-p {pod.port}", f"-p {relay.port}")
        yield relay


@pytest.fixture
def linked(pi: Pi, pod: EmbeddedPod, way: Relay) -> EmbeddedPod:
    """A pod with a model, to which there is a link."""
    assert way.met == 0
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", PI_HOLD="0").code == 0
    assert pi("list").code == 0
    until_linked()
    return pod


def change_ssh(old: str, new: str) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text(path.read_text().replace(old, new))


def agents(pod: EmbeddedPod) -> list[int]:
    """Return the agents that run on a pod; the login shell has become one."""
    return [each.pid for each in pod.processes() if each.command[1:4] == ("-I", "-S", "-c")]


def until_linked(names: str = "dc1") -> None:
    until(lambda: client.linked() == names.split(), f"{names} is linked")


@pytest.mark.usefixtures("linked")
def test_a_second_command_does_not_log_in(pi: Pi, way: Relay) -> None:
    assert "linked" in pi("pods").out
    assert pi("pods", "--json").json[0]["linked"] is True
    for words in (["list", "--json"], ["logs", "q", "--no-follow", "-n", "1"]):

        def does_not_log_in(words: list[str] = words) -> bool:
            before = way.met
            result = pi(*words)
            return result.code == 0 and bool(result.out) and way.met == before

        until(does_not_log_in, "the link has answered within its patience")  # which a busy machine may not
    assert pi("stop", "q").code == 0
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_the_next_agents_of_a_link_are_not_sent_again(pi: Pi, linked: EmbeddedPod, way: Relay) -> None:
    """The pod keeps them; one that has lost them is sent them, and the link stays."""

    def asks_the_pod_to_run(*commands: str) -> bool:
        before = way.met
        linked.commands.clear()
        assert pi("list").code == 0
        until(lambda: len(linked.commands) >= len(commands), "an agent waits for the next request")
        return linked.commands == [*commands] and way.met == before

    until(lambda: asks_the_pod_to_run(shell.KEPT_AGENT), "the pod has kept the agent")
    for file in (linked.home / ".pi" / "programs").iterdir():
        file.unlink()
    until(lambda: asks_the_pod_to_run(shell.KEPT_AGENT, shell.AGENT), "it is sent once more")
    until(lambda: asks_the_pod_to_run(shell.AGENT), "the link is used again")


@pytest.mark.usefixtures("linked")
def test_a_list_over_a_link_shows_what_a_login_does(pi: Pi, way: Relay) -> None:
    of_the_moment = {"age_seconds", "idle_seconds", "answers_checked_seconds"}

    def listed(**settings: str) -> list[dict[str, Any]]:
        rows = pi("list", "--json", **settings).json
        return [{key: value for key, value in row.items() if key not in of_the_moment} for row in rows]

    cold = listed(PI_HOLD="0")
    assert cold[0]["gpu_memory_used_mib"] is not None

    def is_the_same_over_the_link() -> bool:
        before = way.met
        assert listed() == cold
        return way.met == before

    until(is_the_same_over_the_link, "the link has answered within its patience")


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["logs", "q", "--no-follow"]], ids=" ".join)
def test_a_command_over_a_link_loads_nothing_of_a_login(words: list[str], way: Relay) -> None:
    ssh, pods = ("ssh_command", "head_start", "refusals"), ("agent_program", "sending")
    of_a_login = {"asyncssh", *(f"pi_cli.ssh.{name}" for name in ssh), *(f"pi_cli.pods.{name}" for name in pods)}

    def loads_none() -> bool:
        before = way.met
        done = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True)
        return way.met == before and not of_a_login & set(done.stderr.split())

    until(loads_none, "the link has answered within its patience")


def test_a_link_is_there_only_where_it_is_wanted(pi: Pi, way: Relay) -> None:
    for environ in ({"PI_HOLD": "0"}, {"PI_HOLD": ""}):  # the second: there is no terminal
        assert pi("list", **environ).code == 0
        assert pi("list", **environ).code == 0
    Path(os.environ["PI_CONFIG_DIR"], "config.toml").write_text("[hold]\nseconds = 0\n")
    assert pi("list").code == 0
    assert not holders()
    assert way.met == 5
    Path(os.environ["PI_CONFIG_DIR"], "config.toml").write_text("[hold]\nseconds = 'x'\n")
    assert pi("list").code == 0
    assert not holders()
    assert "config.toml" in pi("pods", "unlink").err


@pytest.mark.usefixtures("linked")
def test_the_holder_has_no_key() -> None:
    content = Path(f"/proc/{holder()}/environ").read_bytes()
    assert b"API_KEY" not in content
    assert b"HF_TOKEN" not in content


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "asleep"])
@pytest.mark.usefixtures("linked")
def test_a_holder_that_does_not_answer_costs_a_moment(pi: Pi, way: Relay, number: int) -> None:
    gone = holder()
    before = way.met
    os.kill(gone, number)
    result = pi("list", "--json")
    assert [model["status"] for model in result.json] == ["ready"]
    until_linked()  # to a new holder
    assert way.met == before + 2  # the command's own, and the new holder's
    assert [pid for pid in holders() if pid != gone]
    if number == signal.SIGSTOP:
        os.kill(gone, signal.SIGCONT)
        until(lambda: gone not in holders(), "the holder that has lost its place ends")
        assert client.linked() == ["dc1"]


@pytest.mark.usefixtures("linked")
def test_a_link_that_is_cut_costs_a_login(pi: Pi, way: Relay) -> None:
    way.cut()
    result = pi("list", "--json")
    assert [model["status"] for model in result.json] == ["ready"]
    until_linked()


def test_a_stop_is_reported_as_lost_when_the_holder_dies_during_it(pi: Pi, pod: EmbeddedPod, way: Relay) -> None:
    """As without a link when the connection is lost: the pod still stops the model, and pi does not ask again."""
    own = ("--vllm", "--simulate", "ignore-term")
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", *own, PI_HOLD="0").code == 0
    assert pi("list").code == 0
    until_linked()
    before = way.met
    with staying("stop", "q") as stopping:
        until(lambda: len(agents(pod)) == 2, "one agent stops the model, and another one waits")
        os.kill(holder(), signal.SIGKILL)
        code = stopping.process.wait(60)
    if code:
        assert code == 3
        assert stopping.says("the connection was lost")
        assert way.met == before
    until(lambda: pi("list", "--json", PI_HOLD="0").json == [], "the model is stopped")


def test_what_was_asked_of_an_agent_that_hangs_is_never_done_later(pi: Pi, linked: EmbeddedPod) -> None:
    [waiting] = agents(linked)
    os.kill(waiting, signal.SIGSTOP)
    assert pi("stop", "q").code == 0  # by a login
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", PI_HOLD="0").code == 0
    os.kill(waiting, signal.SIGCONT)
    until(lambda: waiting not in agents(linked), "the agent has ended")
    assert [model["status"] for model in pi("list", "--json", PI_HOLD="0").json] == ["ready"]


@pytest.mark.usefixtures("linked")
def test_a_prompt_goes_over_a_link(pi: Pi, way: Relay) -> None:
    def does_not_log_in() -> bool:
        before = way.met
        result = pi("prompt", "q", "What is 2+2?", "--no-tools")
        return result.code == 0 and "4" in result.out and way.met == before

    until(does_not_log_in, "the link has answered within its patience")
    way.stall()
    assert "4" in pi("prompt", "q", "What is 2+2?", "--no-tools").out


@pytest.mark.usefixtures("linked")
def test_only_the_ports_of_models_can_be_reached_over_a_link() -> None:
    [port] = [model["port"] for model in pods_json()["pods"]["dc1"]["models"].values()]
    assert asyncio.run(opens(port)) == messages.THERE
    assert asyncio.run(opens(22)) == messages.LOST


async def opens(port: int) -> int:
    talk = await conversation.begin("dc1", pods_json()["pods"]["dc1"]["ssh"])
    assert talk
    try:
        return await talk.open(port)
    finally:
        talk.close()


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize(
    "request_",
    [
        ("start", {}), ("inspect", {"gpu_query": ["true"]}), ("survey", {"forget": True, "known": []}),
        ("stop", {"models": []}), ("lease", {}), ("store", {}), (["survey"], {}), ("survey", "x"),
    ],
    ids=str,
)  # fmt: skip
def test_the_holder_asks_only_what_changes_nothing_and_has_no_program(request_: tuple[Any, Any]) -> None:
    operation, request = request_
    wish = {"operation": operation, "beat": 5.0, "request": request, "sure": False}

    async def is_taken() -> bool:
        talk = await conversation.begin("dc1", pods_json()["pods"]["dc1"]["ssh"])
        assert talk
        try:
            return await talk.wish(wish)
        finally:
            talk.close()

    assert not asyncio.run(is_taken())


def test_a_pod_that_has_another_key_now_is_refused_by_the_next_login(pi: Pi, linked: EmbeddedPod) -> None:
    """An authenticated connection stays what it is, as with ssh's own; the next login sees the new key."""
    linked.new_host_key()
    assert pi("list").code == 0
    assert pi("pods", "unlink").out == "closed the connection to `dc1`\n"
    result = pi("list")
    assert result.code == 3
    assert "host key" in result.err


@pytest.mark.usefixtures("linked")
def test_a_key_that_pi_no_longer_has_pinned_ends_the_link(pi: Pi) -> None:
    known = Path(os.environ["PI_CONFIG_DIR"], "known_hosts")
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known.write_text(f"dc1 {other}")
    assert pi("list").code == 3
    until(lambda: not holders(), "the holder ends")


@pytest.mark.parametrize(
    "words", [["pods", "remove", "dc1", "--yes"], ["pods", "rename", "dc1", "dc9"], ["pods", "unlink", "dc1"]]
)
@pytest.mark.usefixtures("linked")
def test_commands_end_a_link(pi: Pi, words: list[str]) -> None:
    assert pi(*words).code == 0
    until(lambda: not holders(), "the holder ends")
    assert not place.find() or not list(place.find().folder.iterdir())  # type: ignore[union-attr]


@pytest.mark.usefixtures("way")
def test_unlink_calls_off_a_link_that_a_command_has_just_begun(pi: Pi) -> None:
    assert pi("list").code == 0
    assert holders(), "one is coming"
    assert pi("pods", "unlink").code == 0
    until(lambda: not holders(), "it ends")
    folder = place.find()
    assert folder
    assert not list(folder.folder.iterdir())


@pytest.mark.usefixtures("way")
def test_another_version_of_pi_can_end_a_link_and_an_update_does(pi: Pi, tmp_path: Path) -> None:
    for package in ("pi_cli", "remote"):
        shutil.copytree(Path(package), tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def link() -> None:
        listing = [sys.executable, "-m", "pi_cli", "list"]
        subprocess.run(listing, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True)
        until(lambda: client.linked(other()) == ["dc1"], "dc1 is linked")

    link()
    assert client.linked() == [], "it is no use to this version"
    assert pi("pods", "unlink").out == "closed the connection to `dc1`\n"
    until(lambda: not holders(), "it ends")
    link()
    (tmp_path / "pi_cli/hold/link.py").touch()
    until(lambda: not holders(), "it ends")


@pytest.mark.usefixtures("linked")
def test_another_ssh_command_ends_a_link(pi: Pi) -> None:
    change_ssh("ssh -p", "ssh -o ServerAliveInterval=3 -p")
    until(lambda: not holders(), "the holder ends")
    assert pi("list").code == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["hup", "term"])
def test_a_signal_ends_the_holder_and_nothing_stays(linked: EmbeddedPod, number: int) -> None:
    folder = place.find()
    assert folder
    os.kill(holder(), number)
    until(lambda: not holders(), "the holder ends")
    assert list(folder.folder.iterdir()) == []
    until(lambda: not agents(linked), "no agent waits")


@pytest.mark.usefixtures("linked")
def test_a_link_ends_some_time_after_its_last_use() -> None:
    Path(os.environ["PI_CONFIG_DIR"], "config.toml").write_text("[hold]\nseconds = 1\n")
    until(lambda: not holders(), "the holder ends")


def test_ctrl_c_while_a_command_follows_over_a_link(linked: EmbeddedPod) -> None:
    with staying("logs", "q") as following:
        following.prints(1)
        assert following.end(signal.SIGINT) == 130
    until(lambda: len(agents(linked)) == 1, "one agent waits")


@pytest.mark.parametrize("attack", ["open folder", "link", "foreign socket"])
@pytest.mark.usefixtures("pod")
def test_a_place_that_others_could_have_made_is_not_used(pi: Pi, attack: str, tmp_path: Path) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"], "hold")
    if attack == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir(mode=0o777 if attack == "open folder" else 0o700)
        folder.chmod(0o777 if attack == "open folder" else 0o700)
    if attack == "foreign socket":
        there = place.find()
        assert there
        with socket.socket(socket.AF_UNIX) as silent:  # accepts, and never says anything
            silent.bind(str(there.address()))
            silent.listen()
            assert pi("list").code == 0
        until_linked()  # the holder has replaced it
        return
    assert pi("list").code == 0
    assert pi("list").code == 0
    assert not holders()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
@pytest.mark.usefixtures("linked")
def test_another_user_gets_nothing_from_the_socket() -> None:
    """Even where he could reach it: its mode, the mode of its folder and the kernel's word on his uid all forbid it."""
    there = place.find()
    assert there
    for each in (there.folder, *there.folder.parents):
        if each.stat().st_uid == 0 and str(each).startswith("/tmp"):
            each.chmod(0o755)
    there.socket.chmod(0o666)
    program = (
        "import os, socket, sys\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(5)\n"
        's.connect(sys.argv[1])\ns.sendall(b\'{"ask": "status"}\\n\')\nprint(s.recv(100))\n'
    )
    done = subprocess.run(["python3", "-c", program, str(there.address())], capture_output=True, text=True)
    there.folder.chmod(0o700)
    assert "dc1" not in done.stdout


def test_a_held_session_has_all_that_a_session_has() -> None:
    from pi_cli.hold.session import HeldSession

    public = {name for name in [*vars(PodSession), *PodSession.__annotations__] if not name.startswith("_")}
    ours = {*vars(HeldSession), *HeldSession.__init__.__code__.co_names, *HeldSession.__annotations__}
    of_a_login = {"asked_a_person", "began_with", "first", "first_of_all", "login", "opened"}
    of_the_users_commands = {"environment", "process_of"}
    assert public - of_a_login - of_the_users_commands <= ours


@pytest.mark.parametrize("words", [["list", "--json"], ["stop", "q", "--json"]], ids=["list", "stop"])
@pytest.mark.usefixtures("linked")
def test_a_link_that_has_died_silently_costs_its_patience(pi: Pi, way: Relay, words: list[str]) -> None:
    """And not the 28 seconds after which keepalives find it dead."""
    way.stall()
    before = way.met
    begun = time.monotonic()
    [result] = pi(*words).json
    assert result["name"] == "q"
    assert time.monotonic() - begun < 20
    assert way.met > before
    until_linked()  # anew
