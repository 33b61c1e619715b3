"""What a sound agent says, with every field that the protocol has: the answers that the mutants are made of."""

import base64
import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from pi_cli.models import local_files
from pi_cli.models.local_files import LocalFile

if TYPE_CHECKING:
    from agent import protocol

UID = "0123456789abcdef0123456789abcdef"
GPUS = "0, NVIDIA H100 80GB HBM3, 81559, 0, GPU-0, Disabled, 580.95.05\n"
LOG = "/root/.vllm_logs/q.log"

LEASE: "protocol.LeaseReport" = {
    "uid": UID,
    "name": "q",
    "seconds": 2700.0,
    "left": 1200.5,
    "phase": "idle",
    "phase_seconds": 1499.5,
    "then": "stop-pod",
    "watcher": "lives",
}
LEASE_END: "protocol.LeaseEnd" = {
    "at": 1764552000.0,
    "uid": UID,
    "name": "q",
    "why": "idle",
    "idle": 2700.0,
    "outcome": "stopped",
    "freed": 70000,
    "pod": "failed",
    "reason": "api.runpod.io answered with status 500",
    "others": ["other"],
    "off": 0.0,
}
METRICS: "protocol.Metrics" = {
    "at": 1000.5,
    "running": 1.0,
    "waiting": 0.0,
    "prompt_tokens": 100.0,
    "generation_tokens": 1000.0,
    "kv_cache": 0.25,
    "first_token_seconds": 0.5,
    "first_tokens": 2.0,
}
MODEL: "protocol.ModelReport" = {
    "uid": UID,
    "name": "q",
    "model": "Qwen/Qwen3-8B",
    "port": 8001,
    "gpu": "0",
    "pid": 4711,
    "memory": 0.9,
    "private": False,
    "status": "ready",
    "age": 12.5,
    "phase": None,
    "progress": None,
    "requests": [1, 0],
    "metrics": METRICS,
    "idle": 0.0,
    "lease": LEASE,
    "memory_used": [70000, 81559],
    "role": None,
    "peers": [],
    "listens": True,
    "kind": "model",
    "proof_keys": ["0f" * 32],
}
STARTING: "protocol.ModelReport" = {
    **MODEL,
    "uid": "f" * 32,
    "name": "s",
    "status": "starting",
    "phase": "loading weights",
    "progress": [5, 10],
    "requests": None,
    "metrics": None,
    "idle": None,
    "memory_used": None,
}
DEAD: "protocol.Death" = {
    "name": "d",
    "log": LOG,
    "was_recorded": True,
    "rebooted": False,
    "log_end": base64.b64encode(zlib.compress(b"CUDA out of memory\n")).decode(),
    "lease_end": None,
}
ENDED: "protocol.Death" = {**DEAD, "name": "n", "was_recorded": False, "lease_end": LEASE_END}
LEASES: "protocol.Leases" = {
    "leases": [LEASE],
    "ends": [LEASE_END],
    "pod_stop": {"provider": "runpod", "trouble": "api.runpod.io answered with status 401"},
}
UNREADABLE: "protocol.Unreadable" = {"file": "x.json", "reason": "`port` is missing"}
GPU_LOAD: "protocol.GpuLoad" = {
    "id": 0,
    "name": "NVIDIA H100 80GB HBM3",
    "memory": [70000, 81559],
    "utilization": 97.0,
    "power": 512.3,
    "power_limit": 700.0,
    "temperature": 61.0,
    "mig": False,
}
SURVEY: "protocol.Survey" = {
    "models": [MODEL, STARTING],
    "dead": [DEAD, ENDED],
    "unreadable": [UNREADABLE],
    "elsewhere": [{"name": "e", "machine": "gpu02-3f9a8b7c"}],
    "refused_lock": "/root/.pi/lock",
    "driver_hangs": False,
    "gpus": [GPU_LOAD],
}

DISK: "protocol.Disk" = {
    "path": "/root/.cache/huggingface",
    "total": 10**12,
    "free": 10**11,
    "is_mount": False,
    "kind": "ext4",
    "trouble": None,
}
SAID = b'{"format":1,"version":"0.20.0"}'
ABILITIES: "protocol.Abilities" = {
    "version": "0.20.0",
    "is_default": True,
    "size": len(SAID),
    "digest": hashlib.sha256(SAID).hexdigest(),
    "packed": base64.b64encode(zlib.compress(SAID)).decode(),
}
CUDA: "protocol.CudaAnswer" = {
    "problem": "error",
    "code": 804,
    "reason": "reason",
    "gpus": [[0, 214]],
    "count": 1,
    "expected": 1,
    "version": 13000,
    "library": "/usr/local/cuda/compat/libcuda.so.575.57.08",
    "driver": "550.54.14",
    "entry": "/etc/ld.so.conf.d/988_cuda.conf",
    "lacking": ["/dev/nvidia-uvm"],
    "denied": ["/dev/nvidia0"],
    "simulated": False,
}
INSPECTION: "protocol.Inspection" = {
    "gpus": GPUS,
    "slices": "",
    "trouble": None,
    "driver": "answers",
    "home": DISK,
    "place": DISK,
    "storage": {**DISK, "path": "/mnt/models", "is_mount": True},
    "vllm": "0.20.0",
    "versions": ["0.20.0"],
    "abilities": [ABILITIES],
    "provider": "runpod",
    "boot": "b00t",
    "models": [],
    "cuda": CUDA,
}
HOLDERS: "protocol.Holders" = {"outputs": ["0, GPU-0\n", "GPU-0, 99, 70000, python3\n"], "ours": [4711]}
STOPPED: "protocol.StopResult" = {
    "outcomes": ["stopped"],
    "others": [False],
    "uids": [UID],
    "peers": [[]],
    "freed": 70000,
}
RECORD: "protocol.Record" = {
    "protocol": 1,
    "uid": UID,
    "name": "q",
    "model": "Qwen/Qwen3-8B",
    "arguments": ["--max-model-len", "4096"],
    "memory": 0.9,
    "vllm": "0.20.0",
    "private": False,
    "port": 8001,
    "gpu": "0",
    "pid": 4711,
    "start": 77,
    "boot": "b00t",
    "machine": "gpu01-3f9a8b7c",
    "since": 12.5,
    "log": LOG,
    "origins": ["planned", "planned"],
    "variables": {"VLLM_USE_DEEP_GEMM": "0"},
    "given": ["MY_VARIABLE"],
    "commit": "0f" * 20,
    "ready": True,
    "dated": True,
    "progress": [5, 10],
    "warming": True,
    "touched": 12.5,
    "role": "head",
    "peers": ["dc1", "dc2"],
    "kind": "model",
}
STARTED: "protocol.StartResult" = {
    "state": "launched",
    "record": RECORD,
    "took": 3.5,
    "code": None,
    "signal": None,
    "death": {
        "kills": 1,
        "machine_kills": 1,
        "limit": 64 * 10**9,
        "least": 10**8,
        "total": 64 * 10**9,
        "is_log_readable": True,
        "kernel": ["Out of memory: Killed process 77 (VLLM::EngineCor)"],
    },
}

TEMPLATE = Path(__file__).parents[1] / "lab" / "tiny-model" / "chat_template.jinja"  # a file that a start uploads
DIGEST = local_files.digest([LocalFile(TEMPLATE.name, TEMPLATE, TEMPLATE.stat().st_size)])
STORED: "protocol.StoreResult" = {"folder": f"/root/.pi/uploads/{DIGEST}", "is_stored": True}

PURGED: "protocol.PurgeResult" = {
    "parts": [{"kind": "vllm", "path": "/root/.pi/venvs/0.33.0", "bytes": 10**10, "files": 50000}],
    "kept": [{"path": "/root/venv", "reason": "not-made-by-setup"}],
    "shared_models": False,
}

CLEANED: "protocol.CleanResult" = {"folders": [{"path": "/root/.triton/cache", "bytes": 10**9, "files": 4000}]}
LAUNCHES: "protocol.Launches" = {
    "launches": [
        {
            "uid": UID,
            "name": "q",
            "arguments": ["--max-model-len", "4096"],
            "origins": ["planned", "planned"],
            "variables": {"VLLM_USE_DEEP_GEMM": "0"},
            "given": ["MY_VARIABLE"],
            "commit": "0f" * 20,
            "vllm": "0.20.0",
        }
    ],
    "builds": [
        {
            "version": "0.20.0",
            "made_from": "release",
            "wheel": "vllm-0.20.0-cp38-abi3-linux_x86_64.whl",
            "files": "0f" * 32,
            "torch": "2.11.0+cu130",
        }
    ],
}
BENCHED: "protocol.BenchResult" = {
    "end": "done",
    "context": 4096,
    "vllm": "0.20.0",
    "arguments": ["--max-model-len", "4096"],
    "figures": {
        "completed": 8,
        "failed": 0,
        "duration": 2.5,
        "output_rate": 51.2,
        "total_rate": 102.4,
        "request_rate": 3.2,
        "ttft": {"p50": 10.5, "p90": 11.5, "p99": 12.5},
        "tpot": {"p50": 5.5, "p90": 6.5, "p99": None},
        "itl": {"p50": 5.5, "p90": 6.5, "p99": 7.5},
    },
    "output": "",
}
GATEWAY: "protocol.GatewayResult" = {
    "state": "running",
    "port": 8002,
    "workers": [
        {"id": "a", "url": "http://10.0.0.2:8001", "reason": None},
        {"id": "b", "url": None, "reason": "it is not running"},
    ],
}
NETWORK: "protocol.NetworkResult" = {
    "addresses": [{"address": "10.65.0.2", "interface": "ens1", "variable": "NODE_ADDR"}],
    "port": 29501,
    "links": [{"address": "10.65.0.3", "rate": 2.5e10, "reason": ""}],
    "simulated": False,
}

HOLDER: "protocol.Downloader" = {"is_here": False, "pod": "dc2"}
EVENTS: "list[protocol.Event]" = [
    {"event": "beat", "kept": UID},
    {"event": "kept", "hash": UID},
    {"event": "placed", "port": 8001, "gpu": "0", "log": LOG},
    {"event": "progress", "done": 5, "total": 10, "by": None},
    {"event": "progress", "done": 5, "total": 10, "by": HOLDER},
    {"event": "waits-for-download", "by": HOLDER},
    {"event": "parts-deleted", "files": 2, "bytes": 10**9},
    {"event": "download-restarted", "seconds": 60.5, "without_xet": True},
    {"event": "download-stalled", "seconds": 60.5},
    {"event": "waits-for-lock", "path": "/root/.cache/lock", "pid": 99},
    {"event": "hub-silent"},
    {"event": "free-space-unknown", "path": "/workspace"},
    {"event": "lock-elsewhere", "path": "/root/.pi/lock"},
    {"event": "driver-slow", "seconds": 5.0, "limit": 60.0},
    {"event": "kv-cache-known", "size": 4 * 10**10, "at": 1.79e9},
    {"event": "kv-cache-dropped"},
    {"event": "warm-up", "state": "began"},
    {"event": "no-warm-up", "why": "quantised", "word": "awq"},
    {"event": "fetched", "commit": "0123456789" * 4},
    {"event": "listening", "ports": [40001]},
    {"event": "launched", "pid": 4711},
    {"event": "phase", "text": "loading weights", "at": 1.5},
    {"event": "log", "text": "INFO ready\n"},
]
REFUSALS: "list[protocol.Refusal]" = [
    {"code": "name-taken", "name": "q", "port": 8001},
    {"code": "gpus-taken", "names": ["other"]},
    {"code": "no-port"},
    {"code": "cache-in-use", "names": ["q"]},
    {"code": "in-use", "names": ["q"], "path": ""},
    {"code": "not-there", "name": "q"},
    {"code": "stopped", "name": "q"},
    {"code": "no-log", "path": LOG, "reason": "a FIFO"},
    {"code": "bad-pattern", "reason": "unterminated group"},
    {"code": "not-set-up", "program": "vllm"},
    {"code": "vllm-too-old", "names": ["0.19.0"]},
    {"code": "arguments", "name": "0.32.0", "reason": "unrecognized arguments: --x", "options": ["--y"]},
    {"code": "not-mounted", "path": "/mnt/models", "reason": "stale file handle"},
    {
        "code": "no-room-on-disk", "path": "/mnt/hub", "paths": ["/mnt/hub/models--a--b c"],
        "frees": 10**9, "free": 10**9, "lacking": 10**10, "total": 10**11,
    },
    {"code": "no-room-on-disk", "path": "/mnt", "paths": [], "frees": 0, "free": 10**9, "before": 10**10},
    {
        "code": "no-room-on-disk", "path": "/mnt", "paths": [], "frees": 0, "reason": "No space left on device",
        "disks": [{"place": "xet", "path": "/root/xet", "free": 10**9, "inodes": 0, "trouble": "No space left"}],
    },
    {"code": "download", "reason": "401 Client Error"},
    {"code": "locked", "path": "/root/.pi/lock", "seconds": 20.0},
    {"code": "environment", "seconds": 10.0},
    {"code": "not-ours", "path": "/root/.pi", "name": "mallory"},
    {"code": "hub-unreachable", "reason": "timed out"},
    {"code": "os", "path": "/root/.pi/models", "reason": "No space left on device", "errno": 28},
    {"code": "bug", "reason": "ZeroDivisionError"},
]  # fmt: skip

FILE: "protocol.FileId" = {"inode": 5, "length": 9, "sum": 77}
LOG_BEGINS: "protocol.LogBegins" = {
    "event": "begins",
    "uid": UID,
    "file": FILE,
    "is_new": True,
    "alive": True,
    "exists": True,
}
LOG_ENDS: "protocol.LogEvent" = {"event": "ended", "uid": UID, "file": FILE}
