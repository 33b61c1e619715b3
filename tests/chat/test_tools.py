"""The tools, called as a model calls them: JSON goes in, text comes out, and nothing else ever happens."""

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
from pi_cli.chat.access import Access
from pi_cli.chat.events import ToolCall

Use = Callable[..., str]


@pytest.fixture
def use(cwd: Path) -> Use:
    """Return a function that calls a tool in `cwd`; failed results start with `error: `."""

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


def test_ls_shows_the_kind_of_each_entry(cwd: Path, use: Use) -> None:
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


def test_ls_omits_ignored_names(cwd: Path, use: Use) -> None:
    for name in ("a.py", "a.pyc", "b.pyc"):
        write(cwd / name)

    assert use("ls", path=".", ignore=["*.pyc"]) == "a.py"
    assert use("ls", path=".", ignore="a*") == "b.pyc"
    assert use("ls", path=".", ignore=["*"]) == "(all entries are ignored)"


def test_ls_of_a_huge_directory_shows_the_first_entries_and_the_total(cwd: Path, use: Use) -> None:
    for number in range(2500):
        (cwd / f"{number:05}").touch()

    lines = use("ls", path=".").splitlines()

    assert lines[0] == "00000"
    assert lines[-1] == "[2000 of 2500 entries shown; use `glob` to select]"
    assert len(lines) == 2001


def test_ls_of_an_empty_directory_says_so(use: Use) -> None:
    assert use("ls", path=".") == "(an empty directory)"


def test_a_relative_path_starts_from_the_working_directory(cwd: Path, use: Use) -> None:
    write(cwd / "docs" / "a.md", "hello")

    assert use("ls", path="docs") == "a.md"
    assert use("read", file_path="docs/../docs/a.md") == "hello"


# read


def test_read_shows_a_file_and_how_to_get_the_rest(cwd: Path, use: Use) -> None:
    write(cwd / "a.txt", "".join(f"line {number}\n" for number in range(1, 6)))

    assert use("read", file_path="a.txt").splitlines() == [f"line {number}" for number in range(1, 6)]
    assert use("read", file_path="a.txt", offset=2, limit=2) == (
        "line 2\nline 3\n[lines 2 to 3; for more, use offset=4]"
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


def test_a_tool_result_is_limited_in_size(cwd: Path, use: Use) -> None:
    write(cwd / "long.txt", ("x" * 1500 + "\n") * 2000)
    write(cwd / "line.txt", "y" * 5_000_000)

    assert len(use("read", file_path="long.txt")) < 101_000
    assert use("read", file_path="line.txt") == "y" * 2000 + " […4998000 more bytes in this line]"


def test_reading_beyond_the_end_shows_the_line_count(cwd: Path, use: Use) -> None:
    write(cwd / "a.txt", "one\ntwo\n")
    write(cwd / "empty")

    assert "has 2 lines, none from 3 on" in use("read", file_path="a.txt", offset=3)
    assert "has 2 lines" in use("read", file_path="a.txt", offset=2**62)
    assert use("read", file_path="a.txt", offset=-5, limit=0).startswith("one\n[lines 1 to 1")
    assert use("read", file_path="empty") == "(an empty file)"


def test_a_binary_file_is_refused(cwd: Path, use: Use) -> None:
    (cwd / "a.out").write_bytes(b"\x7fELF\0\1\2")

    assert use("read", file_path="a.out") == "error: a.out is a binary file of 7 bytes, not text"


def test_invalid_utf8_is_shown_with_replacement_characters(cwd: Path, use: Use) -> None:
    (cwd / "latin").write_bytes(b"caf\xe9\r\nend")

    assert use("read", file_path="latin") == "caf\ufffd\nend"


@pytest.mark.parametrize(
    "path",
    ["/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc", "/proc/self/cwd/x", "/sys/kernel", "/tmp/../proc/1/maps",
     "//proc/self/environ", "link/environ", "direct"],
)  # fmt: skip
def test_the_kernels_trees_are_closed_also_behind_symlinks(cwd: Path, use: Use, path: str) -> None:
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


def test_only_regular_files_are_opened(cwd: Path, use: Use) -> None:
    os.mkfifo(cwd / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(cwd)  # the path of a socket has to be short
        listener.bind("sock")

    assert "is not a regular file" in use("read", file_path="fifo")
    assert "is not a regular file" in use("read", file_path="sock")


def test_a_wrong_path_gets_a_helpful_error(cwd: Path, use: Use) -> None:
    write(cwd / "src" / "agent.py")

    assert use("read", file_path=f"{cwd}/src/agnt.py").endswith(f"did you mean {cwd}/src/agent.py?")
    assert use("read", file_path=f"{cwd}/lib/x.py").endswith(f"; {cwd} exists, but has no `lib`")
    assert use("read", file_path="src").endswith("src is a directory (use `ls`)")
    assert use("ls", path="src/agent.py").endswith("is not a directory (use `read` for files)")
    assert "is not a directory" in use("read", file_path="src/agent.py/x")
    assert "is not a usable path" in use("ls", path="~nobody-of-this-name/x")


def test_symlink_cycles_do_not_hang(cwd: Path, use: Use) -> None:
    (cwd / "a").symlink_to("b")
    (cwd / "b").symlink_to("a")
    (cwd / "self").symlink_to(".")

    assert "too many levels of symbolic links" in use("read", file_path="a")
    assert "too many levels of symbolic links" in use("ls", path="a")
    assert use("ls", path=".").splitlines() == ["a -> b", "b -> a", "self -> ."]
    assert use("glob", pattern="**/x.py").startswith("no file matches")
    assert "too many levels of symbolic links" in use("rg", args="x a")


@contextmanager
def without_root_rights() -> Iterator[None]:
    """Run the block as another user if this one is root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_missing_permissions_are_reported() -> None:
    with tempfile.TemporaryDirectory() as folder:  # other users have no access to pytest's own
        directory = Path(folder)
        directory.chmod(0o755)
        write(directory / "secret.txt", "x").chmod(0)
        (directory / "closed").mkdir(mode=0)
        box = tools.toolbox(directory)
        calls = [
            ToolCall("1", "read", '{"file_path": "secret.txt"}'),
            ToolCall("2", "ls", '{"path": "closed"}'),
            ToolCall("3", "glob", '{"pattern": "**/*"}'),
        ]
        with without_root_rights():
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
def test_glob_finds_the_files_that_match(tree: Path, use: Use, pattern: str, names: list[str]) -> None:
    assert use("glob", pattern=pattern).splitlines() == [f"{tree}/{name}" for name in names]
    assert use("glob", pattern=f"{tree}/{pattern}").splitlines() == [f"{tree}/{name}" for name in names]


def test_glob_starts_in_the_given_directory(tree: Path, use: Use) -> None:
    assert use("glob", pattern="*.py", path=f"{tree}/src") == f"{tree}/src/a.py"
    assert "no such file or directory" in use("glob", pattern="*", path="lib")
    assert "is not a directory" in use("glob", pattern="*", path="a.py")


@pytest.mark.usefixtures("tree")
def test_glob_without_a_match_suggests_double_stars(use: Use) -> None:
    assert use("glob", pattern="c.py") == "no file matches (start with `**/` to search below, too)"
    assert use("glob", pattern="**/nothing") == "no file matches"
    assert use("glob", pattern="nowhere/*.py").startswith("no file matches")


def test_glob_limits_the_number_of_matches(cwd: Path, use: Use) -> None:
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


def test_glob_does_not_enter_the_kernels_trees(cwd: Path, use: Use) -> None:
    answer = files.glob("/p*/sys/kernel/hostname", cwd=cwd, stop=Event(), access=Access(cwd, allowed=["/"]))
    assert answer == "no file matches (start with `**/` to search below, too)"
    assert "closed to tools" in use("glob", pattern="/proc/sys/kernel/host*")


def test_work_in_a_thread_stops_when_its_caller_is_cancelled() -> None:
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


def test_a_stopped_search_says_that_it_is_incomplete(tree: Path) -> None:
    stop = Event()
    stop.set()
    assert "there may be more" in files.glob("**/*", cwd=tree, stop=stop)
