"""The simulated vLLM: command line, start-up, processes, HTTP interface and failures of vLLM 0.32.

    main.py       `vllm --version` and `vllm serve`
    flags.py      the command line               parsers.py    the names of vLLM's parsers
    package.py    the package `vllm`, for programs that ask vLLM's own argument parser
    server.py     one `vllm serve`, from start to end
    startup.py    the log lines of a start
    checks.py     the checks before anything is loaded
    failures.py   every way a start can fail, word for word
    cores.py      the processes of the engine, as the server manages them
    core.py       such a process: allocates the GPU memory
    log.py        the format of vLLM's log lines
    web.py        from sockets to ASGI
    api.py        routes, keys, answers other than chat completions
    chat.py       a chat completion, in one piece or streamed
    responses.py  an answer over `/v1/responses`
    script.py     the answers of the scripted model

Controlled by `--simulate WHAT[=VALUE]` (repeatable):

    slow=SECONDS    until ready (default 1.5, or `{"seconds": 1.5}` in $HOME/.demo/vllm.json)
    fail=NAME       fail to start, see failures.py
    rate=TOKENS     per second (default 100)        spam=LINES      per second, into the log, once ready
    ignore-term     only SIGKILL works              engine-setsid   the engine has its own session
    never-listen    start, but never listen         hang-health     `/health` never answers
    cut-stream=N    drop the connection after N events of a stream

Everything runs under `python -I -S`: only the standard library is available, and it is imported sparingly.
"""
