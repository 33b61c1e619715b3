"""Runs on a pod, as the agent's modules do: many models at once, as cheap as a model can be.

Each is a process with a marker, a record, a log and a port that answers like a healthy vLLM, chats with 5,000 tokens as
fast as they can be sent included; nothing else of vLLM is there. Its request: a line with the first and the last port
and the API key.
"""

# ruff: noqa: UP031, PTH103, PTH118, PTH123 - Python as it is on pods
# mypy: ignore-errors

import os
import subprocess
import sys

from agent import home, processes, records
from agent.machine import LOGS

SERVER = r"""
import hmac, json, os, socket, sys
METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
def event(delta, reason):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: %s\n\n" % json.dumps(chunk).encode()
CHUNK = event({"content": "token "}, None)
END = event({}, "stop") + b"data: [DONE]\n\n"
TOKENS = 5000
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\n"
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=128)
name = sys.argv[2].encode()
proof_key = hmac.digest(os.environb[b"VLLM_API_KEY"], b"pi proof " + os.environb[b"PI_MODEL_UID"], "sha256")
while True:
    there, _ = listener.accept()
    with there:
        request = there.recv(65536)
        path = request.split(None, 2)[1] if request else b""
        if path.startswith(b"/.well-known/pi-model?nonce="):
            proof = hmac.digest(proof_key, b"%s %s" % (path[-64:], sys.argv[1].encode()), "sha256").hex()
            body = b'{"proofs": ["%s"]}' % proof.encode()
            there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            request = there.recv(65536)
            path = request.split(None, 2)[1] if request else b""
        if path == b"/v1/chat/completions":
            head, _, body = request.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(body) < length:
                body += there.recv(65536)
            there.sendall(HEAD % b"text/event-stream" + b"\r\n" + CHUNK)
            for _ in range(TOKENS // 10):
                there.sendall(CHUNK * 10)
            there.sendall(END)
        else:
            models = b'{"object":"list","data":[{"id":"%s","object":"model","max_model_len":32768}]}' % name
            looked = b'{"health": 200, "silent": null}\n' if path.endswith(b"?look") else b""
            body = models if path == b"/v1/models" else looked + METRICS
            kind = b"application/json" if path == b"/v1/models" else b"text/plain"
            there.sendall(HEAD % kind + b"Content-Length: %d\r\n\r\n" % len(body) + body)
"""


def begin(port, key):
    name, uid = "m%d" % (port - 8000), "bench%d" % port
    log = os.path.join(LOGS, name + ".log")
    os.makedirs(LOGS, exist_ok=True)
    with open(log, "a") as file:
        file.write("INFO Application startup complete.\n")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SERVER, str(port), name, "vllm"],
        env=dict(os.environ, PI_MODEL_UID=uid, VLLM_API_KEY=key),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    record = {"uid": uid, "name": name, "model": "tiny/model", "port": port, "gpu": "0", "pid": process.pid}
    record.update(boot=home.boot_id(), since=home.uptime(), log=log, ready=True)
    record["start"] = processes.start_time(process.pid)
    records.write(record)


def main():
    first, last, key = sys.stdin.buffer.readline().decode().split()
    for port in range(int(first), int(last) + 1):
        begin(port, key)
