"""`rg` as a tool: the real program, restricted to options that read and print."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.chat import ripgrep
from pi_cli.chat.access import Access
from pi_cli.chat.schema import ToolError
from tests import executables

if ripgrep.find_program() is None:
    pytest.skip("ripgrep is not installed", allow_module_level=True)

Search = Callable[[str], str]


@pytest.fixture
def search(cwd: Path) -> Search:
    return lambda args: asyncio.run(ripgrep.rg(args, cwd=cwd))


@pytest.fixture
def tree(cwd: Path) -> Path:
    (cwd / "src").mkdir()
    (cwd / "src" / "a.py").write_text("def one():\n    pass\n# TODO: more\n")
    (cwd / "src" / "b.ts").write_text("// todo: less\n")
    (cwd / ".hidden").write_text("TODO=1\n")
    return cwd


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ("TODO", ["src/a.py:3:# TODO: more"]),
        ("-i todo --sort path", ["src/a.py:3:# TODO: more", "src/b.ts:1:// todo: less"]),
        ("-iltpy todo", ["src/a.py"]),
        ("-i -g '*.ts' todo", ["src/b.ts:1:// todo: less"]),
        ("--glob=*.ts -ie todo", ["src/b.ts:1:// todo: less"]),
        (r"'def \w+\(' src", ["{cwd}/src/a.py:1:def one():"]),
        ("-A1 def {cwd}/src", ["{cwd}/src/a.py:1:def one():", "{cwd}/src/a.py-2-    pass"]),
        ("-uu --sort path TODO", [".hidden:1:TODO=1", "src/a.py:3:# TODO: more"]),
        ("--files --sort path", ["src/a.py", "src/b.ts"]),
        ("-c -- TODO", ["src/a.py:1"]),
        ("TODO src/a.py", ["3:# TODO: more"]),
        ("nowhere-to-be-found", ["no matches"]),
    ],
)
def test_rg_finds_the_same_as_in_a_shell(tree: Path, search: Search, args: str, lines: list[str]) -> None:
    assert search(args.replace("{cwd}", str(tree))).splitlines() == [line.replace("{cwd}", str(tree)) for line in lines]


TIMES = re.compile(r'"(secs|nanos|human)":("[^"]*"|\d+)')
FORMS = """
    pass|-C1 pass|-A1 -B1 --column TODO|--vimgrep o|-b pass|-N pass|-N --column pass|-I -C1 pass|-I -H TODO|-H -I TODO
    --heading -C1 pass|--heading -I pass|-c o|-c -l o|-l -c o|--count-matches -I o|--files-without-match TODO|-o o
    -r X-$0 TODO|-U one[^#]*TODO|--passthru TODO src/a.py|--json pass|--json -I pass|-a o
    -v x|--trim pass|-m1 o|--include-zero -c o|o src/a.py src/b.ts|o src/a.py -H|-o -b o|-i -e todo -e pass|-M5 o
"""


@pytest.mark.parametrize("form", [form for line in FORMS.split("\n") for form in line.strip().split("|") if form])
def test_the_output_has_the_form_that_rg_gives_it(tree: Path, search: Search, form: str) -> None:
    (tree / "binary").write_bytes(b"one o\0o\nTODO o\n")
    (tree / "long names [x].txt").write_text("1:1-o pass TODO\n\nno: 5-o\n")
    program = ripgrep.find_program()
    assert program
    words = [program, "-n", "--no-heading", "--max-columns=1000", "--max-columns-preview", "--sort=path"]
    words += [word if "/" not in word else str(tree / word) for word in form.split()]
    shown = subprocess.run(words, cwd=tree, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout
    found, expected = (TIMES.sub("", text) for text in (search(f"--sort=path {form}"), shown.decode()))
    assert found == ("\n".join(expected.splitlines()) or "no matches")


ESCAPES = [
    "--pre CANARY .",
    "--pre=CANARY x .",
    "--pre=CANARY --pre-glob=* x",
    "--hostname-bin CANARY --hyperlink-format=file://{host}{path} x",
    "--hostname-bin=CANARY --hyperlink-format=default x",
    "-z x",
    "-iz x",
    "-nzC2 x",
    "--search-zip x",
    "--search-zi x",
    "--search-zip=true x",
    "-f CANARY x",
    "-fCANARY",
    "--file=CANARY",
    "--ignore-file=CANARY x",
    "-L x",
    "--follow x",
    "--no-one-file-system x /",
    "--config=CANARY x",
    "--generate=man",
    "--no-such-option x",
    "-Q x",
    "x ; CANARY",
    "x | CANARY",
    "x && CANARY",
    "x > stolen",
    "x $(CANARY)",
    "x `CANARY`",
    "x src/*.py",
    "'unclosed",
    "-e",
    "--glob",
    "",
    "-i",
]


@pytest.mark.parametrize("args", ESCAPES)
def test_no_arguments_make_rg_run_or_write_anything(tree: Path, search: Search, args: str) -> None:
    canary = tree / "canary"
    executables.put(canary, f"#!/bin/sh\ntouch {tree}/was-run\n")
    (tree / "archive.gz").write_bytes(b"\x1f\x8b\x08" + b"\0" * 20)

    with pytest.raises(ToolError):
        search(args.replace("CANARY", str(canary)))

    assert not (tree / "was-run").exists()
    assert not (tree / "stolen").exists()


@pytest.mark.parametrize("program", ["gzip", "xz", "rg"])
def test_programs_in_the_working_directory_are_not_run(
    tree: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tree / program
    executables.put(canary, f"#!/bin/sh\ntouch {tree}/was-run\n")
    monkeypatch.chdir(tree)

    assert ripgrep.find_program(".:./:") is None
    asyncio.run(ripgrep.rg("-uuu TODO", cwd=tree))
    assert not (tree / "was-run").exists()


def test_the_users_ripgrep_configuration_is_ignored(
    tree: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "rc").write_text("--hidden\n--count\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(tree / "rc"))

    assert search("TODO") == "src/a.py:3:# TODO: more"


def test_a_search_from_the_root_does_not_enter_proc(cwd: Path) -> None:
    access = Access(cwd, allowed=["/"])
    paths = asyncio.run(ripgrep.rg("--files -uuu --max-depth 2 /", cwd=cwd, access=access)).splitlines()

    assert len(paths) > 1
    assert not [path for path in paths if path.startswith(("/proc/", "/sys/"))]


def test_symlinks_into_proc_are_not_followed(tree: Path, search: Search) -> None:
    (tree / "src" / "link").symlink_to("/proc/self/environ")

    assert "src/link" not in search("-uuu --files")
    with pytest.raises(ToolError, match="closed to tools"):
        search(". src/link")


def test_a_closed_path_may_be_a_search_pattern(tree: Path, search: Search) -> None:
    (tree / "run.sh").write_text("echo > /dev/null\n")

    assert search("/dev/null") == "run.sh:1:echo > /dev/null"


def test_long_output_is_truncated_with_a_note(tree: Path, search: Search) -> None:
    (tree / "big.txt").write_text("needle\n" * 1_000_000)
    (tree / "wide.txt").write_text("needle" * 1_000_000)

    lines = search("needle big.txt").splitlines()
    assert lines[0] == "1:needle"
    assert lines[-1] == "[there is more: narrow the pattern, the path or --glob]"
    assert len(lines) == 2001
    assert len(search("needle wide.txt")) < 2000


@pytest.mark.usefixtures("tree")
def test_wrong_patterns_and_paths_are_explained(search: Search) -> None:
    with pytest.raises(ToolError, match="unclosed group"):
        search("'('")
    with pytest.raises(ToolError, match="unrecognized file type"):
        search("-t nothing x")
    with pytest.raises(ToolError, match=r"did you mean .*/src"):
        search("x srcs")
    with pytest.raises(ToolError, match="no shell here to expand"):
        search("x 'src/*.py'")


def test_without_rg_the_error_says_how_to_install_it(cwd: Path) -> None:
    with pytest.raises(ToolError, match="pip install ripgrep"):
        asyncio.run(ripgrep.rg("x", cwd=cwd, path=str(cwd)))


@pytest.fixture
def slow(cwd: Path) -> Path:
    """Install a stand-in for `rg` that prints one match and never ends; its PID is in `pid`."""
    executables.put(
        cwd / "bin" / "rg",
        f"#!{sys.executable}\nimport os, time\n"
        f"open({str(cwd / 'pid.new')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(cwd / 'pid.new')!r}, {str(cwd / 'pid')!r})\n"
        "print('a:1:first', flush=True)\ntime.sleep(600)\n",
    )
    return cwd


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_search_that_takes_too_long_is_killed_and_its_matches_are_kept(slow: Path) -> None:
    result = asyncio.run(ripgrep.rg("x", cwd=slow, path=str(slow / "bin"), seconds=1.0))

    assert result == "a:1:first\n[stopped after 1 s: narrow the path or --glob]"
    assert is_gone(int((slow / "pid").read_text()))


def test_cancelling_a_search_kills_it(slow: Path) -> None:
    async def cancel() -> None:
        searching = asyncio.create_task(ripgrep.rg("x", cwd=slow, path=str(slow / "bin")))
        deadline = time.monotonic() + 10
        while not (slow / "pid").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching

    asyncio.run(cancel())
    assert is_gone(int((slow / "pid").read_text()))


@pytest.mark.parametrize("steps", range(8))
def test_cancelling_a_search_that_is_just_starting_kills_it(slow: Path, steps: int) -> None:
    async def cancel() -> None:
        searching = asyncio.create_task(ripgrep.rg("x", cwd=slow, path=str(slow / "bin")))
        for _ in range(steps):
            await asyncio.sleep(0)
        searching.cancel()
        done, _ = await asyncio.wait({searching}, timeout=10)
        assert done, "the search still runs"

    asyncio.run(cancel())


def test_rg_gets_no_secrets_and_not_the_users_configuration(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"#!{sys.executable}\nimport os, sys\nprint(sys.argv[1])\nprint(*os.environ, sep='\\n')\n"
    executables.put(cwd / "bin" / "rg", script)
    for name in ("PI_API_KEY", "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "RIPGREP_CONFIG_PATH"):
        monkeypatch.setenv(name, "a-secret")

    first, *names = asyncio.run(ripgrep.rg("x", cwd=cwd, path=str(cwd / "bin"))).splitlines()

    assert first == "--no-config"
    # Python itself sets LC_CTYPE if no locale is set.
    assert set(names) <= {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "XDG_CONFIG_HOME"}
