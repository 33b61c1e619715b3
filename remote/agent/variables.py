"""The environment of programs: variables of the machine that are let in, and ~/.pi/env; the folder for models in it.

docs/variables.md lists what is let in, with the reasons; setup has the same list (`remote/setup/variables.sh`).
"""

import os
import re
import time
from typing import Dict, Mapping, Optional

from agent import home, machine
from agent.home import PI
from agent.wire import Refused

LET_IN = re.compile(
    "HOME|USER|LOGNAME|SHELL|PATH|PWD|HOSTNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|TMPDIR"
    "|(https?|ftp|all|no)_proxy|(HTTPS?|FTP|ALL|NO)_PROXY|PIP_PROXY"
    "|SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT|(REQUESTS|CURL)_CA_BUNDLE|PIP_(CLIENT_)?CERT|GIT_SSL_CAINFO"
    "|UV_(NATIVE_TLS|SYSTEM_CERTS|INSECURE_HOST)|PIP_TRUSTED_HOST"
    "|UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|FIND_LINKS)"
    "|UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)|UV_PYTHON_(INSTALL_MIRROR|DOWNLOADS)"
    "|PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS)|NETRC|HF_ENDPOINT"
    "|UV_(HTTP|REQUEST)_TIMEOUT|UV_HTTP_RETRIES|PIP_(DEFAULT_TIMEOUT|TIMEOUT|RETRIES)"
    "|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)|container|(NCCL|FI|UCX)_[A-Z0-9_]+|GLOO_SOCKET_IFNAME"
    "|PI_(CUDA_REPOSITORY|DEMO_[A-Z]+|FIRST_PORT|FREE_DISK|LAB_[A-Z]+|MACHINE_ROOT|SETUP|SETUP_WAIT_LIMIT)"
    "|PI_(STALL_SECONDS|VLLM_WHEELS)"
)
DRIVER = ("/usr/local/nvidia/lib", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib")  # of LD_LIBRARY_PATH

ENVIRONMENT_TIMEOUT = 10.0  # seconds for ~/.pi/env, which setup writes and users edit


def pod_environment() -> Dict[str, str]:
    """Return the machine's variables that are let in, with those of ~/.pi/env, as bash reads that file.

    Variables in the machine's own file, if it has one, have precedence.
    """
    paths = dict.fromkeys(os.path.join(folder, "env") for folder in (PI, machine.PLACE))
    files = [descriptor for descriptor in map(open_environment, paths) if descriptor is not None]
    read = "".join(". /proc/self/fd/%d; " % descriptor for descriptor in files)
    import subprocess

    with subprocess.Popen(
        ["bash", "--norc", "-c", 'set -a; %sprintf "\\0"; exec env -0' % read],
        env=of_the_machine(os.environ),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=files,
    ) as process:
        assert process.stdout is not None
        output, is_whole = home.read_until(process.stdout.fileno(), time.monotonic() + ENVIRONMENT_TIMEOUT)
        if not is_whole:
            import signal

            os.killpg(process.pid, signal.SIGKILL)
            raise Refused({"code": "environment", "seconds": ENVIRONMENT_TIMEOUT})
    for descriptor in files:
        os.close(descriptor)
    entries = output.decode("utf-8", "surrogateescape").split("\0")[1:]
    settings = {name: value for name, _, value in (entry.partition("=") for entry in entries) if name}
    settings.pop("PYTHONHOME", None)  # with it, the Python of a virtual environment does not start
    # The present target of ~/venv: a later setup may change the link while programs run from the old target.
    programs = os.path.join(os.path.realpath(machine.VENV), "bin")
    settings["PATH"] = os.pathsep.join([programs, settings.get("PATH", os.defpath)])
    return settings


def open_environment(path: str) -> Optional[int]:
    """Open a file that is run as a script; None if it is missing. Refuse it if another user could have written it: then
    it is that user's script."""
    try:
        descriptor = home.open_regular(path)
    except OSError:
        return None
    owner = os.fstat(descriptor).st_uid
    if owner not in (os.geteuid(), 0, os.stat(PI).st_uid):
        raise home.not_ours(path, owner)
    return descriptor


def of_the_machine(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return those of a session's variables that describe the machine and its network, and change nothing else."""
    settings = {name: value for name, value in environ.items() if LET_IN.fullmatch(name)}
    libraries = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder.rstrip("/") in DRIVER]
    for folder in DRIVER:  # an ssh session lacks the variable that the container has
        if folder not in libraries and os.path.exists(os.path.join(folder, "libcuda.so.1")):
            libraries.append(folder)
    if libraries:  # where the container runtime puts the driver, and ldconfig may not know it
        settings["LD_LIBRARY_PATH"] = ":".join(libraries)
    return settings


def hub(settings: Mapping[str, str]) -> str:
    """Return the folder of all models, in the order in which huggingface_hub looks for it."""
    chosen = settings.get("HF_HUB_CACHE") or settings.get("HUGGINGFACE_HUB_CACHE")
    return os.path.expanduser(chosen) if chosen else os.path.join(hf_home(settings), "hub")


def hf_home(settings: Mapping[str, str]) -> str:
    caches = settings.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return os.path.expanduser(settings.get("HF_HOME") or os.path.join(caches, "huggingface"))


def models_path(settings: Mapping[str, str]) -> Optional[str]:
    """Return the folder for models that was chosen: `--models-path`, or what ~/.pi/env says; None for the home folder.

    A link that setup made in the home folder counts too. It is read, not followed: its volume may not answer.
    """
    default, folder = hf_home({}), hub(settings).rstrip("/")
    if folder == os.path.join(default, "hub"):
        if not os.path.islink(default):
            return None
        folder = os.path.join(os.readlink(default), "hub")
    if not folder.startswith("/"):
        return None
    is_ours = folder.endswith("/huggingface/hub")
    return os.path.dirname(os.path.dirname(folder)) if is_ours else folder
