"""`vllm --version`, `vllm serve` and `vllm bench serve`, simulated."""

import os
import sys
from pathlib import Path

from pi_cli.demo.engine import flags

VERSION = "0.32.0"
USAGE = "usage: vllm serve [model_tag] [options]"


def main(argv: list[str]) -> int:
    if argv[:1] == ["serve"] and not {"-h", "--help"} & set(argv):
        return _serve(argv[1:])
    if argv[:2] == ["bench", "serve"]:
        from pi_cli.demo.engine import bench

        return bench.run(argv[2:])
    if argv in (["--version"], ["-v"]):
        sys.stdout.write(f"{installed_version()}\n")
        return 0
    if not argv or argv[0] in ("-h", "--help", "serve"):
        sys.stdout.write(f"{USAGE}\n\nSIMULATED vLLM {installed_version()} of `pi demo`: no GPU, a scripted model.\n")
        return 0
    return _reject(f"argument subparser: invalid choice: {argv[0]!r} (choose from 'serve')")


def installed_version() -> str:
    """Return the version in the metadata of the venv that runs this, or `VERSION` outside of a venv."""
    python = os.environ.get("PI_DEMO_PYTHON")
    if python:
        for metadata in Path(python).parents[1].glob("lib/python3*/site-packages/vllm-*.dist-info/METADATA"):
            lines = metadata.read_text(encoding="utf-8").splitlines()
            return next(line.split()[1] for line in lines if line.startswith("Version: "))
    return VERSION


def _serve(argv: list[str]) -> int:
    try:
        settings = flags.parse(argv)
    except flags.BadCommandLine as error:
        return _reject(str(error))
    from pi_cli.demo.engine import server

    return server.run(settings, installed_version())


def _reject(error: str) -> int:
    sys.stderr.write(f"{USAGE}\nvllm: error: {error}\n")
    return 2
