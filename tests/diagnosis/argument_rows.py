"""What vLLM 0.32 says about wrong arguments, and what pi makes of it.

The engine tier asks the real parser for each of them (`tests/engine/test_arguments.py`).
"""

from typing import NamedTuple

# Some of vLLM's options: those of these rows, and similar ones.
OPTIONS = [
    *("--config", "--chat-template", "--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"),
    *("--lora-modules", "--dtype", "--allowed-origins", "--max-log-len", "--max-loras", "--max-model-len"),
    *("--max-num-seqs", "--quantization", "-q", "--enforce-eager", "--no-enforce-eager", "--hf-overrides"),
    *("--tensor-parallel-size", "-tp", "--gpu-memory-utilization", "--device-memory-utilization", "--kv-cache-dtype"),
    *("--limit-mm-per-prompt", "--enable-prefix-caching", "--no-enable-prefix-caching", "--compilation-config", "-cc"),
    *("-asc", "--speculative-config", "-sc", "--return-sampling-mask", "--enable-log-requests"),
    *("--no-enable-log-requests", "--enable-log-outputs"),
]


class Row(NamedTuple):
    """Arguments as typed in a shell, the error of the parser, the problem, and the hint; `…` is `pi start … --vllm`.

    `place` is the character under the mark of the excerpt, counted from 1; 0 if there is none.
    """

    typed: str
    said: str
    problem: str
    hint: str
    place: int = 0


QUOTES = "correct it, in single quotes, so that the shell keeps the double quotes, or leave it out: "
ROWS = [
    Row(
        "--max-modle-len 32 --enforce-eager",
        "unrecognized arguments: --max-modle-len 32",
        "does not accept `--max-modle-len`: unrecognized argument",
        "did you mean `--max-model-len`? `… --max-model-len 32 --enforce-eager`",
    ),
    Row(
        "--max_modle_len=32",
        "unrecognized arguments: --max-modle-len=32",
        "does not accept `--max-modle-len`: unrecognized argument",
        "did you mean `--max-model-len`? `… --max-model-len=32`",
    ),
    Row(
        "--tp 2",
        "unrecognized arguments: --tp 2",
        "does not accept `--tp`: unrecognized argument",
        "did you mean `-tp`? `… -tp 2`",
    ),
    Row(
        "--disable-log-requests",
        "unrecognized arguments: --disable-log-requests",
        "does not accept `--disable-log-requests`: unrecognized argument",
        "it is called `--no-enable-log-requests` now: `… --no-enable-log-requests`",
    ),
    Row(
        "-tp 1 --swap-space 4",
        "unrecognized arguments: --swap-space 4",
        "does not accept `--swap-space`: unrecognized argument",
        "leave it out: `… -tp 1`",
    ),
    Row(
        "--rope-scaling '{}'",
        "unrecognized arguments: --rope-scaling {}",
        "does not accept `--rope-scaling`: unrecognized argument",
        "leave it out: `…`",
    ),
    Row(
        "'--max-model-len 32' --enforce-eager",
        "unrecognized arguments: --max-model-len 32",
        "does not accept `--max-model-len 32`: one word with a blank in it",
        "write an option and its value as two words: `… --max-model-len 32 --enforce-eager`",
    ),
    Row(
        "--max-model-len 32 64",
        "unrecognized arguments: 64",
        "does not accept `64`: unexpected argument",
        "leave it out: `… --max-model-len 32`",
    ),
    Row(
        "--enforce-eager true",
        "unrecognized arguments: true",
        "does not accept `true`: `--enforce-eager` takes no value",
        "leave the value out: `… --enforce-eager`",
    ),
    Row(
        "--enable-prefix-caching=false",
        "argument --enable-prefix-caching/--no-enable-prefix-caching: ignored explicit argument 'false'",
        "does not accept `false`: `--enable-prefix-caching` takes no value",
        "leave the value out: `… --no-enable-prefix-caching`",
    ),
    Row(
        "--max-l 3",
        "ambiguous option: --max-l could match --max-log-len, --max-logprobs, --max-loras, --max-lora-rank, "
        "--max-lora-cls-labels",
        "does not accept `--max-l`: ambiguous between `--max-log-len`, `--max-logprobs`, `--max-loras`, "
        "`--max-lora-rank`, `--max-lora-cls-labels`",
        "write the whole name, for example `… --max-loras 3`",
    ),
    Row(
        "-tp --enforce-eager",
        "argument --tensor-parallel-size/-tp: expected one argument",
        "does not accept `-tp` without a value",
        "write its value after it, or leave it out: `… --enforce-eager`",
    ),
    Row(
        "--dtype fp16",
        "argument --dtype: invalid choice: 'fp16' (choose from 'auto', 'bfloat16', 'float', 'float16', 'float32', "
        "'half')",
        "does not accept `fp16` for `--dtype`: choose from `float16`, `auto`, `bfloat16`, `float`, `float32`, `half`",
        "did you mean `float16`? `… --dtype float16`",
    ),
    Row(
        "-tp two",
        "argument --tensor-parallel-size/-tp: invalid int value: 'two'",
        "does not accept the value of `-tp`: `two` is not a whole number",
        "correct `-tp`, or leave it out: `…`",
    ),
    Row(
        "--max-model-len x",
        "argument --max-model-len: invalid human_readable_int_or_auto value: 'x'",
        "does not accept the value of `--max-model-len`: `x` is not a number such as 32768 or 32k, or `auto`",
        "correct `--max-model-len`, or leave it out: `…`",
    ),
    Row(
        "--gpu-memory-utilization 2",
        "argument --gpu-memory-utilization: must be at most 1, not 2.0",
        "does not accept the value of `--gpu-memory-utilization`: must be at most 1, not 2.0",
        "correct `--gpu-memory-utilization`, or leave it out: `…`",
    ),
    Row(
        """--hf-overrides '{"a": 1,}'""",
        'argument --hf-overrides: Value {"a": 1,} cannot be converted to <function loads at 0x7f1feb61cb80>.',
        "does not accept the value of `--hf-overrides`: invalid JSON at character 9: expecting property name enclosed "
        "in double quotes",
        QUOTES + "`…`",
        place=9,
    ),
    Row(
        "-cc '{x}'",
        "argument --compilation-config/-cc: 1 validation error for CompilationConfig\n  Invalid JSON: key must be a "
        "string at line 1 column 2 [type=json_invalid, input_value='{x}', input_type=str]\n    For further information "
        "visit https://errors.pydantic.dev/2.14/v/json_invalid",
        "does not accept the value of `-cc`: invalid JSON at character 2: expecting property name enclosed in double "
        "quotes",
        QUOTES + "`…`",
        place=2,
    ),
    Row(
        """-cc '{"nope": 1}'""",
        "argument --compilation-config/-cc: 1 validation error for CompilationConfig\nnope\n  Unexpected keyword "
        "argument [type=unexpected_keyword_argument, input_value=1, input_type=int]\n    For further information visit "
        "https://errors.pydantic.dev/2.14/v/unexpected_keyword_argument",
        "does not accept the value of `-cc`: `nope`: unexpected keyword argument",
        "correct `-cc`, or leave it out: `…`",
    ),
    Row(
        "--allowed-origins x",
        "argument --allowed-origins: invalid loads value: 'x'",
        "does not accept the value of `--allowed-origins`: invalid JSON at character 1: expecting value",
        QUOTES + "`…`",
        place=1,
    ),
    Row(
        "--compilation-config.level",
        "argument --compilation-config.level: expected one argument",
        "does not accept `--compilation-config.level` without a value",
        "write its value after it, or leave it out: `…`",
    ),
    Row(
        "--enable-auto-tool-choice",
        "--enable-auto-tool-choice requires --tool-call-parser",
        "does not accept `--enable-auto-tool-choice` without `--tool-call-parser`",
        "add the model's `--tool-call-parser`, or start it without tools: `…`",
    ),
    Row(
        "--chat-template /nope.jinja",
        "The supplied chat template string (/nope.jinja) appears path-like, but doesn't exist! Tried: /nope.jinja and "
        "/nope.jinja (parameter=chat_template)",
        "finds no chat template `/nope.jinja`",
        "give a path that exists on the pod, or use the model's own: `…`",
    ),
    Row(
        "--config /nope.yaml",
        "[Errno 2] No such file or directory: '/nope.yaml'",
        "finds no file `/nope.yaml`",
        "give a path that exists there: see what is there with `pi ssh dc1 ls`",
    ),
    Row(
        "--lora-modules a",
        "Invalid JSON format for --lora-modules: a",
        "does not accept the arguments: Invalid JSON format for --lora-modules: a",
        "correct `--lora-modules`, or leave it out: `…`",
    ),
    Row(
        "--help",
        "vLLM would exit at once",
        "does not accept the arguments: vLLM would exit at once",
        "list the arguments that it knows with `pi ssh dc1 '~/venv/bin/vllm serve --help=all'`",
    ),
]
