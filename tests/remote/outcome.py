"""How a step of `pod_setup.sh` ended, from the lines it printed; the step is the `it` of `Machine.step`."""

import subprocess


def said(done: subprocess.CompletedProcess[str], sign: str) -> list[str]:
    """Return what the step has said (`*`), warned of (`!`) or failed with (`x`)."""
    start = f"    it {sign} "
    return [line.removeprefix(start) for line in done.stdout.splitlines() if line.startswith(start)]


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a step which must have been done has printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passes(done: subprocess.CompletedProcess[str]) -> str:
    """Return the summary of a step that must have been done without anything else to show."""
    assert "    it | " not in ok(done)
    return said(done, "*")[-1]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 9, done.stdout + done.stderr
    return said(done, "x")[0]
