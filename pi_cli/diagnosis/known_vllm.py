"""The failures of a start that vLLM itself sees: arguments, memory, and the model; in the words of 0.32, or older ones.

Of several in one message the first counts. docs/errors.md has them all.
"""

from pi_cli.diagnosis import remedies
from pi_cli.diagnosis.known_cause import KnownCause

ARGUMENTS = (
    KnownCause(
        r"error: unrecognized arguments: (?P<what>.*)",
        "vLLM does not know the argument `{what}`",
        "check it with `pi ssh {pod} '~/venv/bin/vllm serve --help=all'`, and start again",
        remedies.without_unknown,
    ),
    KnownCause(
        r"error: argument (?P<option>--[\w-]+)\S*: invalid choice: '?(?P<what>[^\s']*)'? "
        r"\(choose from (?P<listed>[^)]*)",
        "vLLM does not take `{what}` for `{option}`",
        "choose one of those in the line above, after `--vllm`",
        remedies.nearest(),
    ),
    KnownCause(
        r"vllm(?: serve)?: error: (?P<what>.*)",
        "vLLM refused its arguments: {what}",
        "correct what follows `--vllm` and start again",
    ),
    KnownCause(
        r"(?:invalid tool call parser: |Tool parser ')(?P<what>[\w.-]+)(?: \(chose from \{(?P<listed>[^}]*))?",
        "vLLM has no tool-call parser `{what}`",
        "choose one of those in the line above, after `--vllm`",
        remedies.nearest("--tool-call-parser"),
    ),
    KnownCause(
        r"(?:Reasoning parser '|invalid reasoning parser: )(?P<what>[\w.-]+)'?"
        r"(?: not found\. Available parsers: | \(chose from \{ )?(?P<listed>[\w, -]*)",
        "vLLM has no reasoning parser `{what}`",
        "choose one of those in the line above, after `--vllm`",
        remedies.nearest("--reasoning-parser"),
    ),
    KnownCause(
        r"--enable-auto-tool-choice requires --tool-call-parser",
        "`--enable-auto-tool-choice` needs a parser",
        "add `--tool-call-parser NAME` after `--vllm`",
        remedies.omitting(
            "--enable-auto-tool-choice", why="add the model's `--tool-call-parser`, or do without tools"
        ),
    ),
    KnownCause(
        r"chat template string .* appears path-like, but doesn't exist",
        "the chat template file is not on the pod",
        "give a path that exists on the pod",
        remedies.omitting("--chat-template", why="give a path that exists on the pod, or use the model's own"),
    ),
    KnownCause(
        r"Unknown vLLM environment variable detected: (?P<what>\w+)",
        "vLLM does not know the environment variable {what}",
        "take it out of ~/.pi/env on the pod",
        remedies.omitting("--fail-on-environ-validation", why="take it out of ~/.pi/env on the pod, or let it pass"),
    ),
)  # fmt: skip

MEMORY = (
    KnownCause(
        r"To serve at least one request .*?\((?P<need>[\d.]+) GiB KV cache is needed, which is larger than the "
        r"available KV cache memory \((?P<have>[\d.]+) GiB\)(?:.*?estimated maximum model length is (?P<fits>\d+))?",
        "the context is too long for the GPU memory: one request needs {need} GiB of KV cache and {have} GiB are left",
        "start it with a shorter `--context`, or on more GPUs with `--gpus`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"max seq len \((?P<asked>\d+)\) is larger than the maximum number of tokens that can be stored in KV cache "
        r"\((?P<fits>\d+)\)",
        "the context is too long for the GPU memory: {fits} tokens fit, and {asked} were asked for",
        "start it with a shorter `--context`, or on more GPUs with `--gpus`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len",
        "the weights leave no GPU memory for the KV cache",
        "start it on more GPUs with `--gpus`, or choose a smaller or quantised model: `pi models` shows what fits",
        remedies.more_room,
    ),
    KnownCause(
        r"Free memory on device \S+ \((?P<have>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is less than",
        "the GPU is in use: {have} of {all} GiB are free",
        "see what holds it with `pi list` and `pi ssh {pod} nvidia-smi`, or start it with less `--memory`",
        remedies.free_gpu,
    ),
    KnownCause(
        r"Available memory on node \S+ \((?P<have>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is less than",
        "the machine's memory is in use: {have} of {all} GiB are free",
        "add a smaller `--gpu-memory-utilization` after `--vllm`: on a CPU it is a share of the machine's memory",
        remedies.free_memory,
    ),
    KnownCause(
        r"Error in memory profiling",
        "somebody else gave GPU memory back while vLLM measured it",
        "start it again",
        remedies.again,
    ),
    KnownCause(
        r"CUDA out of memory occurred when warming up sampler with (?P<requests>\d+) dummy requests",
        "the GPU memory is too small to serve {requests} requests at once",
        "add a smaller `--max-num-seqs` after `--vllm`",
        remedies.fewer_requests,
    ),
    KnownCause(
        r"max_num_seqs \((?P<requests>\d+)\) exceeds available Mamba cache blocks \((?P<fits>\d+)\)",
        "the GPU memory holds the state of {fits} requests, and vLLM wants to serve {requests} at once",
        "add `--max-num-seqs {fits}` after `--vllm`",
        remedies.fewer_requests,
    ),
    KnownCause(
        r"CUDA out of memory|Failed to load model - not enough GPU memory|CUDA error: out of memory"
        r"|Cuda failure (?:2 )?'out of memory'|CUBLAS_STATUS_ALLOC_FAILED",
        "the model does not fit the GPU memory",
        "start it on more GPUs with `--gpus`, or choose a smaller or quantised model: `pi models` shows what fits",
        remedies.more_room,
    ),
    KnownCause(
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|Cannot allocate memory|^MemoryError",
        "the machine's memory is full (not that of the GPU)",
        "see what fills it with `pi ssh {pod} free -g`, or take a machine with more",
    ),
    KnownCause(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\(\S*?=(?P<most>\d+)",
        "the model's context is at most {most} tokens, and {asked} were asked for",
        "start it with `--context {most}`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"max_num_batched_tokens \((?P<batch>\d+)\) is smaller than max_model_len \((?P<context>\d+)\)",
        "a request may have {context} tokens, and a batch takes {batch}",
        "add `--max-num-batched-tokens {context}` after `--vllm`",
        remedies.larger_batches,
    ),
)  # fmt: skip

SPLIT = (
    KnownCause(
        r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        "{heads} attention heads cannot be split over {size} GPUs",
        "choose a number of GPUs that divides {heads}",
        remedies.dividing,
    ),
    KnownCause(
        r"AssertionError: (?P<heads>\d+) is not divisible by (?P<size>\d+)",
        "what the model has {heads} of cannot be split over {size} GPUs",
        "choose a number of GPUs that divides {heads}",
        remedies.dividing,
    ),
    KnownCause(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<have>\d+)\)",
        "{size} GPUs were asked for and {have} are there",
        "lower `--gpus`, or what follows `--vllm`",
        remedies.fewer_gpus,
    ),
    KnownCause(
        r"DP adjusted local rank \d+ is out of bounds for (?P<have>\d+) devices",
        "there are more data-parallel ranks than {have} GPUs have room for",
        "lower `--data-parallel-size` after `--vllm`",
        remedies.fewer_ranks,
    ),
    KnownCause(
        r"not divisible by weight quantization block_n = (?P<block>\d+)",
        "the quantised weights cannot be split over so many GPUs (blocks of {block})",
        "add `--enable-expert-parallel` after `--vllm`, or use half the GPUs",
        remedies.expert_parallel,
    ),
)  # fmt: skip

MODEL = (
    KnownCause(
        r"Model architectures \['(?P<what>[^']+)'[^\]]*\] are not supported",
        "this vLLM does not know the architecture `{what}`",
        "get a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"Model architecture (?P<what>\S+) was supported in vLLM until v(?P<version>[\d.]*\d)",
        "this vLLM no longer knows the architecture `{what}`",
        "get an older one with `pi pods setup {pod} --vllm {version}`",
    ),
    KnownCause(
        r"model type `(?P<what>[^`]+)` but Transformers does not recognize",
        "this vLLM does not know the model type `{what}`",
        "get a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"contains custom code which must be executed|Please pass the argument `trust_remote_code=True`"
        r"|consider setting `trust_remote_code=True`",
        "the model brings code of its own, which vLLM runs only when told to",
        "if you trust its authors, add `--trust-remote-code` after `--vllm`",
        remedies.adding("--trust-remote-code", why="if you trust its authors"),
    ),
    KnownCause(
        r"packages that were not found in your environment: (?P<what>[\w, -]+)\. Run `pip install (?P<names>[\w -]+)`",
        "the model's own code needs what is not in vLLM's environment: {what}",
        "put it there with `pi ssh {pod} 'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv {names}'`, and start again",
    ),
    KnownCause(
        r"Should have a `model_type` key in its config\.json",
        "`{model}` is no model that vLLM can read: its config.json does not say what it is",
        "choose another form of it: `pi models` shows what fits",
    ),
    KnownCause(
        r"Model architectures \['(?P<what>[^']+)'[^\]]*\] failed to be inspected",
        "this vLLM cannot load its code for `{what}`",
        "repair what is missing with `pi pods setup {pod}`, or get another vLLM with `--vllm nightly`",
        is_vague=True,
    ),
    KnownCause(
        r"There is no module or parameter named '(?P<what>[^']+)'|weights (?:were|are) not initialized from checkpoint",
        "this vLLM cannot read the model's weights: they are named or made otherwise than it expects",
        "get a newer vLLM with `pi pods setup {pod} --vllm nightly`, or choose another form of the model",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"Error while deserializing header|MetadataIncompleteBuffer|Cannot find any model weights with"
        r"|PytorchStreamReader failed|Consistency check failed",
        "a file of the model is damaged, or missing, on the pod",
        "delete it with `pi ssh {pod} 'rm -r ~/.cache/huggingface/hub/models--{folder}'`, and start again",
        remedies.fresh_copy,
    ),
    KnownCause(
        r"Tokenizer class (?P<what>\S+) does not exist|Couldn't instantiate the backend tokenizer"
        r"|cannot import name '(?P<name>\w+)' from 'transformers",
        "this vLLM, or its Transformers, cannot load the model's tokenizer",
        "get a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
)  # fmt: skip

CAUSES = (*ARGUMENTS, *MEMORY, *SPLIT, *MODEL)
