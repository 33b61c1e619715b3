"""`pi logs`: what vLLM prints, as it is, until it dies or we go."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.vllm import abilities
from tests.commands.log_watching import readers, speaking, watching
from tests.conftest import Pi, pods_json
from tests.until import until

RAW = b"\xff\xfe\x00 \x1b[31mred\x1b[0m \x1b]0;title\x07 [/INST] :smile: {} %s [bold]x[/bold]\r50%\rhalf a li"
OUT_OF_MEMORY = b"""(EngineCore pid=7) ERROR 11-23 13:31:46 [core.py:1] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-23 13:31:46 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB.
"""
BAD_REQUEST = b"""(APIServer pid=7) ERROR 11-23 13:31:46 [serving.py:1] Traceback (most recent call last):
(APIServer pid=7) ERROR 11-23 13:31:46 [serving.py:1] ValueError: 'x' is no role
INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 400 Bad Request
"""


def test_a_real_model_is_followed_byte_for_byte_and_ends_with_its_stop(pi: Pi, pod: EmbeddedPod) -> None:
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    log = pod.home / ".vllm_logs" / "q.log"
    last = b"".join(log.read_bytes().splitlines(keepends=True)[-3:])
    assert pi("logs", "q", "-n", "3", "--no-follow", "--all-lines").out.encode() == last
    with watching("q", "-n", "all", "--all-lines") as watched:
        watched.until_out(log.read_bytes())
        pi("stop", "q")
        assert watched.process.wait(15) == 0
        assert watched.out == log.read_bytes()
        assert watched.err == "note: `q` has exited: it was shut down\n"


LOOKS = re.compile(r'"GET /(health|metrics|\.well-known/pi-model)[ ?]')


def test_what_pi_looks_at_is_not_shown_unless_asked_for(pi: Pi, pod: EmbeddedPod) -> None:
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    for _ in range(3):
        assert pi("list").code == 0
    log = (pod.home / ".vllm_logs" / "q.log").read_text().splitlines()
    shown = pi("logs", "q", "-n", "5", "--no-follow").out.splitlines()
    assert shown == [line for line in log if not LOOKS.search(line)][-5:]
    every = pi("logs", "q", "-n", "all", "--no-follow", "--all-lines").out
    assert len(LOOKS.findall(every)) >= 7  # two for each list, and those of the start


def test_a_vllm_that_can_is_started_so_that_it_does_not_log_pis_looks(pi: Pi, pod: EmbeddedPod) -> None:
    state = pods_json()
    state["pods"]["dc1"]["vllm"] = "0.32.0"
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    (pod.home / "venv").mkdir(exist_ok=True)
    (pod.home / "venv" / ".pi-abilities.json").write_text(abilities.SHIPPED.read_text())
    planned = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--dry-run", "--json").json[0]["command"]
    assert "--disable-access-log-for-endpoints /health,/metrics,/.well-known/pi-model" in planned
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    assert pi("list").code == 0
    log = (pod.home / ".vllm_logs" / "q.log").read_text()
    assert "POST /v1/completions" in log
    assert not LOOKS.search(log)


def test_a_pipe_gets_the_bytes_as_they_are(pod: EmbeddedPod) -> None:
    """Fault 63."""
    with speaking(pod, said=RAW) as model, watching("q") as watched:
        watched.until_out(RAW)
        model.say(b"ne\n" + RAW)
        watched.until_out(RAW + b"ne\n" + RAW)
        assert watched.err == ""


def test_it_begins_with_the_last_hundred_lines(pod: EmbeddedPod) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(1000))
    with speaking(pod, said=lines) as model:
        with watching("q") as watched:
            watched.until_out(lines[lines.index(b"line 900\n") :])
        with watching("q", "-n", "0") as watched:

            def say_and_look() -> bytes:
                model.say(b"new\n")
                return watched.out

            until(say_and_look)
            assert set(watched.out.splitlines()) == {b"new"}


@pytest.mark.parametrize("is_read", [True, False])
def test_ctrl_c_stops_following_without_output(pod: EmbeddedPod, is_read: bool) -> None:
    """Fault 59: though nobody may be reading what we write."""
    with speaking(pod, said=b"x" * (10 if is_read else 8 << 20) + b"\n"), watching("q", "-n", "all") as watched:
        assert watched.process.stdout
        until(lambda: watched.process.stdout and watched.process.stdout.read(1))
        begun = time.monotonic()
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(5) == 130
        assert time.monotonic() - begun < 1
        assert watched.err == ""
        until(lambda: readers(pod) == [], seconds=5)


@pytest.mark.parametrize("is_quiet", [True, False])
def test_a_reader_that_goes_away_ends_it_at_once(pod: EmbeddedPod, is_quiet: bool) -> None:
    """Fault 60: even when the model says nothing more."""
    with speaking(pod, said=b"x" * (10 if is_quiet else 8 << 20) + b"\n"), watching("q", "-n", "all") as watched:
        assert watched.process.stdout
        until(lambda: watched.process.stdout and watched.process.stdout.read(1))
        watched.process.stdout.close()
        assert watched.process.wait(5) == 0
        assert watched.process.stderr
        assert watched.process.stderr.read() == b""
        until(lambda: readers(pod) == [], seconds=5)


def test_a_disk_that_is_full_is_an_error(pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"x\n"):
        done = subprocess.run(
            f"{sys.executable} -m pi_cli logs q > /dev/full", shell=True, capture_output=True, text=True, timeout=30
        )
    assert (done.returncode, done.stderr) == (1, "error: cannot write to stdout: No space left on device\n")


def test_ten_thousand_lines_a_second_are_kept_up_with(pod: EmbeddedPod) -> None:
    """Fault 61."""
    block = b"(EngineCore pid=7) INFO 11-23 13:31:46 [loggers.py:259] Engine 000: a line of usual length\n" * 100
    with speaking(pod, said=block) as model, watching("q", "-n", "all") as watched:
        watched.until_out(block)
        before = memory(watched.process.pid)
        begun = time.monotonic()
        for count in range(2, 402):
            model.say(block)
            time.sleep(max(0.0, begun + count * 0.01 - time.monotonic()))
        watched.until_out(block * 401, seconds=5)
        assert memory(watched.process.pid) < before + 16_000


def memory(pid: int) -> int:
    """Return the resident size of a process, in kB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_it_ends_by_itself_and_says_why_the_model_died(pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"one\n") as model, watching("q") as watched:
        watched.until_out(b"one\n")
        model.say(OUT_OF_MEMORY)
        model.die()
        assert watched.process.wait(15) == 0
        assert watched.out == b"one\n" + OUT_OF_MEMORY
        assert watched.err.startswith("note: `q` has exited: ")
        assert "memory" in watched.err


def test_a_death_without_output_is_not_explained_by_an_earlier_failed_request(pod: EmbeddedPod) -> None:
    with speaking(pod, said=BAD_REQUEST) as model, watching("q") as watched:
        watched.until_out(BAD_REQUEST)
        model.die()
        assert watched.process.wait(15) == 0
        assert watched.err == "note: `q` has exited: its log does not show why\n"


def test_a_model_started_again_is_followed_on(pod: EmbeddedPod) -> None:
    """Fault 65."""
    with speaking(pod, said=b"old, without end") as model, watching("q") as watched:
        watched.until_out(b"old, without end")
        model.die()
        model.log.rename(model.log.with_suffix(".log.1"))
        with speaking(pod, said=b"new\n"):
            watched.until_out(b"old, without endnew\n")
            watched.until_err("note: `q` was restarted; its new log follows\n")


def test_the_log_of_a_dead_model_is_shown(pod: EmbeddedPod, pi: Pi) -> None:
    """Fault 66."""
    with speaking(pod, said=b"one\ntwo") as model:
        model.die()
        shown = pi("logs", "q")
    assert (shown.code, shown.out) == (0, "one\ntwo")
    assert shown.err == "note: `q` is not running; this is its last log\n"


def test_a_log_that_is_not_there_yet_is_waited_for(pod: EmbeddedPod) -> None:
    """Fault 65."""
    with speaking(pod) as model:
        model.log.unlink()
        with watching("q") as watched:
            watched.until_err("note: `q` has no log yet; waiting for it\n")
            model.say(b"one\n")
            watched.until_out(b"one\n")


def test_a_model_without_log_is_an_error(pod: EmbeddedPod, pi: Pi) -> None:
    with speaking(pod) as model:
        model.die()
        model.log.unlink()
        result = pi("logs", "q")
    assert (result.code, result.out) == (1, "")
    assert "there is no log at" in result.err
    assert "pi list --pod dc1" in result.err


def test_a_misspelt_name_is_an_error_without_a_path_of_the_pod(pod: EmbeddedPod, pi: Pi) -> None:
    with speaking(pod, "qwen"):
        result = pi("logs", "qwen", "gwen")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: there is no model `gwen` on `dc1`\nhint: did you mean `qwen`?\n"


def test_the_log_of_a_model_that_is_no_longer_on_the_list_is_shown(pod: EmbeddedPod, pi: Pi) -> None:
    (pod.home / ".vllm_logs").mkdir(exist_ok=True)
    (pod.home / ".vllm_logs/old.log").write_text("one\n")
    for name in ("old", "dc1/old"):
        assert pi("logs", name, "--no-follow").out == "one\n"


def test_the_name_of_the_only_model_may_be_left_out(pod: EmbeddedPod, pi: Pi) -> None:
    with speaking(pod, said=b"one\n"):
        assert pi("logs", "--no-follow").out == "one\n"


def test_several_models_speak_in_whole_lines_that_say_whose_they_are(pod: EmbeddedPod) -> None:
    with (
        speaking(pod, "a", said=b"1\n2\nhal") as a,
        speaking(pod, "long", said=b"\n") as long,
        watching("a", "long") as watched,
    ):
        until(lambda: sorted(watched.out.decode().splitlines()) == ["a    │ 1", "a    │ 2", "long │ "])
        shown = watched.out
        long.say(b"3\n")
        watched.until_out(shown + "long │ 3\n".encode())
        a.say(b"f\nend")
        watched.until_out(shown + "long │ 3\na    │ half\n".encode())
        a.die()
        watched.until_out(shown + "long │ 3\na    │ half\na    │ end\n".encode())
        watched.until_err("note: `a` has exited: its log does not show why\n")
        long.say(b"4\n")
        watched.until_out(shown + "long │ 3\na    │ half\na    │ end\nlong │ 4\n".encode())
        assert watched.process.poll() is None


def test_a_line_without_end_is_passed_on(pod: EmbeddedPod) -> None:
    with speaking(pod, "a", said=b"x" * 3_000_000), speaking(pod, "b"), watching("a", "b", "-n", "all") as watched:
        until(lambda: watched.out.count(b"x") >= 2_000_000)
        assert {line.strip(b"x") for line in watched.out.splitlines()} == {"a │ ".encode()}


def test_models_of_several_pods_are_looked_for_where_they_are(embed: Callable[..., EmbeddedPod]) -> None:
    one, two = embed("dc1"), embed("dc2")
    with (
        speaking(one, "a", on="dc1", said=b"1\n") as a,
        speaking(two, "b", on="dc2", said=b"2\n"),
        speaking(one, "c", on="dc1", said=b"3\n"),
        speaking(two, "c", on="dc2", said=b"4\n"),
        watching("a", "b", "c", "--pod", "dc1", "--pod", "dc2") as watched,
    ):
        shown = {"dc1/a │ 1", "dc2/b │ 2", "dc1/c │ 3", "dc2/c │ 4"}
        until(lambda: set(watched.out.decode().splitlines()) == shown)
        a.die()
        watched.until_err("note: `a` on `dc1` has exited: its log does not show why\n")


def test_a_pod_that_fails_does_not_disturb_the_others(embed: Callable[..., EmbeddedPod]) -> None:
    one, two = embed("dc1"), embed("dc2")
    with speaking(one, "a", on="dc1", said=b"1\n") as a, speaking(two, "b", on="dc2") as b:
        b.die()
        b.log.unlink()
        with watching("a", "b", "--pod", "dc1", "--pod", "dc2") as watched:
            watched.until_err(f"note: pod `dc2`: there is no log at {b.log}; still following the other logs\n")
            a.say(b"2\n")
            watched.until_out("dc1/a │ 1\ndc1/a │ 2\n".encode())
            a.die()
            assert watched.process.wait(15) == 1
            assert f"error: pod `dc2`: there is no log at {b.log}" in watched.err


def test_only_matching_lines_are_shown(pod: EmbeddedPod, pi: Pi) -> None:
    said = b"".join(b"%s %d\n" % (b"WARNING" if number % 10 == 0 else b"INFO", number) for number in range(1000))
    warnings = [line for line in said.decode().splitlines(keepends=True) if "WARN" in line]
    with speaking(pod, said=said) as model:
        assert pi("logs", "q", "--grep", "^WARN", "--no-follow").out == "".join(warnings)
        assert pi("logs", "q", "--grep", "^WARN", "-n", "2", "--no-follow").out == "".join(warnings[-2:])
        with watching("q", "--grep", "^WARN", "-n", "1") as watched:
            watched.until_out(b"WARNING 990\n")
            model.say(b"INFO 1\nWARNING 2\nINFO 3\n")
            watched.until_out(b"WARNING 990\nWARNING 2\n")


def stamped(moment: float) -> str:
    return f"(EngineCore pid=7) INFO {time.strftime('%m-%d %H:%M:%S', time.gmtime(moment))} [a.py:1] x\n"


def test_what_was_said_since_a_moment_is_shown_as_the_pods_clock_has_it(pod: EmbeddedPod, pi: Pi) -> None:
    """Fault 44: the pod's day began nine hours before ours."""
    (pod.home / ".bashrc").write_text("export TZ=Asia/Tokyo\n")
    there = time.time() + 9 * 3600
    lines = [stamped(there - 600 + 60 * minute) for minute in range(10)]
    at = time.strftime("%H:%M:%S", time.gmtime(there - 150))
    iso = time.strftime("%Y-%m-%dT%H:%M:%S+09:00", time.gmtime(there - 150))
    with speaking(pod, said="".join(lines).encode()):
        for since in ("2m30s", at, iso, iso.removesuffix("+09:00")):
            assert pi("logs", "q", "--since", since, "--no-follow").out == "".join(lines[-2:]), since
        assert pi("logs", "q", "--since", "1d", "-n", "1", "--no-follow").out == lines[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "many"], "`many` is not a number of lines"),
        (["--since", "yesterday"], "`yesterday` is not a time"),
        (["--since", "25:00"], "`25:00` is not a time"),
        (["--grep", "("], "`(` is not a valid regular expression: missing ), unterminated subpattern at position 0"),
    ],
)
def test_what_cannot_be_understood_is_refused(pi: Pi, words: list[str], message: str) -> None:
    result = pi("logs", "q", *words)
    assert result.code == 2
    assert f"error: {message}" in result.err
    assert "hint: " in result.err


def test_names_that_would_lead_elsewhere_are_refused(pi: Pi, pod: EmbeddedPod) -> None:
    """Security check 27."""
    (pod.home / "secret.log").write_text("secret\n")
    result = pi("logs", "../secret", "--no-follow")
    assert (result.code, result.out) == (2, "")
    assert "`../secret` cannot be the name of a model" in result.err
    assert pod.commands == []


EVIL = r"(a|a)*c"  # takes time exponential in the number of `a`


def test_a_pattern_that_never_ends_is_an_error(pi: Pi, pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"a" * 60 + b"b\n"):
        result = pi("logs", "q", "--grep", EVIL)
        assert (result.code, result.out) == (1, "")
        assert "error: the pattern takes too long for a line of the log of `q`\nhint: make it simpler" in result.err
        assert readers(pod) == []


def test_ctrl_c_ends_a_search_that_never_ends(pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"a" * 60 + b"b\n"), watching("q", "--grep", EVIL) as watched:
        until(lambda: any(processor_time(pid) > 0.3 for pid in readers(pod)))
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(5) == 130
        until(lambda: readers(pod) == [], seconds=3)


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_line_that_is_the_whole_log_is_found_quickly(pi: Pi, pod: EmbeddedPod) -> None:
    long = b"x" * 30_000_000
    with speaking(pod, said=b"first\n" + long + b"\n"):
        for words in (["-n", "2"], ["-n", "1", "--grep", "first"]):
            began = time.monotonic()
            result = pi("logs", "q", "--no-follow", *words)
            assert result.code == 0, result.err
            assert time.monotonic() - began < 10
            assert result.out.startswith("first\n")
