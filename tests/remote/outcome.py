"""How a step of `pod_setup.sh` ended, from the lines it printed; the step is the `it` of `Machine.step`."""

import subprocess


def messages(done: subprocess.CompletedProcess[str], sign: str) -> list[str]:
    """Return the messages (`*`), warnings (`!`) or reasons of failure (`x`) of a step."""
    start = f"    it {sign} "
    return [line.removeprefix(start) for line in done.stdout.splitlines() if line.startswith(start)]


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a step, which must have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passes(done: subprocess.CompletedProcess[str]) -> str:
    """Return the summary of a step that must have succeeded without output of programs."""
    assert "    it | " not in ok(done)
    return messages(done, "*")[-1]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 9, done.stdout + done.stderr
    return messages(done, "x")[0]
