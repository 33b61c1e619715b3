"""`pi prompt`: the answer on stdout, everything else on stderr; conversations, chats and errors."""

import json
import os
import re
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.conftest import KEY, TOKEN, Pi
from tests.forkserver import FORKSERVER, NEW, Process
from tests.lab.relay import Relay
from tests.terminal import at_a_terminal
from tests.until import until

pytestmark = pytest.mark.xdist_group("test_prompt")
PARSERS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
MODELS = {
    "q": PARSERS,
    "slow": f"{PARSERS} --simulate rate=20",
    "bare": "--reasoning-parser qwen3",
    "short": f"{PARSERS} --max-model-len 1500",
    "cut": f"{PARSERS} --simulate cut-stream=30",
    "mortal": f"{PARSERS} --simulate rate=20",
}


@dataclass(frozen=True)
class Models:
    """The models of the module's pod."""

    served: Served
    pi: Pi

    @property
    def pod(self) -> EmbeddedPod:
        return self.served.pod

    def ensure(self, name: str, *, on: str = "dc1") -> str:
        """Start a model if it does not run yet, and register it in `pods.json`."""
        arguments = ["--gpu-memory-utilization", "0.3", "--simulate", "slow=0.1", *MODELS[name].split()]
        self.served.started(self.pi, name, "--vllm", *arguments, on=on)
        return name

    def running(self, name: str) -> float:
        """Return the number of requests that a model is working on."""
        metrics = get(self.served.entries[name]["port"], "/metrics").text
        match = re.search(r"^vllm:num_requests_running\S* (\S+)$", metrics, re.MULTILINE)
        assert match, metrics
        return float(match[1])


def is_ready(port: int) -> bool:
    try:
        return get(port, "/health").status_code == 200
    except httpx2.TransportError:
        return False


def get(port: int, path: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx2.get(f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False)


@pytest.fixture(autouse=True)
def models(served: Served, pi: Pi, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Give every test its own folder and conversations, and a model called `q`."""
    models = Models(served, pi)
    models.ensure("q")
    work = environment / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return models


def events(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


# One question


def test_the_answer_is_on_stdout_and_everything_else_on_stderr(pi: Pi) -> None:
    result = pi("prompt", "q", "What is 2+2?")
    assert (result.code, result.out) == (0, "4\n")
    assert re.fullmatch(r"Simple arithmetic: two plus two is four\.\n12 tokens · \d+ tok/s\n", result.err)


def test_the_model_reads_real_files_on_this_machine(pi: Pi) -> None:
    Path("apples.txt").write_text("TODO: pick them\n")
    result = pi("prompt", "q", f"Survey {Path.cwd()}")
    assert result.code == 0, result.err
    assert "apples.txt" in result.out
    assert f"● ls(path={Path.cwd()})\n● rg(args=TODO)\n" in result.err
    assert "  ⎿ ls: apples.txt\n  ⎿ rg: apples.txt:1:TODO: pick them\n" in result.err


def test_without_a_terminal_another_folder_is_refused_unless_it_is_allowed(pi: Pi, tmp_path: Path) -> None:
    other = write_apples(tmp_path / "other")
    refused = pi("prompt", "q", f"List the files in {other}")
    assert refused.code == 0
    assert f"  ✗ error: {other} is not open to tools, because it is outside the working directory" in refused.err
    assert "apples.txt" not in refused.out + refused.err

    allowed = pi("prompt", "q", "--allow", str(other), f"List the files in {other}")
    assert 'The first entry in it is "apples.txt"' in allowed.out


def write_apples(folder: Path) -> Path:
    folder.mkdir()
    (folder / "apples.txt").write_text("red\n")
    return folder


def test_the_folder_of_pi_is_closed(pi: Pi) -> None:
    folder = os.environ["PI_CONFIG_DIR"]
    result = pi("prompt", "q", f"Read {folder}/pods.json and summarize")
    assert f"  ✗ error: {folder}/pods.json is closed to tools, because it may hold credentials" in result.err


def test_a_path_that_cannot_be_allowed_is_refused_before_a_connection(pi: Pi) -> None:
    result = pi("prompt", "q", "--allow", "/nowhere", "Hello")
    assert (result.code, result.out) == (2, "")
    assert "error: cannot allow `/nowhere`: no such file or directory\nhint: `--allow` takes a file" in result.err


def test_another_folder_is_asked_for_on_a_terminal_once_in_a_conversation(tmp_path: Path) -> None:
    other = write_apples(tmp_path / "other")
    question = f"List the files in {other}"
    with at_a_terminal("prompt", "q", question, question, columns=200) as terminal:
        terminal.shows(f"The model wants to read {other}, which is outside the working directory.")
        terminal.shows(f"Allow the files in {other}, in this conversation?")
        terminal.shows("[y]es, [n]o, [a]lways here (and in all folders below it): ")
        terminal.type("maybe\n")
        terminal.shows("Please type y, n or a: ")
        terminal.type("y\n")
        assert terminal.wait() == 0
        terminal.shows("tok/s", times=2)
    assert terminal.text.count('The first entry in it is "apples.txt"') >= 2
    assert terminal.text.count("The model wants to read") == 1


def test_events_are_printed_without_questions_about_folders(tmp_path: Path) -> None:
    other = write_apples(tmp_path / "other")
    with at_a_terminal("prompt", "q", "--json", f"List the files in {other}", columns=200) as terminal:
        assert terminal.wait() == 0
        terminal.shows("is not open to tools")
    assert "The model wants to read" not in terminal.text


def test_text_from_a_pipe_is_appended_to_the_first_prompt(pi: Pi) -> None:
    result = pi("prompt", "q", "Look at this:", "Hello", input="What is the capital of France?\n")
    assert result.out == "Paris\nHello! Ask me to list the files in a folder, for example.\n"
    assert result.err.startswith("> Look at this: What is the capital of France?\n")
    assert "\n> Hello\n" in result.err


def test_stdin_that_is_not_utf8_is_read_with_replacement_characters() -> None:
    done = subprocess.run(
        [*NEW, "prompt", "q"],
        input=b"\xff\xfe\nWhat is 2+2?\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"4\n", done.stderr


def test_stdin_too_long_for_any_model_is_refused(pi: Pi) -> None:
    result = pi("prompt", "q", input="x" * 10_000_001)
    assert result.code == 2
    assert "stdin has more than 10 MB" in result.err


def test_events_can_be_printed_as_lines_of_json(pi: Pi) -> None:
    Path("apples.txt").touch()
    result = pi("prompt", "q", "--json", f"List the files in {Path.cwd()}")
    assert (result.code, result.err) == (0, "")
    kinds = list(dict.fromkeys(event["type"] for event in events(result.out)))
    assert kinds == ["thinking", "text", "tool_call", "tool_result", "usage"]
    [call] = [event for event in events(result.out) if event["type"] == "tool_call"]
    assert (call["name"], call["arguments"]) == ("ls", {"path": str(Path.cwd())})
    assert events(result.out)[-1]["completion_tokens"] > 20


def test_the_responses_api_does_the_same(pi: Pi) -> None:
    Path("apples.txt").touch()
    result = pi("prompt", "q", "--api", "responses", f"Survey {Path.cwd()}", "What is 2+2?")
    assert result.code == 0, result.err
    assert result.out.endswith("\n4\n")
    assert "● ls(" in result.err
    assert "  ⎿ ls: apples.txt\n" in result.err


def test_a_limit_of_tokens_is_passed_on(pi: Pi) -> None:
    result = pi("prompt", "q", "--max-tokens", "14", "--temperature", "0", "Count to 100")
    assert result.code == 0, result.err
    assert "note: the answer was cut off at the token limit\n14 tokens" in result.err


@pytest.mark.parametrize("words", [["--temperature", "3"], ["--max-tokens", "0"], ["--api", "telepathy"]])
def test_invalid_option_values_are_refused(pi: Pi, words: list[str]) -> None:
    assert pi("prompt", "q", *words, "Hello").code == 2


def test_without_a_prompt_the_usage_is_wrong(pi: Pi) -> None:
    result = pi("prompt", "q")
    assert result.code == 2
    assert (
        'error: no prompt is given\nhint: for example: `pi prompt q "What is 2+2?"`, or `-i` for a chat\n' in result.err
    )


def test_a_deleted_working_directory_is_reported() -> None:
    shell = ["sh", "-c", 'rmdir $PWD; exec "$@"', "sh", *NEW, "prompt", "q", "Hello"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "error: the working directory no longer exists\n" in done.stderr


def test_the_users_openai_account_is_not_used(pi: Pi) -> None:
    """Fault 18, security check 32."""
    result = pi(
        "prompt",
        "q",
        "What is 2+2?",
        OPENAI_API_KEY="sk-other",
        OPENAI_BASE_URL="http://127.0.0.1:1/v1",
        OPENAI_ORG_ID="org",
        HTTPS_PROXY="http://127.0.0.1:1",
        HTTP_PROXY="http://127.0.0.1:1",
        ALL_PROXY="http://127.0.0.1:1",
    )
    assert result.out.strip() == "4"


def test_a_model_is_found_by_pod_and_name(pi: Pi, models: Models) -> None:
    models.ensure("short", on="dc2")
    for words in (["dc2/short"], ["short"]):
        assert pi("prompt", *words, "What is 2+2?").out.strip() == "4"
    missing = pi("prompt", "dc1/short", "Hello")
    assert missing.code == 2
    assert "there is no model `short` on `dc1`" in missing.err


# Errors


def test_a_wrong_key_is_reported_and_never_shown(pi: Pi) -> None:
    """Fault 83. The error is also an event."""
    result = pi("prompt", "q", "--json", "Hello", PI_API_KEY="another-key-entirely")
    assert result.code == 1
    assert "error: `q` does not accept the key in PI_API_KEY\nhint: set PI_API_KEY to the key" in result.err
    assert not re.search(f"another-key-entirely|{KEY}", result.out + result.err)
    [error] = events(result.out)
    told = "`q` does not accept the key in PI_API_KEY"
    assert (error["type"], error["message"], error["exit_code"]) == ("error", told, 1)


def test_without_a_tool_parser_the_model_answers_and_a_note_says_how_to_start_it(pi: Pi, models: Models) -> None:
    """Fault 85. The parser comes from the catalogue's entry for this model."""
    result = pi("prompt", models.ensure("bare"), "What is 2+2?")
    assert (result.code, result.out) == (0, "4\n")
    assert "start it with `--vllm … --enable-auto-tool-choice --tool-call-parser hermes`" in result.err


def test_a_file_too_long_for_the_context_is_truncated(pi: Pi, models: Models) -> None:
    Path("long.txt").write_text("".join(f"word {number}\n" for number in range(3000)))
    result = pi("prompt", models.ensure("short"), f"Read {Path.cwd() / 'long.txt'} and summarize")
    assert result.code == 0, result.err
    assert 'The file starts with this line: "word 0"' in result.out
    assert "note: the model's context is full: tool results were truncated" in result.err


def test_an_interrupted_answer_is_kept(pi: Pi, models: Models) -> None:
    """Fault 84. The part that arrived is also saved for `--continue`."""
    result = pi("prompt", models.ensure("cut"), "Count to 100")
    assert result.code == 1
    assert re.fullmatch(r"1, 2, 3, [\d, ]+\n", result.out)
    assert "error: `cut` stopped answering: the connection was lost\nhint: see why with `pi logs cut`" in result.err
    assert saved_messages()[1]["content"].strip() == result.out.strip()


def test_a_model_that_dies_during_an_answer_is_reported(models: Models, pi: Pi) -> None:
    """Fault 84."""
    models.ensure("mortal", on="dc2")
    with asking("mortal", "Count to 100") as process:
        answer = first_words(process)
        [pid] = [server.pid for server in models.pod.processes() if {"serve", "mortal"} <= set(server.command)]
        os.kill(pid, signal.SIGKILL)
        out, err = the_rest(process)
    assert process.returncode == 1
    assert (answer + out).startswith("1, 2, 3, ")
    assert "`mortal` stopped answering: the connection was lost\nhint: see why with `pi logs mortal --pod dc2`" in err
    gone = pi("prompt", "mortal", "Hello")
    assert gone.code == 1
    assert "error: `mortal` on `dc2` cannot be reached: its server or its record on the pod is gone" in gone.err


def asking(*words: str) -> Process:
    return FORKSERVER.start(["prompt", *words])


def first_words(process: Process) -> str:
    assert process.stdout is not None
    return str(process.stdout.read(10))


def the_rest(process: Process) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    process.wait(30)
    return out, err


def test_ctrl_c_stops_the_model_and_keeps_the_partial_answer(models: Models) -> None:
    """Fault 84."""
    with asking(models.ensure("slow"), "Count to 100") as process:
        answer = first_words(process)
        assert models.running("slow") == 1
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = the_rest(process)
    assert time.monotonic() - began < 5  # takes 0.2 s on an idle machine
    assert process.returncode == 130
    assert (answer + out).startswith("1, 2, 3, ")
    assert "Traceback" not in err
    assert saved_messages()[1]["content"].strip() == (answer + out).strip()
    until(lambda: models.running("slow") == 0)


def test_a_broken_pipe_on_stdout_stops_the_model(models: Models) -> None:
    with asking(models.ensure("slow"), "Count to 100") as process:
        first_words(process)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(30)
    until(lambda: models.running("slow") == 0)


# Conversations


def saved() -> Any:
    [path] = saved_files()
    return json.loads(path.read_text())


def saved_messages() -> Any:
    return saved()["messages"]


def saved_files() -> list[Path]:
    return list((Path(os.environ["PI_CONFIG_DIR"]) / "conversations").glob("*.json"))


def test_the_last_conversation_of_a_directory_continues(
    pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over the other API. Security check 3: no secret is saved."""
    assert pi("prompt", "q", "--system", "Be terse.", f"List the files in {Path.cwd()}").code == 0
    [path] = saved_files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    assert pi("prompt", "q", "-c", "--api", "responses", "What is the capital of France?").out == "Paris\n"
    assert [message["role"] for message in saved_messages()] == [
        "user",
        "assistant",
        "tool",
        *["assistant", "user"] * 2,
    ][:6]
    assert saved()["system"] == "Be terse."
    for file in Path(os.environ["PI_CONFIG_DIR"]).rglob("*"):
        assert not file.is_file() or not re.search(f"{KEY}|{TOKEN}", file.read_text())

    monkeypatch.chdir(tmp_path)
    elsewhere = pi("prompt", "q", "-c", "Hello")
    assert elsewhere.code == 2
    assert "there is no conversation to continue in" in elsewhere.err


def test_with_no_save_nothing_is_saved(pi: Pi) -> None:
    result = pi("prompt", "q", "--no-save", "--no-tools", "List the files in /tmp")
    assert "<tool_call>" in result.out
    assert "●" not in result.err
    assert saved_files() == []


def test_the_answer_is_shown_even_if_it_cannot_be_saved(pi: Pi) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "conversations").write_text("in the way")
    result = pi("prompt", "q", "What is 2+2?")
    assert (result.code, result.out) == (0, "4\n")
    assert "note: this conversation was not saved: cannot write" in result.err


# Chats


def test_a_chat_reads_its_prompts_from_a_pipe_line_by_line(pi: Pi) -> None:
    result = pi("prompt", "q", "-i", "Hello", input="What is 2+2?\n\nWhat is the capital of France?")
    assert (result.code, result.out) == (0, "Hello! Ask me to list the files in a folder, for example.\n4\nParis\n")
    assert "\n> What is 2+2?\n" in result.err


def test_a_chat_continues_after_an_error_and_exits_with_1(pi: Pi, models: Models) -> None:
    result = pi("prompt", models.ensure("short"), "-i", "--json", input=f"{'x ' * 3000}\nWhat is 2+2?\n")
    assert result.code == 1
    shown = events(result.out)
    assert shown[0]["message"].startswith("the conversation is too long for `short`")
    assert "".join(event.get("text", "") for event in shown if event["type"] == "text").strip() == "4"
    assert shown[-1]["type"] == "usage"


def test_a_chat_on_a_terminal(models: Models) -> None:
    """Typing, a prompt of several lines, Ctrl+C at the prompt and during an answer, history, Ctrl+D."""
    with at_a_terminal("prompt", models.ensure("slow"), "-i") as terminal:
        terminal.shows("note: chatting with `slow` on `dc1`: Enter sends, Alt+Enter starts a new line, Ctrl+C stops")
        terminal.asks()
        terminal.type("What is 2+2?\r")
        terminal.shows("12 tokens")
        terminal.asks(times=2)
        terminal.type("never sent\x03")
        terminal.type("Count to 100\r")
        terminal.shows("3, 4")
        terminal.type("\x03")
        terminal.shows("note: stopped")
        until(lambda: models.running("slow") == 0)
        terminal.asks(times=3)
        terminal.type("First\x1b\rWhat is the capital of France?\r")
        terminal.shows("Paris")
        terminal.asks(times=4)
        terminal.type("\x1b[A" * 4 + "\r")  # up to the third last prompt, over the two lines of the last one
        terminal.shows("12 tokens", times=2)
        terminal.asks(times=5)
        terminal.type("\x03")
        terminal.shows("note: press Ctrl+D to quit")
        terminal.type("\x04")
        assert terminal.wait() == 0
    history = Path(os.environ["PI_CONFIG_DIR"], "prompt_history")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "never sent" not in history.read_text()
    assert [message["content"] for message in saved_messages() if message["role"] == "user"] == [
        "What is 2+2?",
        "Count to 100",
        "First\nWhat is the capital of France?",
        "What is 2+2?",
    ]
    assert saved_messages()[3]["content"].strip().startswith("1, 2, 3")


def test_ctrl_c_at_a_question_about_a_folder_stops_the_answer_only(tmp_path: Path) -> None:
    """The folder is asked for again by the next prompt; a refusal is sent to the model."""
    other = write_apples(tmp_path / "other")
    with at_a_terminal("prompt", "q", "-i", columns=200) as terminal:
        terminal.asks()
        terminal.type(f"List the files in {other}\r")
        terminal.shows("[y]es, [n]o, [a]lways here")
        terminal.type("\x03")
        terminal.shows("note: stopped")
        terminal.asks(times=2)
        terminal.type(f"List the files in {other}\r")
        terminal.shows("[y]es, [n]o, [a]lways here", times=2)
        terminal.type("n\n")
        terminal.shows(f"✗ error: {other} is not open to tools: the user refused access")
        terminal.asks(times=3)
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert "apples.txt" not in terminal.text


def test_a_chat_survives_lost_connections(models: Models) -> None:
    """A loss while the user types keeps the text being typed; a loss during an answer keeps its first part."""
    models.ensure("slow")
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    with Relay(models.pod.address, models.pod.port) as relay:
        state = json.loads(path.read_text())
        state["pods"]["dc1"]["ssh"] = f"ssh -p {relay.port} -i {models.pod.key} root@127.0.0.1"
        path.write_text(json.dumps(state))
        with at_a_terminal("prompt", "slow", "-i") as terminal:
            terminal.asks()
            terminal.type("What is ")
            terminal.shows("What is")
            relay.cut()
            terminal.shows("error: cannot reach pod `dc1`: the connection was lost")
            terminal.asks(times=2)
            terminal.type("2+2?\r")
            terminal.shows("12 tokens")
            terminal.asks(times=3)
            terminal.type("Count to 100\r")
            terminal.shows("3, 4")
            relay.cut()
            terminal.asks(times=4)
            terminal.type("What is the capital of France?\r")
            terminal.shows("Paris")
            terminal.asks(times=5)
            terminal.type("\x04")
            assert terminal.wait() == 0
    asked = [message["content"] for message in saved_messages() if message["role"] == "user"]
    assert asked == ["What is 2+2?", "Count to 100", "What is the capital of France?"]
    assert saved_messages()[3]["content"].strip().startswith("1, 2, 3")


def test_the_words_of_other_chats_work_and_a_name_alone_is_a_chat(models: Models) -> None:
    name = models.ensure("q")
    for number, (word, *options) in enumerate([("/bye",), ("exit", "-i"), ("QUIT",)]):
        with at_a_terminal("prompt", name, *options, columns=200) as terminal:
            terminal.shows("chatting with `q` on `dc1`")
            terminal.asks()
            if not number:
                terminal.type("/?\r")
                terminal.shows("`/bye`, `exit` and `quit` quit too")
                terminal.asks(times=2)
            terminal.type(f"{word}\r")
            assert terminal.wait() == 0
    assert models.running(name) == 0


def test_a_chat_with_no_save_leaves_no_history() -> None:
    with at_a_terminal("prompt", "q", "-i", "--no-save") as terminal:
        terminal.asks()
        terminal.type("What is 2+2?\r")
        terminal.shows("12 tokens")
        terminal.asks(times=2)
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert not Path(os.environ["PI_CONFIG_DIR"], "prompt_history").exists()
    assert saved_files() == []


def test_sigterm_ends_a_chat_during_an_answer(models: Models) -> None:
    with at_a_terminal("prompt", models.ensure("slow"), "-i") as terminal:
        terminal.asks()
        terminal.type("Count to 100\r")
        terminal.shows("3, 4")
        terminal.process.terminate()
        assert terminal.wait() == 143
    until(lambda: models.running("slow") == 0)


def test_the_answer_is_rendered_only_on_a_terminal(pi: Pi) -> None:
    assert "1. Read the **README**.\n2. Run `make test`.\n\n```python\n" in pi("prompt", "q", "Show markdown").out
    with at_a_terminal("prompt", "q", "Show markdown", columns=160) as terminal:
        assert terminal.wait() == 0
        terminal.shows("tok/s")
    assert "\x1b[1mREADME\x1b[0m" in terminal.raw
    assert "```" not in terminal.text


def test_ctrl_c_on_a_terminal_ends_the_command_and_leaves_the_terminal_as_it_was(models: Models) -> None:
    with at_a_terminal("prompt", models.ensure("slow"), "Count to 100") as terminal:
        terminal.shows("3, 4")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    until(lambda: models.running("slow") == 0)
