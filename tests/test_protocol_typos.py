"""A typo in a name or a limit of the protocol is an error of mypy, in the agent and in pi."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Typo(NamedTuple):
    """A change of one line of a file: `old`, which occurs once, becomes `new`."""

    file: str
    old: str
    new: str


AGENT = {
    "a key": [
        Typo("main.py", 'envelope["operation"]', 'envelope["opertaion"]'),
        Typo("main.py", 'request["name"]', 'request["nmae"]'),
        Typo("main.py", '"code": "bug", "reason"', '"code": "bug", "raeson"'),
        Typo("start.py", 'request["min_vllm"]', 'request["min_vlm"]'),
        Typo("start.py", '"machine": machine.ID', '"machien": machine.ID'),
        Typo("survey.py", '"elsewhere": [', '"elsewere": ['),
        Typo("survey.py", '"was_recorded":', '"was_recored":'),
        Typo("survey.py", 'record.get("ready", False)', 'record.get("redy", False)'),
        Typo("survey.py", 'record.get("progress")', 'record.get("progres")'),
        Typo("watch.py", 'record.get("progress")', 'record.get("progerss")'),
        Typo("watch.py", '"done": done or 0, "total": total', '"done": done or 0, "totla": total'),
        Typo("records.py", 'record.get("touched")', 'record.get("tuched")'),
        Typo("records.py", '"pid": model["pid"]', '"pdi": model["pid"]'),
        Typo("logs.py", 'self._source["uid"]', 'self._source["uuid"]'),
        Typo("log_search.py", 'if "utc" in since', 'if "uct" in since'),
        Typo("uploads.py", 'request["digest"], request', 'request["digets"], request'),
        Typo("uploads.py", '"folder": folder, "is_stored"', '"folder": folder, "is_stord"'),
    ],
    "a state": [
        Typo("watch.py", '"state": "healthy"', '"state": "helathy"'),
        Typo("start.py", 'end["state"] != "exited"', 'end["state"] != "exitted"'),
        Typo("survey.py", 'return "orphaned"', 'return "orphand"'),
        Typo("survey.py", 'if record and status == "ready"', 'if record and status == "raedy"'),
        Typo("stop.py", '"stuck" if is_stuck', '"stukc" if is_stuck'),
    ],
    "an event": [
        Typo("wire.py", '{"event": "beat"}', '{"event": "baet"}'),
        Typo("watch.py", '"event": "launched"', '"event": "lanched"'),
        Typo("start.py", '"event": "lock-elsewhere"', '"event": "lock-elsewere"'),
        Typo("download/fetch.py", '"event": "hub-silent"', '"event": "hub-silnet"'),
        Typo("logs.py", 'self.report("truncated")', 'self.report("trunctated")'),
        Typo("logs.py", '"event": "begins"', '"event": "begin"'),
    ],
    "a refusal": [
        Typo("start.py", '"code": "gpus-taken"', '"code": "gpu-taken"'),
        Typo("log_search.py", '"code": "bad-pattern"', '"code": "bad-patern"'),
        Typo("arguments.py", '"code": "arguments"', '"code": "argument"'),
        Typo("download/fetch.py", '"code": "no-room-on-disk"', '"code": "no-room-on-disc"'),
    ],
    "an operation": [Typo("main.py", '"holders": holders', '"holder": holders')],
    "a limit or another constant": [
        Typo("wire.py", r'MARK: "protocol.Mark" = "\x1epi "', r'MARK: "protocol.Mark" = "\x1fpi "'),
        Typo("records.py", 'VERSION: "protocol.Version" = 1', 'VERSION: "protocol.Version" = 2'),
        Typo("survey.py", 'MAX_LOG_END: "protocol.MaxLogEnd" = 65536', 'MAX_LOG_END: "protocol.MaxLogEnd" = 65563'),
        Typo("start.py", 'FIRST_PORT: "protocol.FirstPort" = 8001', 'FIRST_PORT: "protocol.FirstPort" = 8010'),
        Typo("logs.py", '"!BHIQ"', '"!BHQI"'),
        Typo("logs.py", 'DATA: "protocol.DataKind" = 0', 'DATA: "protocol.DataKind" = 1'),
    ],
}
PI = {
    "a key": [
        Typo("agent.py", '"known": list(known), "forget"', '"known": list(known), "forgte"'),
        Typo("replies.py", '_models(reply["models"]),', '_models(reply["modles"]),'),
        Typo("replies.py", 'reply["lacking"]', 'reply["lakcing"]'),
        Typo("replies.py", '"frees": 0', '"frese": 0'),
        Typo("replies.py", 'begins["is_new"]', 'begins["is_nwe"]'),
        Typo("replies.py", '"inode": checks', '"indoe": checks'),
        Typo("agent.py", 'if "refusal" in answer', 'if "refsual" in answer'),
        Typo("agent_link.py", '"operation": operation', '"operaton": operation'),
        Typo("agent_link.py", '("event", "result", "refusal")', '("event", "reslut", "refusal")'),
        Typo("wording.py", "{event['path']}` unknown", "{event['paht']}` unknown"),
    ],
    "a state": [
        Typo("replies.py", '"unhealthy", "orphaned"', '"unhealthy", "orfaned"'),
        Typo("replies.py", '"killed"', '"kiled"'),
        Typo("replies.py", '"answers", "fails"', '"answers", "fials"'),
        Typo("replies.py", 'reply["state"] == "healthy"', 'reply["state"] == "helthy"'),
    ],
    "an event": [
        Typo("replies.py", 'case "placed"', 'case "plaecd"'),
        Typo("replies.py", 'case "waits-for-lock"', 'case "wait-for-lock"'),
        Typo("agent_link.py", 'message["event"] != "beat"', 'message["event"] != "baet"'),
        Typo("wording.py", 'case "download-stalled"', 'case "download-staled"'),
        Typo("replies.py", 'case "driver-slow"', 'case "driver-slwo"'),
    ],
    "a refusal": [
        Typo("replies.py", '"vllm-too-old"', '"vllm-to-old"'),
        Typo("wording.py", 'case "name-taken"', 'case "name-taekn"'),
    ],
    "an operation": [Typo("agent.py", 'session, "inspect"', 'session, "inspct"')],
    "a limit or another constant": [
        Typo("agent_link.py", "VERSION: protocol.Version = 1", "VERSION: protocol.Version = 2"),
        Typo("agent_link.py", "protocol.MaxLine = 4194304", "protocol.MaxLine = 4194340"),
        Typo("agent_link.py", "EVENT: protocol.EventKind = 1", "EVENT: protocol.EventKind = 2"),
        Typo("agent_link.py", '"!BHIQ"', '"!BIHQ"'),
    ],
}
SIDES = {"remote/agent": AGENT, "pi_cli/pods": PI}


def test_mypy_reports_every_typo_where_it_is(tmp_path: Path) -> None:
    for name in ("pi_cli", "remote"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    typos = [
        (kind, tmp_path / folder / typo.file, typo)
        for folder, kinds in SIDES.items()
        for kind, typos in kinds.items()
        for typo in typos
    ]
    for _, path, typo in typos:
        text = path.read_text(encoding="utf-8")
        assert text.count(typo.old) == 1, f"{path} should have {typo.old} once: choose another typo"
        path.write_text(text.replace(typo.old, typo.new), encoding="utf-8")
    errors = errors_of_mypy(tmp_path)
    unreported = []
    for kind, path, typo in typos:
        text = path.read_text(encoding="utf-8")
        line = text[: text.index(typo.new)].count("\n") + 1
        if not errors.get(path, set()) & set(lines_of_statement(text, line)):
            unreported.append(f"{kind}: {path.relative_to(tmp_path)}:{line}: {typo.new}")
    assert unreported == []


def errors_of_mypy(folder: Path) -> dict[Path, set[int]]:
    """Return the lines with errors, by file."""
    command = [sys.executable, "-m", "mypy", f"--cache-dir={os.devnull}", "--no-pretty", *SIDES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    errors: dict[Path, set[int]] = {}
    for file, line in re.findall(r"^(\S+?):(\d+): error: ", done.stdout, re.MULTILINE):
        errors.setdefault(folder / file, set()).add(int(line))
    return errors


def lines_of_statement(text: str, line: int) -> range:
    """Return the lines of the shortest statement or `case` with this line.

    mypy reports a key at the beginning of its dict, and a `case` that never matches at its body.
    """
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt | ast.match_case))
    return min((span for span in map(_span, nodes) if line in span), key=len)


def _span(node: ast.stmt | ast.match_case) -> range:
    if isinstance(node, ast.match_case):
        return range(node.pattern.lineno, _span(node.body[-1]).stop)
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
