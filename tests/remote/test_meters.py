"""`remote/setup/meters.sh`: what is counted in the output of uv, pip and apt, and in the traffic of the machine."""

import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

ROUTE = "Iface Destination Gateway\ndocker0 000011AC 00000000\neth0 00000000 0100000A\n"
COUNT = """
    label_name=it
    count() {
        local line
        for line; do
            case "$line" in
                traffic) count_traffic ;;
                received=*) receive "${line#*=}" ;;
                apt=*) head -c "${line#*=}" /dev/zero > "$machine_root/var/cache/apt/archives/partial/a.deb" ;;
                "?") read_meter; echo "${meter_text:-nothing}" ;;
                *) see_line "$line" ;;
            esac
        done
    }
    receive() { printf 'Inter-|\n  lo: 999 1\ndocker0: 7777 1\n  eth0: %s 1 0\n' "$1" > "$machine_root/proc/net/dev"; }
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.write("/proc/net/route", ROUTE)
    machine.write("/proc/net/dev", "  eth0: 5000 1 0\n")
    machine.write("/var/cache/apt/archives/partial/lock", "")
    return machine


def counted(machine: Machine, *lines: str) -> list[str]:
    """Return what is counted at each `?` among the lines that a program prints."""
    return machine.call("count", *lines, before=COUNT.strip()).splitlines()


def test_uv_names_the_total_and_the_traffic_shows_how_far_it_is(machine: Machine) -> None:
    downloads = ["Downloading torch (1.5MiB)", "Downloading cpython-3.12.12-linux (download) (512.0KiB)"]
    assert counted(machine, "Resolved 2 packages in 4ms", "?", *downloads, "?", "received=505000", "?") == [
        "nothing",
        "0 2097152 bytes",
        "500000 2097152 bytes",
    ]


def test_what_uv_has_finished_and_begun_are_the_limits_of_what_it_has_received(machine: Machine) -> None:
    lines = ["Downloading a (2.0KiB)", "Downloading b (1.0KiB)", " Downloaded a", "?", "received=99999", "?"]
    assert counted(machine, *lines) == ["2048 3072 bytes", "3072 3072 bytes"]


def test_what_apt_downloads_at_the_same_time_is_not_uvs(machine: Machine) -> None:
    assert counted(machine, "Downloading a (9.0KiB)", "received=9000", "apt=3000", "?") == ["1000 9216 bytes"]


@pytest.mark.parametrize(
    "line", ["Prepared 2 packages in 3ms", "Installed 2 packages in 3ms", "Installing collected packages: uv"]
)
def test_nothing_is_counted_after_the_downloads(machine: Machine, line: str) -> None:
    assert counted(machine, "  Downloading uv-0.13.9-py3.whl (17.6 MB)", "?", line, "?") == [
        "0 17600000 bytes",
        "nothing",
    ]


def test_apt_says_what_it_needs_to_get_and_then_counts_packages(machine: Machine) -> None:
    lines = [
        "0 upgraded, 3 newly installed, 0 to remove and 0 not upgraded.",
        "Need to get 1,234 kB/69.6 MB of archives.",
        "Get:1 http://deb.example.org bookworm/main amd64 gcc-12 amd64 12.2 [1,000 kB]",
        *("apt=500", "?", "Get:2 http://deb.example.org bookworm/main amd64 g++ [234 kB]", "?"),
        *("Fetched 1,234 kB in 0s (12 MB/s)", "?", "Unpacking gcc-12 (12.2) ...", "?"),
        *("Unpacking g++ (12.2) ...", "Setting up gcc-12 (12.2) ...", "?"),
        *("Unpacking make (4.3) ...", "?"),
    ]
    assert counted(machine, *lines) == [
        "    it ~ 1234000 0 0",
        "500 1234000 bytes",
        "1000000 1234000 bytes",
        "nothing",
        "1 3 packages unpacked",
        "2 3 packages unpacked",
        "1 3 packages set up",
    ]


def test_packages_in_the_cache_of_apt_are_not_counted_as_a_download(machine: Machine) -> None:
    assert counted(machine, "Need to get 0 B/69.6 MB of archives.", "?") == ["nothing"]


def test_a_program_that_says_nothing_is_counted_by_the_traffic_of_the_default_route(machine: Machine) -> None:
    assert counted(machine, "traffic", "?", "received=6000", "?") == ["nothing", "1000 0 bytes"]


def test_a_machine_without_a_default_route_counts_what_is_finished(machine: Machine) -> None:
    machine.write("/proc/net/route", "Iface Destination\n")
    lines = ["Downloading a (2.0KiB)", "received=9999", "?", " Downloaded a", "?"]
    assert counted(machine, *lines) == ["0 2048 bytes", "2048 2048 bytes"]


@pytest.mark.parametrize(
    "line",
    [
        "Downloading x[$(touch ~/evil)] (1.0KiB)",
        "Downloading $(touch ~/evil) (1.0KiB)",
        "Downloading a (99999.9999GiB)",
        "Downloading a (...B)",
        "Need to get ,,, GB",
        "99999 upgraded, 99999 newly installed, 0",
        "Get: [1 kB] [2,3 kB]",
        "Setting up",
    ],
)
def test_no_line_of_a_program_is_evaluated_or_ends_the_step(machine: Machine, line: str) -> None:
    counted(machine, line, "?", line.replace("Downloading", " Downloaded"), "?")
    assert not (machine.home / "evil").exists()
