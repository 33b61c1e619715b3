"""Read what `nvidia-smi` prints."""

from pi_cli.store.records import Gpu

QUERY = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]

# Board sizes in GB as vendors print them. `memory.total` is up to 1/16 below (ECC), plus what the driver reserves.
BOARD_SIZES = (8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 120, 141, 144, 180, 192, 288)


def parse_gpus(output: str) -> list[Gpu]:
    """Read the answer to `QUERY`; memory is in GB as vendors count it (81559 MiB → `80GB`).

    >>> parse_gpus("0, NVIDIA H100 80GB HBM3, 81559\\n")
    [Gpu(id=0, name='NVIDIA H100 80GB HBM3', memory='80GB', extra={})]
    """
    gpus = []
    for line in output.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdecimal():
            gpus.append(Gpu(int(fields[0]), fields[1], _board_size(fields[2])))
    return gpus


def _board_size(mebibytes: str) -> str:
    """Name the board that reports so much memory, else the plain figure; `[N/A]` (unified memory) is `unknown`."""
    if not mebibytes.isdecimal():
        return "unknown"
    gibibytes = int(mebibytes) / 1024
    board = next((size for size in BOARD_SIZES if size >= gibibytes - 0.1), 0)
    return f"{board if board <= gibibytes * 1.075 and board else round(gibibytes)}GB"
