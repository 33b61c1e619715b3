"""What a published recipe may bring into a command: nothing that runs code, reads files or opens a pod."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.planning import recipe_arguments
from pi_cli.planning.recipe_arguments import NotAllowed, check, check_environment
from pi_cli.vllm import abilities, vllm_arguments
from tests.properties import PROPERTY

# Options that make vLLM run code, read or write files, open ports, load other models, or weaken a check.
DANGEROUS = (
    "--additional-config", "--allowed-media-domains", "--api-key", "--chat-template", "--code-revision", "--config",
    "--download-dir", "--enable-log-outputs", "--enable-lora", "--enable-prompt-embeds", "--enable-mm-embeds",
    "--grpc", "--headless", "--hf-config-path", "--hf-overrides", "--hf-token", "--host", "--io-processor-plugin",
    "--kv-events-config", "--kv-transfer-config", "--log-config-file", "--logits-processors", "--lora-modules",
    "--middleware", "--model", "--model-class-overrides", "--model-loader-extra-config", "--otlp-traces-endpoint",
    "--port", "--profiler-config", "--reasoning-parser-plugin", "--revision", "--root-path", "--scheduler-cls",
    "--spec-model", "--ssl-certfile", "--ssl-keyfile", "--tokenizer", "--tool-parser-plugin", "--tool-server",
    "--trust-request-chat-template", "--uds", "--weight-transfer-config", "--worker-cls", "--worker-extension-cls",
)  # fmt: skip
KNOWN = {name for option in abilities.shipped().options for name in option.names}
LISTED = recipe_arguments.FLAGS | recipe_arguments.WORDS | {*recipe_arguments.CHOICES} | {*recipe_arguments.KEYS}


def test_what_is_listed_are_options_of_the_vllm_that_pi_knows() -> None:
    names = {re.sub("^--no-", "--", name) for name in LISTED}
    assert names - KNOWN == set()
    assert {name.split(" ")[0] for name in recipe_arguments.LEFT_OUT} - KNOWN - abilities.shipped().variables == set()


def test_a_flag_takes_no_value_and_the_others_take_one() -> None:
    takes = {name: option.value for option in abilities.shipped().options for name in option.names}
    assert [name for name in recipe_arguments.FLAGS if takes[name.replace("--no-", "--")] != "no"] == []
    assert [name for name in LISTED - recipe_arguments.FLAGS if takes[name] == "no"] == []


@pytest.mark.parametrize("option", DANGEROUS)
@pytest.mark.parametrize("form", ["{} x", "{}=x", "{}", "{} {{}}"])
def test_a_dangerous_option_refuses_the_recipe_in_any_form(option: str, form: str) -> None:
    assert option in KNOWN | {"--reasoning-parser-plugin"}
    for spelt in (option, option.replace("-", "_").replace("__", "--", 1)):
        with pytest.raises(NotAllowed):
            check(form.format(spelt).split(" "))


@pytest.mark.parametrize("option", sorted(LISTED))
def test_a_listed_option_does_not_begin_a_dangerous_one(option: str) -> None:
    """vLLM's parser takes an unambiguous prefix of an option for it; only whole names are let in."""
    for end in range(3, len(option)):
        if option[:end] not in LISTED | {*recipe_arguments.LEFT_OUT}:
            with pytest.raises(NotAllowed):
                check([option[:end], "1"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--load-format", "runai_streamer"],
        ["--generation-config", "/etc"],
        ["--tool-call-parser", "/tmp/parser.py"],
        ["--tool-call-parser", "plugin.py"],
        ["--quantization", "a.b:C"],
        ["--speculative-config", '{"model": "a.b.Proposer", "num_speculative_tokens": 1}'],
        ["--speculative-config", '{"model": "a/b.Proposer", "num_speculative_tokens": 1}'],
        ["--speculative-config", '{"method": "custom_class", "model": "a/b"}'],
        ["--speculative-config", '{"method": "eagle3", "model": "/models/x"}'],
        ["--speculative-config", '{"method": "eagle3", "model": "../x"}'],
        ["--speculative-config", '{"method": "eagle3", "model": "a/b", "code_revision": "main"}'],
        ["--speculative-config", '{"method": "eagle3", "draft_load_config": {}}'],
        ["--speculative-config.model", "a/b"],
        ["--speculative-config.method", "custom_class"],
        ["--compilation-config", '{"backend": "os.system"}'],
        ["--compilation-config", '{"cache_dir": "x"}'],
        ["--compilation-config", '{"inductor_passes": {"a": "b.c"}}'],
        ["--compilation-config.cache_dir", "x"],
        ["--compilation-config", '{"pass_config": {"a": "/x"}}'],
        ["--compilation-config", "[]"],
        ["--compilation-config", '{"mode": 3'],
        ["--structured-outputs-config", '{"reasoning_parser_plugin": "x"}'],
        ["--media-io-kwargs", '{"video": {"path": "/etc/passwd"}}'],
        ["--media-io-kwargs", '{"video": "http://x"}'],
        ["--mm-processor-kwargs", '{"a": {"b": {"c": {"d": 1}}}}'],
        ["--reasoning-config", '{"reasoning_start_str": "\\u001b[2J"}'],
        ["--max-num-seqs", "1", "2"],
        ["--enforce-eager", "1"],
        ["--max-model-len auto"],
        ["--max-num-seqs", "1\n2"],
        ["--max-num-seqs", "\u202e1"],
        ["--max-num-seqs"],
        ["-tp", "2"],
        ["word"],
        ["--"],
        ["--attention-config", '{"backend": "' + "x" * 1000 + '"}'],
        ["--max-num-seqs", "1"] * 100,
        ["--compilation-config", "[" * 900],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_a_value_that_is_a_path_code_or_another_thing_refuses_the_recipe(arguments: list[str]) -> None:
    with pytest.raises(NotAllowed):
        check(arguments)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ("--tensor-parallel-size 1 --max-num-seqs 512", "--max-num-seqs 512"),
        ("--tensor-parallel-size 8 --enable-expert-parallel", None),
        ("--tokenizer_mode=mistral --load_format mistral", "--tokenizer-mode mistral --load-format mistral"),
        ("--trust-remote-code --served-model-name x --max-num-seqs 4", "--max-num-seqs 4"),
        ("--load-format fastsafetensors --enforce-eager", "--enforce-eager"),
        ("--attention_config.backend FLASHINFER", "--attention-config.backend FLASHINFER"),
        ('--compilation-config {"cudagraph_mode":"FULL_AND_PIECEWISE","custom_ops":["all"]}', None),
        ('--speculative-config {"model":"a/b-eagle3","method":"eagle3","num_speculative_tokens":3}', None),
        ('--reasoning-config {"reasoning_parser":"x","reasoning_start_str":"<think>"}', None),
        ("--chat-template-content-format string --limit-mm-per-prompt.video 0", None),
    ],
)
def test_what_the_recipes_use_comes_in(arguments: str, kept: str | None) -> None:
    assert check(arguments.split(" "))[0] == tuple((kept or arguments).split(" "))


def test_a_variable_that_is_left_out_refuses_no_recipe() -> None:
    variables = {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_USE_DEEP_GEMM": "0"}
    assert check_environment(variables) == {"VLLM_USE_DEEP_GEMM": "0"}


def test_what_is_left_out_is_named() -> None:
    _, left_out = check(["--trust-remote-code", "--load-format", "fastsafetensors", "--trust-remote-code"])
    assert left_out == ("--trust-remote-code", "--load-format fastsafetensors")


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "HOME", "HF_TOKEN", "HF_ENDPOINT",
        "HF_HOME", "HF_HUB_OFFLINE", "VLLM_API_KEY", "VLLM_PLUGINS", "VLLM_NCCL_SO_PATH", "VLLM_SERVER_DEV_MODE",
        "VLLM_USE_MODELSCOPE", "VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "VLLM_CONFIG_ROOT", "VLLM_CACHE_ROOT", "VLLM_LOGGING_CONFIG_PATH", "VLLM_HOST_IP", "VLLM_PORT",
        "VLLM_TORCH_PROFILER_DIR", "VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR",
        "VLLM_USE_PRECOMPILED", "CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "NCCL_CONF_FILE", "NCCL_NET_PLUGIN",
        "vllm_use_deep_gemm", "VLLM_USE_DEEP_GEMM\n", "", "A B",
    ],
)  # fmt: skip
def test_a_variable_that_is_not_about_kernels_refuses_the_recipe(name: str) -> None:
    with pytest.raises(NotAllowed):
        check_environment({name: "1"})


@pytest.mark.parametrize("value", ["/etc/passwd", "a b", "$(x)", "x\n", "", "http://x"])
def test_the_value_of_a_variable_is_a_word_or_a_number(value: str) -> None:
    with pytest.raises(NotAllowed):
        check_environment({"VLLM_USE_DEEP_GEMM": value})


def test_variables_that_are_let_in_name_no_path_key_or_plugin() -> None:
    let_in = [name for name in abilities.shipped().variables if recipe_arguments.VARIABLES.fullmatch(name)]
    assert "VLLM_USE_DEEP_GEMM" in let_in
    unwanted = re.compile(r"(PATH|ROOT|DIR|KEY|TOKEN|PLUGINS?|URL|HOST|PORT|FILE|INSECURE|RUST|RAY|PRECOMPILED)(_|$)")
    assert [name for name in let_in if unwanted.search(name)] == []


@PROPERTY
@given(st.lists(st.text(max_size=30) | st.sampled_from(sorted(KNOWN | LISTED)) | st.just('{"a": 1}'), max_size=8))
def test_whatever_comes_in_is_listed_and_stays_so(arguments: list[str]) -> None:
    try:
        kept, _ = check(arguments)
    except NotAllowed:
        return
    names = [vllm_arguments.name_of(group[0]).partition(".")[0] for group in vllm_arguments.groups(kept)]
    assert set(names) <= LISTED
    assert check(kept) == (kept, ())
    assert all(argument.isprintable() for argument in kept)
