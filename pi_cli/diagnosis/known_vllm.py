"""Known causes that vLLM itself reports: arguments, memory, the model. The patterns are for 0.32 and older versions.

If several match a message, the first counts. docs/errors.md lists them all.
"""

from pi_cli.diagnosis import remedies
from pi_cli.diagnosis.known_cause import KnownCause

ARGUMENTS = (
    KnownCause(
        r"error: unrecognized arguments: (?P<what>.*)",
        "vLLM does not know the argument `{what}`",
        "list the arguments it knows with `pi ssh {pod} '~/venv/bin/vllm serve --help=all'`, and start again",
        remedies.without_unknown,
    ),
    KnownCause(
        r"error: argument (?P<option>--[\w-]+)\S*: invalid choice: '?(?P<what>[^\s']*)'? "
        r"\(choose from (?P<listed>[^)]*)",
        "vLLM does not accept `{what}` for `{option}`",
        "choose one of those in the line above, after `--vllm`",
        remedies.nearest(),
    ),
    KnownCause(
        r"vllm(?: serve)?: error: (?P<what>.*)",
        "vLLM rejected its arguments: {what}",
        "correct the arguments after `--vllm` and start again",
        remedies.own_fault,
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
        "`--enable-auto-tool-choice` needs a tool-call parser",
        "add `--tool-call-parser NAME` after `--vllm`",
        remedies.omitting(
            "--enable-auto-tool-choice",
            hint="add the model's `--tool-call-parser`, or start it without tools: `{start}`",
        ),
    ),
    KnownCause(
        r"chat template string .* appears path-like, but doesn't exist",
        "the chat template file is not on the pod",
        "give a path that exists on the pod",
        remedies.omitting(
            "--chat-template", hint="give a path that exists on the pod, or use the model's own: `{start}`"
        ),
    ),
    KnownCause(
        r"Unknown vLLM environment variable detected: (?P<what>\w+)",
        "vLLM does not know the environment variable {what}",
        "remove it from ~/.pi/env on the pod",
        remedies.omitting(
            "--fail-on-environ-validation", hint="remove it from ~/.pi/env on the pod, or ignore it: `{start}`"
        ),
    ),
)  # fmt: skip

MEMORY = (
    KnownCause(
        r"To serve at least one request .*?\((?P<need>\d+(?:\.\d+)?) GiB KV cache is needed, which is larger than the "
        r"available KV cache memory \((?P<have>\d+(?:\.\d+)?) GiB\)"
        r"(?:.*?estimated maximum model length is (?P<fits>\d+))?",
        "the context is too long for the GPU memory: one request needs {need} GiB of KV cache, {have} GiB are left",
        "start it with a shorter `--context`, or on more GPUs with `--gpus`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"max seq len \((?P<requested>\d+)\) is larger than the maximum number of tokens that can be stored in KV "
        r"cache \((?P<fits>\d+)\)",
        "the context is too long for the GPU memory: {fits} tokens fit, {requested} requested",
        "start it with a shorter `--context`, or on more GPUs with `--gpus`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len",
        "the weights leave no GPU memory for the KV cache",
        "start it on more GPUs with `--gpus`, or choose a smaller or quantised model: `pi models` shows what fits",
        remedies.more_memory,
    ),
    KnownCause(
        r"Free memory on device \S+ \((?P<have>\d+(?:\.\d+)?)/(?P<all>\d+(?:\.\d+)?) GiB\) on startup is less than",
        "the GPU is in use: {have} of {all} GiB are free",
        "see what uses it with `pi list` and `pi ssh {pod} nvidia-smi`, or start it with a smaller `--memory`",
        remedies.free_gpu,
    ),
    KnownCause(
        r"Available memory on node \S+ \((?P<have>\d+(?:\.\d+)?)/(?P<all>\d+(?:\.\d+)?) GiB\) on startup is less than",
        "the machine's memory is in use: {have} of {all} GiB are free",
        "add a smaller `--gpu-memory-utilization` after `--vllm`: on a CPU it is a share of the machine's memory",
        remedies.free_memory,
    ),
    KnownCause(
        r"Error in memory profiling",
        "another process freed GPU memory while vLLM measured it",
        "start it again",
        remedies.again,
    ),
    KnownCause(
        r"CUDA out of memory occurred when warming up \w+(?: \(.*?\))? with (?P<requests>\d+) dummy requests",
        "the GPU memory is too small to serve {requests} requests at once",
        "add a smaller `--max-num-seqs` after `--vllm`",
        remedies.fewer_requests,
    ),
    KnownCause(
        r"max_num_seqs \((?P<requests>\d+)\) exceeds available Mamba cache blocks \((?P<fits>\d+)\)",
        "the GPU memory is enough for the state of {fits} requests, but vLLM would serve {requests} at once",
        "add `--max-num-seqs {fits}` after `--vllm`",
        remedies.fewer_requests,
    ),
    KnownCause(
        r"CUDA out of memory|Failed to load model - not enough GPU memory|CUDA error: out of memory"
        r"|Cuda failure (?:2 )?'out of memory'|CUBLAS_STATUS_ALLOC_FAILED",
        "the model does not fit the GPU memory",
        "start it on more GPUs with `--gpus`, or choose a smaller or quantised model: `pi models` shows what fits",
        remedies.more_memory,
    ),
    KnownCause(
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|Cannot allocate memory|^MemoryError:?\s*$",
        "the machine's memory is full (not the GPU memory)",
        "check with `pi ssh {pod} free -g`, or use a machine with more memory",
    ),
    KnownCause(
        r"User-specified max_model_len \((?P<requested>\d+)\) is greater than the derived max_model_len "
        r"\(\S*?=(?P<most>\d+)",
        "the model supports at most {most} tokens of context, {requested} requested",
        "start it with `--context {most}`",
        remedies.shorter_context,
    ),
    KnownCause(
        r"max_num_batched_tokens \((?P<batch>\d+)\) is smaller than max_model_len \((?P<context>\d+)\)",
        "a request may have {context} tokens, but a batch at most {batch}",
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
        "one of the model's dimensions, {heads}, cannot be split over {size} GPUs",
        "choose a number of GPUs that divides {heads}",
        remedies.dividing,
    ),
    KnownCause(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<have>\d+)\)",
        "{size} GPUs were requested, but the pod has {have}",
        "lower `--gpus`, or the parallel sizes after `--vllm`",
        remedies.fewer_gpus,
    ),
    KnownCause(
        r"DP adjusted local rank \d+ is out of bounds for (?P<have>\d+) devices",
        "the data-parallel ranks need more than {have} GPUs",
        "lower `--data-parallel-size` after `--vllm`",
        remedies.fewer_ranks,
    ),
    KnownCause(
        r"is not divisible by {1,3}min_thread_[kn] = \d|size_[kn] must (?:be )?divisible by BLOCK_SIZE",
        "the quantised weights cannot be split over this many GPUs",
        "use half the GPUs, or choose another form of the model: `pi models` shows what fits",
        remedies.half_the_gpus,
    ),
    KnownCause(
        r"not divisible by weight quantization block_n = (?P<block>\d+)",
        "the quantised weights cannot be split over this many GPUs (blocks of {block})",
        "add `--enable-expert-parallel` after `--vllm`, or use half the GPUs",
        remedies.expert_parallel,
    ),
)  # fmt: skip

MODEL = (
    KnownCause(
        r"Model architectures \['(?P<what>[^']+)'[^\]]*\] are not supported",
        "this vLLM does not know the architecture `{what}`",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"Model architecture (?P<what>\S+) was supported in vLLM until v(?P<version>[\d.]*\d)",
        "this vLLM no longer supports the architecture `{what}`",
        "install an older one with `pi pods setup {pod} --vllm {version}`",
    ),
    KnownCause(
        r"model type `(?P<what>[^`]+)` but Transformers does not recognize",
        "this vLLM does not know the model type `{what}`",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"contains custom code which must be executed|Please pass the argument `trust_remote_code=True`"
        r"|consider setting `trust_remote_code=True`",
        "the model contains its own code, which vLLM runs only with `--trust-remote-code`",
        "if you trust its authors, add `--trust-remote-code` after `--vllm`",
        remedies.adding("--trust-remote-code", hint="if you trust its authors: `{start}`"),
    ),
    KnownCause(
        r"packages that were not found in your environment: (?P<what>[\w, -]+)\. "
        r"Run `pip install (?P<packages>\w[\w-]*(?: \w[\w-]*)*)`",
        "the model's own code needs packages that vLLM's environment lacks: {what}",
        "install them with "
        "`pi ssh {pod} 'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv {packages}'`, and start again",
    ),
    KnownCause(
        r"Should have a `model_type` key in its config\.json",
        "vLLM cannot read `{model}`: its config.json does not name a model type",
        "choose another version of it: `pi models` shows what fits",
    ),
    KnownCause(
        r"Model architectures \['(?P<what>[^']+)'[^\]]*\] failed to be inspected",
        "this vLLM cannot load its code for `{what}`",
        "repair vLLM with `pi pods setup {pod}`, or install another one with `pi pods setup {pod} --vllm nightly`",
        is_vague=True,
    ),
    KnownCause(
        r"^KeyError: '(?P<what>[\w.]{1,200}\.[\w.]{1,200})'$",
        "this vLLM cannot read the model's weights: it does not expect `{what}`",
        "choose another version of the model: `pi models` shows what fits; or install a newer vLLM with "
        "`pi pods setup {pod} --vllm nightly`",
        within=r"load_weights|load_model",
    ),
    KnownCause(
        r"There is no module or parameter named '(?P<what>[^']+)'|weights (?:were|are) not initialized from checkpoint",
        "this vLLM cannot read the model's weights: their names or their layout are not what it expects",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`, or choose another version of the model",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"Error while deserializing header|MetadataIncompleteBuffer|Cannot find any model weights with"
        r"|PytorchStreamReader failed|Consistency check failed",
        "a file of the model is damaged or missing on the pod",
        "delete it with `pi ssh {pod} 'rm -r ~/.cache/huggingface/hub/models--{folder}'`, and start again",
        remedies.fresh_copy,
    ),
    KnownCause(
        r"Tokenizer class (?P<what>\S+) does not exist|Couldn't instantiate the backend tokenizer"
        r"|cannot import name '(?P<name>\w+)' from 'transformers",
        "this vLLM, or its Transformers, cannot load the model's tokenizer",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.newer_vllm,
    ),
)  # fmt: skip

CAUSES = (*ARGUMENTS, *MEMORY, *SPLIT, *MODEL)
