"""The simulated `nvidia-smi`: the part of the real one's interface that scripts use."""

import sys
from pathlib import Path

from pi_cli.demo import gpus
from pi_cli.demo.gpus import Gpu, Hold

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
    chosen = options.get("-i") or options.get("--id")
    if chosen:
        cards = [card for card in cards if str(card.id) in chosen.split(",") or card.uuid in chosen.split(",")]
    held = [hold for hold in gpus.holds(home) if hold.gpu in [card.id for card in cards]]
    if "-L" in options or "--list-gpus" in options:
        sys.stdout.writelines(f"GPU {card.id}: {card.name} (UUID: {card.uuid})\n" for card in cards)
        return 0
    if "--query-gpu" in options:
        return _table(options, "--query-gpu", [_about(card, held, driver) for card in cards])
    if "--query-compute-apps" in options:
        return _table(options, "--query-compute-apps", [_about_hold(hold, cards) for hold in held])
    sys.stdout.write(_overview(cards, held, driver))
    return 0


def _options(argv: list[str]) -> list[tuple[str, str]]:
    """Split `--name=value`, `--name value` and `--name`."""
    words = list(argv)
    found = []
    while words:
        name, separator, value = words.pop(0).partition("=")
        if not separator and words and not words[0].startswith("-"):
            value = words.pop(0)
        found.append((name, value))
    return found


def _about(card: Gpu, held: list[Hold], driver: str) -> dict[str, str]:
    used = sum(hold.memory for hold in held if hold.gpu == card.id)
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
        "utilization.gpu": "0",
        "utilization.memory": "0",
        "mig.mode.current": "Disabled",
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
        "pci.bus_id": f"00000000:{card.id + 1:02X}:00.0",
        "temperature.gpu": "31",
        "power.draw": "[N/A]",
    }


def _about_hold(hold: Hold, cards: list[Gpu]) -> dict[str, str]:
    card = next(card for card in cards if card.id == hold.gpu)
    return {
        "pid": str(hold.pid),
        "process_name": "VLLM::EngineCore",
        "name": "VLLM::EngineCore",
        "used_memory": str(hold.memory),
        "used_gpu_memory": str(hold.memory),
        "gpu_uuid": card.uuid,
        "gpu_name": card.name,
    }


def _table(options: dict[str, str], query: str, rows: list[dict[str, str]]) -> int:
    fields = [field.strip() for field in options[query].split(",")]
    known = rows[0] if rows else _about_hold(Hold(0, 0, 0), [Gpu(0, "", 0, "")])
    for field in fields:
        if field not in known:
            sys.stdout.write(f'Field "{field}" is not a valid field to query.\n\n')
            return 2
    wishes = options.get("--format", "").split(",")
    if "csv" not in wishes:
        sys.stdout.write('"--format=" must be specified with "csv" for queries.\n')
        return 2
    has_units = "nounits" not in wishes
    if "noheader" not in wishes:
        headers = [f"{field} [{_unit(field)}]" if has_units and _unit(field) else field for field in fields]
        sys.stdout.write(", ".join(headers) + "\n")
    for row in rows:
        sys.stdout.write(", ".join(_with_unit(field, row[field], has_units) for field in fields) + "\n")
    return 0


def _unit(field: str) -> str:
    return UNITS.get(field.partition(".")[0], "")


def _with_unit(field: str, value: str, has_units: bool) -> str:
    return f"{value} {_unit(field)}" if has_units and _unit(field) and value.isdecimal() else value


def _overview(cards: list[Gpu], held: list[Hold], driver: str) -> str:
    rule = "+" + "-" * 77 + "+"

    def line(text: str) -> str:
        return f"| {text:<75} |"

    rows = [rule, line(f"NVIDIA-SMI {driver} (SIMULATED)   Driver Version: {driver}   CUDA Version: {gpus.CUDA}"), rule]
    for card in cards:
        used = sum(hold.memory for hold in held if hold.gpu == card.id)
        rows.append(line(f"{card.id:>3}  {card.name:<44} {used:>7}MiB / {card.memory}MiB"))
    rows += [rule, line("Processes:")]
    rows += [line(f"{hold.gpu:>3}  {hold.pid:>9}   C   VLLM::EngineCore {hold.memory:>24}MiB") for hold in held]
    if not held:
        rows.append(line("  No running processes found"))
    return "\n".join([*rows, rule, ""])
