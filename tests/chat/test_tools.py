"""The tools, used as a model uses them: a call in JSON goes in, text comes out, and nothing else ever happens."""

import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pi_cli.chat import files, tools
from pi_cli.chat.events import ToolCall

Use = Callable[..., str]


@pytest.fixture
def use(cwd: Path) -> Use:
    """Use a tool in `cwd`; what fails starts with `error: `."""

    def use(name: str, **arguments: Any) -> str:
        call = ToolCall("1", name, json.dumps(arguments))
        result = asyncio.run(tools.use(tools.toolbox(cwd), call))
        assert result.failed == result.output.startswith("error: ")
        return result.output

    return use


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ls


def test_ls_shows_what_each_entry_is(cwd: Path, use: Use) -> None:
    write(cwd / "src" / "a.py")
    write(cwd / ".hidden")
    write(cwd / "notes with spaces.txt")
    (cwd / "link").symlink_to("src/a.py")
    (cwd / "broken").symlink_to("nowhere")

    assert use("ls", path=str(cwd)).splitlines() == [
        ".hidden",
        "broken -> nowhere",
        "link -> src/a.py",
        "notes with spaces.txt",
        "src/",
    ]


def test_ls_leaves_out_what_is_to_be_ignored(cwd: Path, use: Use) -> None:
    for name in ("a.py", "a.pyc", "b.pyc"):
        write(cwd / name)

    assert use("ls", path=".", ignore=["*.pyc"]) == "a.py"
    assert use("ls", path=".", ignore="a*") == "b.pyc"
    assert use("ls", path=".", ignore=["*"]) == "(everything in it is ignored)"


def test_ls_of_a_huge_directory_shows_the_first_entries_and_their_number(cwd: Path, use: Use) -> None:
    for number in range(2500):
        (cwd / f"{number:05}").touch()

    lines = use("ls", path=".").splitlines()

    assert lines[0] == "00000"
    assert lines[-1] == "[2000 of 2500 entries shown; use `glob` for the ones you mean]"
    assert len(lines) == 2001


def test_ls_of_an_empty_directory_says_so(use: Use) -> None:
    assert use("ls", path=".") == "(an empty directory)"


def test_a_relative_path_is_taken_from_the_working_directory(cwd: Path, use: Use) -> None:
    write(cwd / "docs" / "a.md", "hello")

    assert use("ls", path="docs") == "a.md"
    assert use("read", file_path="docs/../docs/a.md") == "hello"


# read


def test_read_shows_a_file_and_how_to_read_on(cwd: Path, use: Use) -> None:
    write(cwd / "a.txt", "".join(f"line {number}\n" for number in range(1, 6)))

    assert use("read", file_path="a.txt").splitlines() == [f"line {number}" for number in range(1, 6)]
    assert use("read", file_path="a.txt", offset=2, limit=2) == (
        "line 2\nline 3\n[lines 2 to 3; there is more: read on with offset=4]"
    )
    assert use("read", file_path="a.txt", offset=4, limit=2) == "line 4\nline 5"


def test_following_the_note_shows_every_line_once(cwd: Path, use: Use) -> None:
    wanted = [f"{number} {'x' * 90}" for number in range(5000)]
    write(cwd / "a.txt", "\n".join(wanted))

    shown: list[str] = []
    offset = 1
    while offset:
        *lines, last = use("read", file_path="a.txt", offset=offset).splitlines()
        is_note = last.startswith("[lines ")
        shown += lines if is_note else [*lines, last]
        offset = int(last.removesuffix("]").rpartition("=")[2]) if is_note else 0

    assert shown == wanted


def test_one_result_is_never_too_much_for_a_model(cwd: Path, use: Use) -> None:
    write(cwd / "long.txt", ("x" * 1500 + "\n") * 2000)
    write(cwd / "line.txt", "y" * 5_000_000)

    assert len(use("read", file_path="long.txt")) < 101_000
    assert use("read", file_path="line.txt") == "y" * 2000 + " […4998000 bytes more in this line]"


def test_reading_beyond_the_end_says_where_the_end_is(cwd: Path, use: Use) -> None:
    write(cwd / "a.txt", "one\ntwo\n")
    write(cwd / "empty")

    assert "has 2 lines; none from 3 on" in use("read", file_path="a.txt", offset=3)
    assert "has 2 lines" in use("read", file_path="a.txt", offset=2**62)
    assert use("read", file_path="a.txt", offset=-5, limit=0).startswith("one\n[lines 1 to 1")
    assert use("read", file_path="empty") == "(an empty file)"


def test_a_binary_file_is_not_shown(cwd: Path, use: Use) -> None:
    (cwd / "a.out").write_bytes(b"\x7fELF\0\1\2")

    assert use("read", file_path="a.out") == "error: a.out is a binary file of 7 bytes, not text"


def test_text_that_is_not_utf8_is_shown_as_well_as_possible(cwd: Path, use: Use) -> None:
    (cwd / "latin").write_bytes(b"caf\xe9\r\nend")

    assert use("read", file_path="latin") == "caf\ufffd\nend"


@pytest.mark.parametrize(
    "path",
    ["/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc", "/proc/self/cwd/x", "/sys/kernel", "/tmp/../proc/1/maps",
     "//proc/self/environ", "link/environ", "direct"],
)  # fmt: skip
def test_the_kernels_own_trees_are_closed_also_behind_links(cwd: Path, use: Use, path: str) -> None:
    (cwd / "link").symlink_to("/proc/self")
    (cwd / "direct").symlink_to("/proc/self/environ")

    for answer in (
        use("read", file_path=path),
        use("ls", path=path),
        use("glob", pattern="*", path=path),
        use("rg", args=f". {path}"),
        use("rg", args=f"--files {path}"),
    ):
        assert "closed to tools" in answer


def test_what_is_no_regular_file_is_not_opened(cwd: Path, use: Use) -> None:
    os.mkfifo(cwd / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(cwd)  # a socket's name has to be short
        listener.bind("sock")

    assert "is not a regular file" in use("read", file_path="fifo")
    assert "is not a regular file" in use("read", file_path="sock")


def test_a_wrong_path_gets_an_answer_that_helps(cwd: Path, use: Use) -> None:
    write(cwd / "src" / "agent.py")

    assert use("read", file_path=f"{cwd}/src/agnt.py").endswith(f"did you mean {cwd}/src/agent.py?")
    assert use("read", file_path=f"{cwd}/lib/x.py").endswith(f"; {cwd} exists, but has no `lib`")
    assert use("read", file_path="src").endswith("src is a directory (`ls` lists it)")
    assert use("ls", path="src/agent.py").endswith("is not a directory (`read` shows files)")
    assert "is not a directory" in use("read", file_path="src/agent.py/x")
    assert "is not a usable path" in use("ls", path="~nobody-of-this-name/x")


def test_symlinks_in_a_circle_end(cwd: Path, use: Use) -> None:
    (cwd / "a").symlink_to("b")
    (cwd / "b").symlink_to("a")
    (cwd / "self").symlink_to(".")

    assert "too many levels of symbolic links" in use("read", file_path="a")
    assert "too many levels of symbolic links" in use("ls", path="a")
    assert use("ls", path=".").splitlines() == ["a -> b", "b -> a", "self -> ."]
    assert use("glob", pattern="**/x.py").startswith("no file matches")
    assert "too many levels of symbolic links" in use("rg", args="x a")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; anybody else may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read_is_said_so() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to everybody else
        where = Path(folder)
        where.chmod(0o755)
        write(where / "secret.txt", "x").chmod(0)
        (where / "closed").mkdir(mode=0)
        box = tools.toolbox(where)
        calls = [
            ToolCall("1", "read", '{"file_path": "secret.txt"}'),
            ToolCall("2", "ls", '{"path": "closed"}'),
            ToolCall("3", "glob", '{"pattern": "**/*"}'),
        ]
        with as_nobody():
            answers = [asyncio.run(tools.use(box, call)).output for call in calls]

    assert answers == [
        f"error: permission denied: {folder}/secret.txt",
        f"error: permission denied: {folder}/closed",
        f"{folder}/secret.txt",
    ]


# glob


@pytest.fixture
def tree(cwd: Path) -> Path:
    for name in ("a.py", "b.ts", "src/a.py", "src/deep/er/c.py", "src/deep/d.js", ".git/config.py", ".github/ci.py"):
        write(cwd / name)
    return cwd


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", [".github/ci.py", "a.py", "src/a.py", "src/deep/er/c.py"]),
        ("src/*.py", ["src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/deep/er/c.py"]),
        ("./src/**", ["src/a.py", "src/deep/d.js", "src/deep/er/c.py"]),
        ("**/*.{ts,js}", ["b.ts", "src/deep/d.js"]),
        ("{src,lib}/*.py", ["src/a.py"]),
        ("**/deep/**/c.*", ["src/deep/er/c.py"]),
        ("?.[pt][ys]", ["a.py", "b.ts"]),
        (".git/*", [".git/config.py"]),
        ("src/a.py", ["src/a.py"]),
    ],
)
def test_glob_finds_the_files_a_pattern_means(tree: Path, use: Use, pattern: str, names: list[str]) -> None:
    assert use("glob", pattern=pattern).splitlines() == [f"{tree}/{name}" for name in names]
    assert use("glob", pattern=f"{tree}/{pattern}").splitlines() == [f"{tree}/{name}" for name in names]


def test_glob_starts_where_it_is_told_to(tree: Path, use: Use) -> None:
    assert use("glob", pattern="*.py", path=f"{tree}/src") == f"{tree}/src/a.py"
    assert "no such file or directory" in use("glob", pattern="*", path="lib")
    assert "is not a directory" in use("glob", pattern="*", path="a.py")


@pytest.mark.usefixtures("tree")
def test_glob_that_finds_nothing_says_how_to_look_deeper(use: Use) -> None:
    assert use("glob", pattern="c.py") == "no file matches (`**/` in front looks below, too)"
    assert use("glob", pattern="**/nothing") == "no file matches"
    assert use("glob", pattern="/nowhere/*.py").startswith("no file matches")


def test_glob_stops_when_there_is_too_much(cwd: Path, use: Use) -> None:
    for number in range(2100):
        (cwd / f"{number:05}").touch()

    lines = use("glob", pattern="*").splitlines()

    assert 1000 < len(lines) <= 2001
    assert lines[-1] == "[there may be more: narrow the pattern or the path]"


@pytest.mark.parametrize(
    "pattern", ["", "/", "a" * 1000, "{" * 400, "{a,b}" * 90, "**/" * 150 + "x", "*a" * 200, "[z-a]", "[", "{a,{b,c}}"]
)
def test_no_pattern_takes_long(cwd: Path, use: Use, pattern: str) -> None:
    write(cwd / ("a" * 200))
    began = time.monotonic()
    use("glob", pattern=pattern)
    assert time.monotonic() - began < 5


def test_glob_does_not_enter_the_kernels_trees(use: Use) -> None:
    assert use("glob", pattern="/p*/sys/kernel/hostname") == "no file matches (`**/` in front looks below, too)"
    assert "closed to tools" in use("glob", pattern="/proc/sys/kernel/host*")


def test_work_in_a_thread_ends_when_nobody_waits_for_it() -> None:
    ended = Event()

    def work(*, stop: Event) -> str:
        stop.wait(60)
        ended.set()
        return ""

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tools.in_thread(work)

    asyncio.run(leave())
    assert ended.wait(5)


def test_a_search_that_is_told_to_stop_stops(tree: Path) -> None:
    stop = Event()
    stop.set()
    assert "there may be more" in files.glob("**/*", cwd=tree, stop=stop)
