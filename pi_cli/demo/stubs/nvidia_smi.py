"""The simulated `nvidia-smi`: the part of its interface that scripts use."""

import sys
from pathlib import Path

from pi_cli.demo import gpus
from pi_cli.demo.gpus import Allocation, Gpu

NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)
UNITS = {"memory": "MiB", "utilization": "%", "used_memory": "MiB", "used_gpu_memory": "MiB"}


def main(argv: list[str]) -> int:
    options = dict(_options(argv))
    home = Path.home()
    driver, cards = gpus.installed(home)
    if driver is None:
        sys.stdout.write(NO_DRIVER)
        return 9
    if not cards:
        sys.stdout.write("No devices were found\n")
        return 6
    selected = options.get("-i") or options.get("--id")
    if selected:
        cards = [card for card in cards if str(card.id) in selected.split(",") or card.uuid in selected.split(",")]
    allocations = [allocation for allocation in gpus.allocations(home) if allocation.gpu in [card.id for card in cards]]
    if "-L" in options or "--list-gpus" in options:
        sys.stdout.writelines(f"GPU {card.id}: {card.name} (UUID: {card.uuid})\n" for card in cards)
        return 0
    if "--query-gpu" in options:
        use = gpus.utilization(home)
        return _table(
            options, "--query-gpu", [_card_fields(card, allocations, driver, use.get(card.id, 0)) for card in cards]
        )
    if "--query-compute-apps" in options:
        return _table(
            options, "--query-compute-apps", [_process_fields(allocation, cards) for allocation in allocations]
        )
    sys.stdout.write(_overview(cards, allocations, driver))
    return 0


def _options(argv: list[str]) -> list[tuple[str, str]]:
    """Split `--name=value`, `--name value` and `--name`."""
    words = list(argv)
    parsed = []
    while words:
        name, separator, value = words.pop(0).partition("=")
        if not separator and words and not words[0].startswith("-"):
            value = words.pop(0)
        parsed.append((name, value))
    return parsed


def _card_fields(card: Gpu, allocations: list[Allocation], driver: str, use: int) -> dict[str, str]:
    used = sum(allocation.memory for allocation in allocations if allocation.gpu == card.id)
    return {
        "index": str(card.id),
        "name": card.name,
        "gpu_name": card.name,
        "uuid": card.uuid,
        "gpu_uuid": card.uuid,
        "count": "1",
        "driver_version": driver,
        "compute_cap": card.compute_cap,
        "memory.total": str(card.memory),
        "memory.used": str(used),
        "memory.free": str(card.memory - used),
        "memory.reserved": "0",
        "utilization.gpu": str(use),
        "utilization.memory": "0",
        "mig.mode.current": "Disabled",
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
        "pci.bus_id": f"00000000:{card.id + 1:02X}:00.0",
        "temperature.gpu": "31",
        "power.draw": "[N/A]",
        "power.limit": "[N/A]",
    }


def _process_fields(allocation: Allocation, cards: list[Gpu]) -> dict[str, str]:
    card = next(card for card in cards if card.id == allocation.gpu)
    return {
        "pid": str(allocation.pid),
        "process_name": "VLLM::EngineCore",
        "name": "VLLM::EngineCore",
        "used_memory": str(allocation.memory),
        "used_gpu_memory": str(allocation.memory),
        "gpu_uuid": card.uuid,
        "gpu_name": card.name,
    }


def _table(options: dict[str, str], query: str, rows: list[dict[str, str]]) -> int:
    fields = [field.strip() for field in options[query].split(",")]
    known = rows[0] if rows else _process_fields(Allocation(0, 0, 0), [Gpu(0, "", 0, "")])
    for field in fields:
        if field not in known:
            sys.stdout.write(f'Field "{field}" is not a valid field to query.\n\n')
            return 2
    formats = options.get("--format", "").split(",")
    if "csv" not in formats:
        sys.stdout.write('"--format=" must be specified with "csv" for queries.\n')
        return 2
    has_units = "nounits" not in formats
    if "noheader" not in formats:
        headers = [f"{field} [{_unit(field)}]" if has_units and _unit(field) else field for field in fields]
        sys.stdout.write(", ".join(headers) + "\n")
    for row in rows:
        sys.stdout.write(", ".join(_with_unit(field, row[field], has_units) for field in fields) + "\n")
    return 0


def _unit(field: str) -> str:
    return UNITS.get(field.partition(".")[0], "")


def _with_unit(field: str, value: str, has_units: bool) -> str:
    return f"{value} {_unit(field)}" if has_units and _unit(field) and value.isdecimal() else value


def _overview(cards: list[Gpu], allocations: list[Allocation], driver: str) -> str:
    rule = "+" + "-" * 77 + "+"

    def line(text: str) -> str:
        return f"| {text:<75} |"

    rows = [rule, line(f"NVIDIA-SMI {driver} (SIMULATED)   Driver Version: {driver}   CUDA Version: {gpus.CUDA}"), rule]
    for card in cards:
        used = sum(allocation.memory for allocation in allocations if allocation.gpu == card.id)
        rows.append(line(f"{card.id:>3}  {card.name:<44} {used:>7}MiB / {card.memory}MiB"))
    rows += [rule, line("Processes:")]
    rows += [
        line(f"{allocation.gpu:>3}  {allocation.pid:>9}   C   VLLM::EngineCore {allocation.memory:>24}MiB")
        for allocation in allocations
    ]
    if not allocations:
        rows.append(line("  No running processes found"))
    return "\n".join([*rows, rule, ""])
