#!/usr/bin/env python3
"""Simulates NVIDIA's hook of this name. The container runtime runs it before a container with GPUs starts.

It reads the OCI state on stdin, and installs an nvidia-smi in the container that lists the GPUs of the container's
NVIDIA_VISIBLE_DEVICES. Beside this file are `gpus` (an index and a UUID per line) and a template of nvidia-smi. If there is
also a file `broken`, the hook fails like the real one without a driver.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def fail(message):
    print(f"nvidia-container-cli: {message}", file=sys.stderr)
    sys.exit(1)


def visible(wanted, gpus):
    if wanted in ("", "void", "none"):
        return []
    if wanted == "all":
        return gpus
    chosen = []
    for key in wanted.split(","):
        match = [gpu for gpu in gpus if key in gpu]
        if not match:
            fail(f"device error: {key}: unknown device")
        chosen += match
    return chosen


def main():
    state = json.load(sys.stdin)
    if os.path.exists(os.path.join(HERE, "broken")):
        fail("initialization error: nvml error: driver not loaded")
    with open(os.path.join(state["bundle"], "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    root = os.path.join(state["bundle"], config["root"]["path"])
    environment = dict(entry.split("=", 1) for entry in config["process"]["env"] if "=" in entry)
    with open(os.path.join(HERE, "gpus"), encoding="utf-8") as file:
        gpus = [tuple(line.split()) for line in file if line.strip()]
    chosen = visible(environment.get("NVIDIA_VISIBLE_DEVICES", ""), gpus)
    with open(os.path.join(HERE, "nvidia-smi"), encoding="utf-8") as file:
        script = file.read().replace("@GPUS@", "\n".join(" ".join(gpu) for gpu in chosen))
    os.makedirs(os.path.join(root, "usr/bin"), exist_ok=True)
    target = os.path.join(root, "usr/bin/nvidia-smi")
    with open(target, "w", encoding="utf-8") as file:
        file.write(script)
    os.chmod(target, 0o755)


main()
