"""The load of pods and models as lines of a screen of any size, and as tables for a pipe."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from pi_cli import units
from pi_cli.models import lease_words
from pi_cli.models.load import KEPT, ModelLoad, PodLoad
from pi_cli.safe import safe_line
from pi_cli.store.records import Gpu

if TYPE_CHECKING:
    from pi_cli.pods.reports import GpuLoad

STATUS_STYLES = {"ready": "green", "starting": "yellow"}
HELP = (
    "RUN, WAIT   requests in work, and requests that wait for room in the KV cache",
    "IN/S OUT/S  prompt and answer tokens per second, since the look before",
    "KV          share of the KV cache in use",
    "TTFT        mean time to the first token of the requests of the last minute",
    "LEASE       how long the model may stay without work before it is ended",
    "LAST 5 MIN  answer tokens per second; the highest bar is the model's maximum",
    "USE         share of the time in which the GPU worked, by nvidia-smi",
    "",
    "up/down or j/k  select a model        s  sort by the next column",
    "l               follow its log        x  stop it, after a question",
    "q or Ctrl+C     leave",
)
KEYS = "up/down select  s sort  l log  x stop  ? help  q quit"
CURVE = "LAST 5 MIN"
GAP = 2
LEAST_NAME, LEAST_CURVE, MOST_CURVE = 10, 10, 60  # columns
BAR = 10  # columns
BLOCKS, ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


def _by_name(model: ModelLoad) -> tuple[str, str]:
    return model.pod, model.name


SORTS: Mapping[str, Callable[[ModelLoad], tuple[object, ...]]] = {
    "name": _by_name,
    "out/s": lambda model: (-(model.tokens_out or 0), _by_name(model)),
    "in/s": lambda model: (-(model.tokens_in or 0), _by_name(model)),
    "requests": lambda model: (-(model.running or 0) - (model.waiting or 0), _by_name(model)),
    "kv": lambda model: (-(model.kv_cache or 0), _by_name(model)),
    "ttft": lambda model: (-(model.first_token or 0), _by_name(model)),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What to draw: how models are sorted, which is selected, and what the last line says instead of the keys."""

    interval: float = 2.0
    sort: str = "name"
    selected: tuple[str, str] | None = None
    message: str = ""
    shows_help: bool = False
    is_ascii: bool = False


def ordered(pods: Mapping[str, PodLoad], sort: str) -> list[ModelLoad]:
    """Return all models in the order of the screen."""
    return sorted((model for pod in pods.values() for model in pod.models), key=SORTS[sort])


def screen(pods: Mapping[str, PodLoad], look: Look, *, width: int, height: int) -> list[Text]:
    """Return the lines of a screen, no more than fit; what matters least is left out first.

    On low screens the GPUs of a pod share a line, then the models are the last to go; on narrow ones columns are left
    out.
    """
    models = ordered(pods, look.sort)
    head = [_title(pods, models, look)] if height >= 8 else []
    foot = [Text(look.message or KEYS, style="bold" if look.message else "dim")] if height >= 3 else []
    left = height - len(head) - len(foot)
    if look.shows_help:
        body = [Text(line) for line in HELP]
    else:
        gpus = _gpu_part(pods, look, width, left, wanted=len(models) + 1)
        space = [Text()] if gpus and left - len(gpus) > len(models) + 1 else []
        body = [*gpus, *space, *_model_part(pods, models, look, width, left - len(gpus) - len(space))]
    body = body[: max(left, 0)]
    filled = [*head, *body, *([Text()] * (left - len(body))), *foot][:height]
    for line in filled:
        line.truncate(width, overflow="ellipsis" if not look.is_ascii else "crop")
        line.no_wrap = True
    return filled


def plain(pods: Mapping[str, PodLoad], *, is_ascii: bool) -> list[Text]:
    """Return the tables for a pipe: every GPU and every model, whole."""
    look = Look(is_ascii=is_ascii)
    parts = []
    if gpus := _gpu_rows(pods, look):
        parts += _table(gpus, 10_000)
    if models := _model_rows(ordered(pods, look.sort), look):
        parts += [*([Text()] if parts else []), *_table(models, 10_000, without=("", CURVE))]
    for line in parts:
        line.rstrip()
    return parts


def _title(pods: Mapping[str, PodLoad], models: Sequence[ModelLoad], look: Look) -> Text:
    gpus = sum(len(pod.gpus) for pod in pods.values())
    counts = ", ".join(_count(*each) for each in ((len(pods), "pod"), (gpus, "GPU"), (len(models), "model")))
    return Text.assemble(
        ("pi top", "bold"), f"  {counts}  ", (f"sorted by {look.sort}, every {look.interval:g} s", "dim")
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# GPUs


def _gpu_part(pods: Mapping[str, PodLoad], look: Look, width: int, left: int, *, wanted: int) -> list[Text]:
    """Return the lines about GPUs: all of them, one for each pod, or as many as leave two thirds for the models."""
    each, of_pods = _gpu_rows(pods, look), [_pod_row(pod, look) for pod in pods.values()]
    for rows in (each, of_pods):
        if rows and len(rows) + 1 + min(wanted, max(3, left // 2)) <= left:
            return _table(rows, width)
    room = left // 3
    if room < 3 or not of_pods:
        return []
    lines = _table(of_pods, width)[: room - 1]
    return [*lines, Text(f"and {_count(len(of_pods) - len(lines) + 1, 'more pod')}", style="dim")]


def _gpu_rows(pods: Mapping[str, PodLoad], look: Look) -> "list[dict[str, Text]]":
    rows = []
    for pod in pods.values():
        if pod.error or not pod.gpus:
            rows.append(_pod_row(pod, look))
            continue
        rows += [
            _usage_row(f"{pod.pod}/{gpu.id}", _short_name(gpu), [gpu], look, slices=gpu.has_slices) for gpu in pod.gpus
        ]
    return rows


def _pod_row(pod: PodLoad, look: Look) -> dict[str, Text]:
    if pod.error or not pod.gpus:
        return {"GPU": Text(pod.pod), "TYPE": _trouble(pod)}
    names = units.counted(_short_name(gpu) for gpu in pod.gpus)
    return _usage_row(pod.pod, names, pod.gpus, look, slices=any(gpu.has_slices for gpu in pod.gpus))


def _trouble(pod: PodLoad) -> Text:
    """Say why a pod shows no GPUs: not asked yet, not reached (what and since when), a silent driver, or none."""
    if pod.error:
        seconds = time.monotonic() - (pod.down_since or 0)
        return Text(f"for {units.age(seconds)}: {safe_line(str(pod.error))}", style="red")
    if not pod.is_seen:
        return Text("connecting", style="dim")
    if pod.driver_hangs:
        return Text("the driver does not answer", style="red")
    return Text("nvidia-smi reports no GPUs", style="dim")


def _usage_row(name: str, kind: str, gpus: "Sequence[GpuLoad]", look: Look, *, slices: bool) -> dict[str, Text]:
    uses = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    use = min(sum(uses) / len(uses), 100.0) if uses else None
    memory = [gpu.memory for gpu in gpus if gpu.memory]
    used, total = sum(each[0] for each in memory), sum(each[1] for each in memory)
    temperatures = [gpu.temperature for gpu in gpus if gpu.temperature is not None]
    return {
        "GPU": Text(name),
        "TYPE": Text(f"{kind} MIG" if slices else kind),
        "USE": Text(_bar(use, look) if use is not None else "-", style="green" if use else "dim"),
        "%": Text(f"{use:3.0f}%" if use is not None else "-", justify="right"),
        "MEMORY": Text(f"{used / 1024:.1f}/{total / 1024:.1f} GiB" if memory else "-", justify="right"),
        "POWER": Text(_power(gpus), justify="right"),
        "TEMP": Text(f"{max(temperatures):.0f} C" if temperatures else "-", justify="right"),
    }


def _power(gpus: "Sequence[GpuLoad]") -> str:
    draws = [gpu.power for gpu in gpus if gpu.power is not None]
    limits = [gpu.power_limit for gpu in gpus if gpu.power_limit is not None]
    if not draws:
        return "-"
    return f"{sum(draws):.0f}/{sum(limits):.0f} W" if len(limits) == len(gpus) else f"{sum(draws):.0f} W"


def _short_name(gpu: "GpuLoad") -> str:
    return units.short_name(Gpu(gpu.id, gpu.name, "unknown")) or "GPU"


def _bar(percent: float, look: Look) -> str:
    filled = round(percent / 100 * BAR)
    full, empty = ("#", ".") if look.is_ascii else ("█", "░")
    return full * filled + empty * (BAR - filled)


# Models


def _model_part(
    pods: Mapping[str, PodLoad], models: Sequence[ModelLoad], look: Look, width: int, room: int
) -> list[Text]:
    """Return the table of the models around the selected one; if not all fit, the header says which are shown."""
    if room < 1:
        return []
    if not models:
        waiting = [pod.pod for pod in pods.values() if not pod.is_seen]
        text = (
            f"asking {', '.join(waiting)}" if waiting else "no models run; start one with `pi start MODEL --name NAME`"
        )
        return [Text(text, style="dim")]
    selected = next((row for row, model in enumerate(models) if (model.pod, model.name) == look.selected), 0)
    count = max(room - 1, 1)
    first = min(max(selected - count // 2, 0), max(len(models) - count, 0))
    shown = models[first : first + count]
    title = "MODEL" if len(shown) == len(models) else f"MODEL {first + 1}-{first + len(shown)} of {len(models)}"

    def draw(row: int, columns: int) -> Text:
        return Text(_curve(shown[row], columns, look), style="cyan")

    lines = _table(_model_rows(shown, look), width, titles={"MODEL": title}, draw=draw)
    for line, model in zip(lines[1:], shown, strict=True):
        if (model.pod, model.name) == look.selected:
            line.stylize("reverse")
    return lines if room > 1 else lines[1:]


def _model_rows(models: Sequence[ModelLoad], look: Look) -> list[dict[str, Text]]:
    """Return the rows of models, with the time left of their leases if any has one."""
    shows_leases = any(model.lease for model in models)
    return [_model_row(model, look, shows_leases=shows_leases) for model in models]


def _model_row(model: ModelLoad, look: Look, *, shows_leases: bool) -> dict[str, Text]:
    is_selected = (model.pod, model.name) == look.selected
    status = model.phase or model.status if model.status == "starting" else model.status
    return {
        "": Text(">" if is_selected else " "),
        "MODEL": Text(f"{model.pod}/{safe_line(model.name)}"),
        "STATUS": Text(safe_line(status), style=STATUS_STYLES.get(model.status, "red")),
        **({"LEASE": Text(lease_words.left(model.lease) if model.lease else "-")} if shows_leases else {}),
        "RUN": Text(_whole(model.running), justify="right"),
        "WAIT": Text(_whole(model.waiting), justify="right"),
        "IN/S": Text(_short(model.tokens_in), justify="right"),
        "OUT/S": Text(_short(model.tokens_out), justify="right"),
        "KV": Text("-" if model.kv_cache is None else f"{min(model.kv_cache, 1) * 100:.0f}%", justify="right"),
        "TTFT": Text(_seconds(model.first_token), justify="right"),
        CURVE: Text(" " * MOST_CURVE),  # drawn when its width is known
        "GPUS": Text(model.gpu or "-"),
        "SERVES": Text(safe_line(model.model) or "-"),
    }


def _whole(number: int | None) -> str:
    return "-" if number is None else _short(float(number))


def _short(number: float | None) -> str:
    """Format a rate in at most five characters.

    >>> [_short(number) for number in (None, 0, 3.21, 312.4, 12_345, 4_200_000)]
    ['-', '0', '3.2', '312', '12.3k', '4.2M']
    """
    if number is None:
        return "-"
    if number < 1000:
        return f"{number:.1f}" if 0 < number < 9.95 and number != int(number) else f"{number:.0f}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f}{unit}" if number < 99.95 else f"{number:.0f}{unit}"
    return "1000G+"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    return f"{seconds:.0f}s" if seconds < 1000 else units.age(seconds)


def _curve(model: ModelLoad, width: int, look: Look) -> str:
    """Draw the rates of the last minutes, the newest at the right; the highest bar is the maximum."""
    blocks = ASCII_BLOCKS if look.is_ascii else BLOCKS
    step = max(KEPT / width, look.interval)
    columns: list[list[float]] = [[] for _ in range(width)]
    for ago, rate in model.curve:
        if 0 <= ago < step * width:
            columns[width - 1 - int(ago / step)].append(rate)
    means = [sum(rates) / len(rates) if rates else 0.0 for rates in columns]
    highest = max([*means, 1e-9])
    return "".join(blocks[max(1, round(mean / highest * 8)) if mean > 0 else 0] for mean in means)


# Tables

IMPORTANCE = (  # of columns, the first to stay
    "", "GPU", "MODEL", "%", "STATUS", "LEASE", "OUT/S", "RUN", "MEMORY", "WAIT", "KV", "IN/S", "TTFT", "TYPE", "POWER",
    CURVE, "TEMP", "USE", "GPUS", "SERVES",
)  # fmt: skip
EXTRA = ("GPUS", "SERVES")  # only beside columns that are not cut, and a curve of a welcome width
WELCOME = {CURVE: 20}
LEAST = {"GPU": 6, "MODEL": LEAST_NAME, "STATUS": 8, CURVE: LEAST_CURVE, "TYPE": 8, "SERVES": 16}


def _table(
    rows: Sequence[Mapping[str, Text]],
    width: int,
    *,
    titles: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    draw: Callable[[int, int], Text] | None = None,
) -> list[Text]:
    """Lay rows out in the columns that fit; the last cell of a row of two runs to the end of the line.

    `draw` returns the curve of a row, by its number, in so many columns.
    """
    names = [name for name in max(rows, key=len) if name not in without]
    titles = {name: name for name in names} | dict(titles or {})
    sizes = {name: max([cell_len(titles[name]), *(_size(row, name) for row in rows if name in row)]) for name in names}
    widths: dict[str, int] = {}
    for name in sorted(names, key=IMPORTANCE.index):
        least = min(sizes[name], LEAST.get(name, sizes[name]))
        taken = sum(
            min(sizes[each], WELCOME.get(each, sizes[each])) if name in EXTRA else widths[each] for each in widths
        )
        if not widths or taken + GAP * len(widths) + least <= width:
            widths[name] = least
    spare = width - sum(widths.values()) - GAP * (len(widths) - 1)
    for name in sorted(widths, key=lambda name: (name in (CURVE, *EXTRA), IMPORTANCE.index(name))):
        more = min(sizes[name] - widths[name], max(spare, 0))
        widths[name] += more
        spare -= more
    shown = [name for name in names if name in widths]
    header = {name: Text(titles[name], style="bold") for name in shown}
    for name in shown:
        if any(row[name].justify == "right" for row in rows if name in row):
            header[name].justify = "right"
    if draw and CURVE in widths:
        rows = [{**row, CURVE: draw(number, widths[CURVE])} for number, row in enumerate(rows)]
    return [_line(row, shown, widths) for row in [header, *rows]]


def _size(row: Mapping[str, Text], name: str) -> int:
    return 0 if len(row) == 2 and name == list(row)[-1] else row[name].cell_len


def _line(row: Mapping[str, Text], shown: Sequence[str], widths: Mapping[str, int]) -> Text:
    line = Text(no_wrap=True)
    for position, name in enumerate(shown):
        cell = row.get(name)
        if cell is None:
            break
        is_last = all(later not in row for later in shown[position + 1 :])
        if position and shown[position - 1]:
            line.append(" " * GAP)
        line.append_text(cell.copy() if is_last and len(row) == 2 else _cell(cell, widths[name]))
    return line


def _cell(cell: Text, width: int) -> Text:
    """Cut or fill a cell to the width of its column."""
    fitted = cell.copy()
    if fitted.cell_len > width:
        fitted.truncate(width, overflow="ellipsis")
    missing = width - fitted.cell_len
    if cell.justify == "right":
        fitted.pad_left(missing)
    else:
        fitted.pad_right(missing)
    return fitted
