"""A machine for `pod_setup.sh`: the real bash and coreutils, and small executables for what a test may not touch.

Their state is plain files in the machine's folder: `packages`, `mounts`, and `calls`, where each notes how it was run.
"""

import os
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "remote" / "pod_setup.sh"

_STUBS = {
    "nvidia-smi": 'echo "NVIDIA H100 80GB HBM3, 81559 MiB"',
    "dpkg": ":",
    "dpkg-query": 'for package; do :; done; grep -qx "$package" "$MACHINE/packages" && printf installed',
    "apt-get": """
        for word; do case "$word" in install) installing=yes ;; -*) ;; *=*) ;; *) wanted="$wanted $word" ;; esac; done
        if [ "$installing" ]; then printf '%s\\n' $wanted >> "$MACHINE/packages"; fi
    """,
    "sudo": 'shift; exec env AS_ROOT=yes "$@"',
    "mountpoint": 'grep -qx "$2" "$MACHINE/mounts"',
    "mount": 'for target; do :; done; echo "$target" >> "$MACHINE/mounts"',
    "curl": 'echo "curl: (6) Could not resolve host" >&2; exit 6',
    "uv": """
        case "$1 $2" in
          "--version "*) echo "uv 0.13.9" ;;
          "python find") echo "/usr/bin/python$4" ;;
          "venv --quiet") for venv; do :; done; rm -rf "$venv"; mkdir -p "$venv/bin" "$venv/lib" ;;
          "pip install")
            if [ "$3" = --help ]; then echo --excludes; exit; fi
            bin="${4%/python}"
            for name in vllm hf; do cp "$MACHINE/installed/$name" "$bin/$name"; done ;;
        esac
    """,
    # Started with `serve` it runs until its stdin ends.
    "installed/vllm": 'if [ "$1" = serve ]; then echo serving; read -r _; else echo 0.32.0; fi',
    "installed/hf": ":",
}


class Machine:
    """Runs the script, or parts of it, as the user of a scratch home."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.home = folder / "it's home"
        self.venv = self.home / "venv"
        self.home.mkdir(parents=True)
        (folder / "installed").mkdir()
        (folder / "bin").mkdir()
        for name in ("packages", "mounts", "calls"):
            (folder / name).touch()
        for name, body in _STUBS.items():
            self.install(name, body)
        self.environ = {
            "HOME": str(self.home),
            "MACHINE": str(folder),
            "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            **environ,
        }

    def install(self, name: str, body: str) -> None:
        """Put an executable on the PATH, or (`installed/NAME`) into what uv installs."""
        path = self.folder / (name if "/" in name else f"bin/{name}")
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> "$MACHINE/calls"\n{body}\n')
        path.chmod(0o755)

    def remove(self, name: str) -> None:
        """Take an executable off the PATH for good, wherever else this computer has it."""
        chosen = self.folder / "bin"
        for folder in (Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin")):
            for tool in folder.iterdir() if folder.is_dir() else ():
                if not (chosen / tool.name).exists():
                    (chosen / tool.name).symlink_to(tool)
        (chosen / name).unlink()
        self.environ["PATH"] = str(chosen)

    def become(self, uid: int) -> None:
        self.install("id", f'case "$1" in -un) echo someone ;; *) echo {uid} ;; esac')

    def setup(self, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[str]:
        """Run the whole script; `before` is shell code that may change its settings."""
        return self._bash(f'{before}; main "$@"', *arguments)

    def call(self, function: str, *arguments: str, before: str = ":") -> str:
        """Run one function of the script and return what it prints; it must succeed."""
        ended = self._bash(f'{before}; "$@"', function, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def calls(self, *names: str) -> list[str]:
        """Return how the named executables were run, in order; all of them where none is named."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if not names or line.split(" ", 1)[0] in names]

    def forget_calls(self) -> None:
        (self.folder / "calls").write_text("")

    def _bash(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        bash = shutil.which("bash") or "bash"
        command = [bash, "--norc", "-c", f'. "$1"; shift; {code}', "bash", str(SCRIPT), *arguments]
        return subprocess.run(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=os.sep,
        )
