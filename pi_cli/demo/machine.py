"""The system files that the setup script reads (system, container, CUDA toolkit), in a folder of the embedded pod.

`PI_MACHINE_ROOT` makes the script read them there, so that the demo behaves the same on every Linux.
"""

from pathlib import Path

VARIABLE = "PI_MACHINE_ROOT"
CUDA = "13.0"  # the newest version that the simulated driver supports
CAPABILITIES = "000001ffffffffff"
FILES = {
    "etc/os-release": 'NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nPRETTY_NAME="Ubuntu 22.04 (simulated)"\n',
    "proc/1/comm": "systemd\n",
    "proc/1/environ": "",
    "proc/self/uid_map": "         0          0 4294967295\n",
    "proc/self/status": f"CapEff:\t{CAPABILITIES}\nCapBnd:\t{CAPABILITIES}\n",
    "proc/self/mounts": "",  # the simulated mount adds to it
}
NVCC = f"""#!/bin/sh
# SIMULATED nvcc, on an embedded pod of `pi demo`: only prints its version.
echo "Cuda compilation tools, release {CUDA}, V{CUDA}.88 (simulated)"
"""
HEADERS = ("cuda_runtime.h", "nvrtc.h", "curand.h", "cublas_v2.h")


def write(root: Path) -> None:
    """Write the files of the simulated machine."""
    for name, text in FILES.items():
        _write(root / name, text)
    toolkit = root / f"usr/local/cuda-{CUDA}"
    _write(toolkit / "bin/nvcc", NVCC)
    (toolkit / "bin/nvcc").chmod(0o755)
    for header in HEADERS:
        _write(toolkit / "include" / header, "// SIMULATED\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
