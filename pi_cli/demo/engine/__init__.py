"""The simulated vLLM: command line, start-up, processes, HTTP interface and failures of vLLM 0.32.

    main.py       `vllm --version` and `vllm serve`
    flags.py      the command line               parsers.py    the names of vLLM's parsers
    server.py     one `vllm serve`, from start to end
    startup.py    what the log says on the way to readiness
    checks.py     what is refused before anything is loaded
    failures.py   every way a start can fail, word for word
    cores.py      the engine's processes, seen from the server
    core.py       such a process: holds the GPU memory
    voice.py      how vLLM writes a line
    web.py        from sockets to ASGI
    api.py        routes, keys, answers that are not a chat
    chat.py       a chat completion, whole or in pieces
    mind.py       what the scripted model says

Told what to do by `--simulate WHAT[=VALUE]` (repeatable):

    slow=SECONDS    until ready (default 1.5, or `{"seconds": 1.5}` in $HOME/.demo/vllm.json)
    fail=NAME       fail to start, see failures.py
    rate=TOKENS     a second (default 100)          spam=LINES      a second, into the log, once ready
    ignore-term     only KILL helps                 engine-setsid   the engine leaves our session
    never-listen    all but listening               hang-health     `/health` never answers
    cut-stream=N    drop the connection after N events of a stream

Everything runs under `python -I -S`: the standard library, imported sparingly, is all there is.
"""
