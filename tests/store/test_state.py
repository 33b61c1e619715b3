"""`pods.json`: kept exactly, changed in one step, refused when broken."""

import errno
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_cli.errors import BadUsage, StateUnreadable
from pi_cli.store import state
from pi_cli.store.records import Gpu, Model, Pod, Storage

DOCUMENTED = {
    "pods": {
        "dc1": {
            "ssh": "ssh root@1.2.3.4",
            "gpus": [{"id": 0, "name": "H100", "memory": "80GB"}],
            "models": {"qwen": {"model": "Qwen/Qwen2.5-72B", "port": 8001, "gpu": "0", "pid": 12345}},
        }
    },
    "active": "dc1",
}

TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["q\x1b[2J", "\x9b6n", "\u202e", "a/b", '"', "é"]))
WHOLE = st.integers(-1, 1 << 70)
GPU_IDS = st.lists(st.integers(0, 99), max_size=3).map(lambda ids: ",".join(map(str, ids)))
EXTRA = st.dictionaries(TEXTS.map("x-{}".format), st.one_of(TEXTS, WHOLE, st.none(), st.lists(TEXTS)), max_size=2)
MODELS = st.builds(Model, model=TEXTS, port=WHOLE, gpu=GPU_IDS, pid=WHOLE, uid=st.none() | TEXTS, extra=EXTRA)
GPUS = st.builds(Gpu, id=WHOLE, name=TEXTS, memory=TEXTS, extra=EXTRA)
PODS = st.builds(
    Pod,
    ssh=TEXTS,
    gpus=st.lists(GPUS, max_size=2),
    models=st.dictionaries(TEXTS, MODELS, max_size=3),
    vllm=st.none() | TEXTS,
    storage=st.none() | st.builds(Storage, path=TEXTS, size=st.none() | TEXTS, extra=EXTRA),
    connect_timeout=st.none() | st.floats(0.1, 1e6),
    extra=EXTRA,
)
STATES = st.builds(state.State, pods=st.dictionaries(TEXTS, PODS, max_size=2), active=st.none() | TEXTS, extra=EXTRA)


@pytest.fixture
def file(environment: Path) -> Path:
    folder = environment / ".pi"
    folder.mkdir()
    return folder / "pods.json"


def test_the_documented_shape_is_read(file: Path) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    loaded = state.load()
    assert loaded.active == "dc1"
    assert loaded.pods["dc1"] == Pod(
        "ssh root@1.2.3.4",
        [Gpu(0, "H100", "80GB")],
        {"qwen": Model("Qwen/Qwen2.5-72B", port=8001, gpu="0", pid=12345)},
    )


def test_the_documented_shape_survives_a_round_trip_untouched(file: Path) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    with state.edit() as current:
        current.pods["dc1"].models["qwen"].pid = 99
    written = json.loads(file.read_text())
    written["pods"]["dc1"]["models"]["qwen"]["pid"] = 12345
    assert written == DOCUMENTED


def test_what_setup_found_out_about_a_pod_survives_a_round_trip(file: Path) -> None:
    found = json.loads(json.dumps(DOCUMENTED))
    found["pods"]["dc1"] |= {
        "vllm": "0.32.0",
        "storage": {"path": "/mnt/models", "size": "4.0TB", "mount": "mount -a", "kind": "nfs4"},
        "provider": "datacrunch",
        "connect_timeout": 40,
    }
    found["pods"]["dc2"] = {"ssh": "ssh x", "gpus": [], "models": {}, "storage": {"path": "/workspace"}}
    file.write_text(json.dumps(found))
    with state.edit() as current:
        pod = current.pods["dc1"]
        assert pod.storage == Storage("/mnt/models", "4.0TB", "mount -a", {"kind": "nfs4"})
        assert (pod.provider, pod.connect_timeout) == ("datacrunch", 40)
        assert current.pods["dc2"].storage == Storage("/workspace")
        current.active = None
    assert json.loads(file.read_text()) == found | {"active": None}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("storage", "/mnt", "`pods.dc1.storage` should be an object"),
        ("storage", {}, "`pods.dc1.storage.path` should be a text"),
        ("provider", 7, "`pods.dc1.provider` should be a text"),
        ("connect_timeout", "40", "`pods.dc1.connect_timeout` should be a number of seconds"),
        ("connect_timeout", True, "`pods.dc1.connect_timeout` should be a number of seconds"),
        ("connect_timeout", 0, "`pods.dc1.connect_timeout` should be a number of seconds"),
    ],
)
def test_what_setup_never_wrote_is_refused_with_its_place(file: Path, key: str, value: object, said: str) -> None:
    broken = json.loads(json.dumps(DOCUMENTED))
    broken["pods"]["dc1"][key] = value
    file.write_text(json.dumps(broken))
    with pytest.raises(StateUnreadable, match=re.escape(said)):
        state.load()


def test_keys_of_a_newer_pi_are_kept(file: Path) -> None:
    """Fault 73."""
    newer = json.loads(json.dumps(DOCUMENTED))
    newer["theme"] = "dark"
    newer["pods"]["dc1"]["volume"] = {"path": "/mnt"}
    newer["pods"]["dc1"]["gpus"][0]["uuid"] = "GPU-1"
    newer["pods"]["dc1"]["models"]["qwen"]["phase"] = "ready"
    file.write_text(json.dumps(newer))
    with state.edit() as current:
        current.active = None
    assert json.loads(file.read_text()) == newer | {"active": None}


@pytest.mark.parametrize("gpu", ["0,1", [0, 1], "0, 1"])
def test_gpu_ids_are_understood_as_text_and_as_a_list(file: Path, gpu: object) -> None:
    """Fault 73."""
    by_hand = json.loads(json.dumps(DOCUMENTED))
    by_hand["pods"]["dc1"]["models"]["qwen"]["gpu"] = gpu
    file.write_text(json.dumps(by_hand))
    assert state.load().pods["dc1"].models["qwen"].gpus == [0, 1]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b'{"pods": {"dc1": ',
        b"[]",
        b"null",
        b"\xff\xfe{\x00",
        b"\x00\x01\x02",
        b'<<<<<<< HEAD\n{"pods": {}}',
        b'{"pods": []}',
        b'{"pods": {"dc1": {"gpus": []}}}',
        b'{"pods": {"dc1": {"ssh": 7}}}',
        b'{"pods": {"dc1": {"ssh": "x", "models": {"q": {"model": "m", "port": "8001", "gpu": "0", "pid": 1}}}}}',
        b'{"pods": {}, "active": 1}',
        b'{"pods": {}, "pods": {}}',
        b'{"pods": {"dc1": {"ssh": "ssh x"}, "dc1": {"ssh": "ssh y"}}}',
        b'{"pods": {}, "since": NaN}',
        b'{"pods": {"dc1": {"ssh": "ssh \\ud800"}}}',
    ],
)
def test_a_broken_file_is_refused_by_name_and_left_unchanged(file: Path, broken: bytes) -> None:
    """Fault 67."""
    file.write_bytes(broken)
    with pytest.raises(StateUnreadable, match=r"pods\.json"), state.edit() as current:
        current.active = "x"
    assert file.read_bytes() == broken


def test_an_error_says_where_in_the_file_it_is(file: Path) -> None:
    file.write_text('{"pods": {"dc1": {"ssh": "ssh x", "models": {"q": {"model": "m", "gpu": "0", "pid": 1}}}}}')
    with pytest.raises(StateUnreadable, match=r"`pods\.dc1\.models\.q\.port` should be a number"):
        state.load()


def test_nothing_is_saved_when_the_block_fails(file: Path) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    with suppress(ZeroDivisionError), state.edit() as current:
        current.pods.clear()
        _ = 1 / 0
    assert json.loads(file.read_text()) == DOCUMENTED


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("port", "8001", "`pods.dc1.models.qwen.port` should be a number"),
        ("pid", 12.5, "`pods.dc1.models.qwen.pid` should be a number"),
        ("pid", True, "`pods.dc1.models.qwen.pid` should be a number"),
        ("gpu", "all", "`pods.dc1.models.qwen.gpu` should be GPU ids"),
        ("model", None, "`pods.dc1.models.qwen.model` should be a text"),
        ("uid", 5, "`pods.dc1.models.qwen.uid` should be a text"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(file: Path, key: str, value: object, complaint: str) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    with pytest.raises(StateUnreadable, match=re.escape(complaint)) as caught, state.edit() as current:
        setattr(current.pods["dc1"].models["qwen"], key, value)
    assert (caught.value.exit_code, "nothing was changed" in str(caught.value.hint)) == (5, True)
    assert json.loads(file.read_text()) == DOCUMENTED
    assert {path.name for path in file.parent.iterdir() if ".lock" not in path.name} == {"pods.json"}


def test_what_was_written_is_read_again_whatever_it_says(file: Path) -> None:
    """What a pod or a user could put there; reading makes it safe, so it is the same from the second time on."""

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(STATES)
    def check(wanted: state.State) -> None:
        file.unlink(missing_ok=True)
        with state.edit() as current:
            current.pods, current.active, current.extra = wanted.pods, wanted.active, wanted.extra
        assert len(state.load().pods) == len(wanted.pods)
        for again in (1, 2):
            before = state.load()
            with state.edit() as current:
                current.extra["again"] = again
        assert before.extra.pop("again") == 1
        after = state.load()
        assert after.extra.pop("again") == 2
        assert after == before

    check()


def test_the_file_and_its_folder_are_private_whatever_the_umask(environment: Path) -> None:
    old = os.umask(0)
    try:
        with state.edit() as current:
            current.pods["dc1"] = Pod("ssh root@1.2.3.4")
    finally:
        os.umask(old)
    folder = environment / ".pi"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "pods.json").stat().st_mode) == 0o600


def test_a_linked_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text(json.dumps(DOCUMENTED))
    file.symlink_to(real)
    with state.edit() as current:
        current.active = None
    assert file.is_symlink()
    assert json.loads(real.read_text())["active"] is None


EDIT = """
import errno, fcntl, os, sys
from pi_cli.store import state, records
if "without-locks" in sys.argv:
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
for i in range(5):
    with state.edit() as s:
        s.pods[f"p{sys.argv[1]}-{i}"] = records.Pod("ssh x")
"""


def edit_at_once(*folders: Path, count: int = 4, options: Sequence[str] = ()) -> None:
    """Let `count` processes make five edits each, in these folders by turns; the file is never half written."""
    editors = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", EDIT, str(number), *options],
            env=os.environ | {"PI_CONFIG_DIR": str(folders[number % len(folders)])},
        )
        for number in range(count)
    ]
    while any(editor.poll() is None for editor in editors):
        state.load()
    assert [editor.returncode for editor in editors] == [0] * count
    assert len(state.load().pods) == 5 * count


def test_forty_edits_at_once_are_all_kept(file: Path) -> None:
    """Fault 70."""
    edit_at_once(file.parent, count=8)


def test_edits_through_links_to_one_file_are_all_kept(file: Path, tmp_path: Path) -> None:
    """The folders of four machines, say, whose dot files are one checkout."""
    file.write_text("{}")
    folders = [tmp_path / f"config-{number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
        (folder / "pods.json").symlink_to(file)
    edit_at_once(*folders)


def test_edits_on_a_file_system_without_locks_are_all_kept(file: Path) -> None:
    """The native lock may be there from another mount; that one is empty, and no process will ever remove it."""
    (file.parent / "pods.json.lock").write_text("")
    edit_at_once(file.parent, options=["without-locks"])


def test_a_lock_file_of_a_process_that_is_gone_is_taken_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    hold = EDIT.replace("s.pods[f", "print('held', flush=True); sys.stdin.read(); s.pods[f")
    command = [sys.executable, "-c", hold, "0", "without-locks"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    assert (file.parent / "pods.json.soft-lock").exists()

    def flock(descriptor: int, operation: int) -> None:
        del descriptor, operation
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with state.edit() as current:
        current.active = None
    assert file.exists()


def test_a_link_in_place_of_the_note_of_who_holds_the_lock_is_not_followed(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (file.parent / "pods.json.holder").symlink_to(other)
    with state.edit() as current:
        current.active = None
    assert other.read_text() == "kept"


def test_links_that_lead_in_a_circle_are_named(file: Path) -> None:
    file.symlink_to(file)
    with pytest.raises(StateUnreadable, match=r"pods\.json"), state.edit():
        pass


@pytest.mark.timeout(5)
def test_a_folder_that_takes_no_files_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", "/proc/self")
    with pytest.raises(StateUnreadable, match=r"cannot write `/proc/\d+/pods\.json`"), state.edit():
        pass


@pytest.mark.parametrize(
    ("folder", "named"), [("~nobody99/x", "`PI_CONFIG_DIR` is `~nobody99/x`"), (None, "`HOME` are not set")]
)
def test_without_a_home_the_error_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, folder: str | None, named: str
) -> None:
    """Containers run under user ids that the password database does not have."""
    import pwd

    def getpwuid(id: int) -> object:
        raise KeyError(id)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("PI_CONFIG_DIR")
    if folder:
        monkeypatch.setenv("PI_CONFIG_DIR", folder)
    with pytest.raises(StateUnreadable, match=re.escape(named)) as caught:
        state.load()
    assert "set `PI_CONFIG_DIR`" in str(caught.value.hint)


def test_what_no_file_can_hold_is_not_written(file: Path) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    complaint = "half of a surrogate pair in `pods.dc1.ssh`"
    with pytest.raises(StateUnreadable, match=complaint), state.edit() as current:
        current.pods["dc1"].ssh = "ssh root@\udcff"
    assert json.loads(file.read_text()) == DOCUMENTED


def test_a_kill_in_the_middle_of_saving_leaves_the_old_or_the_new(file: Path) -> None:
    """Fault 71."""
    chance = random.Random(7)
    file.write_text("{}")
    for _ in range(30):
        child = os.fork()
        if child == 0:
            number = 0
            while True:
                number += 1
                with state.edit() as current:
                    current.pods["dc1"] = Pod(f"ssh root@{number}", extra={"long": "x" * 100_000})
        time.sleep(chance.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left = json.loads(file.read_text())
        assert left == {} or left["pods"]["dc1"]["long"] == "x" * 100_000
    with state.edit() as current:
        current.pods["dc1"] = Pod("ssh root@last")
    assert state.load().pods["dc1"].ssh == "ssh root@last"
    assert {path.name for path in file.parent.iterdir() if ".lock" not in path.name} == {"pods.json"}


def test_a_lock_that_stays_held_names_its_holder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pi_cli.store import files

    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.2)
    hold = "import sys\nfrom pi_cli.store import state\nwith state.edit(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateUnreadable, match=rf"locked by process {holder.pid}"), state.edit():
            pass
        holder.kill()
    with state.edit() as current:  # the lock went with its holder
        current.active = None
    assert file.exists()


def test_an_unwritable_folder_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 69."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("PI_CONFIG_DIR", str(in_the_way))
    with pytest.raises(StateUnreadable), state.edit():
        pass


def test_pods_are_selected_by_name_or_all_or_the_active_one(file: Path) -> None:
    file.write_text(json.dumps(DOCUMENTED))
    current = state.load()
    current.pods["dc2"] = Pod("ssh x")
    assert list(current.select()) == ["dc1"]
    assert list(current.select(["dc2", "dc2"])) == ["dc2"]
    assert list(current.select(every=True)) == ["dc1", "dc2"]
    with pytest.raises(BadUsage, match="there is no pod `dc9`"):
        current.select(["dc9"])


def test_without_an_active_pod_the_error_says_how_to_choose() -> None:
    with pytest.raises(BadUsage, match="no pods yet"):
        state.State().select()
    with pytest.raises(BadUsage, match="no pod is active") as caught:
        state.State({"dc1": Pod("ssh x")}).select()
    assert "pi pods active" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", ".x", "-x", "../x", "a b", "a/b", "a;b", "x" * 65, "é"])
def test_names_that_would_escape_a_path_or_a_command_are_refused(name: str) -> None:
    with pytest.raises(BadUsage):
        state.check_name("model", name)
