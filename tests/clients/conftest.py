"""Starts `lockgate serve` with the example's packages and policy, as a user would."""

import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCKGATE = os.environ.get("LOCKGATE", str(ROOT / "target/debug/lockgate"))
EXAMPLE = ROOT / "examples/eurusd"


def lockgate(*arguments):
    return subprocess.run([LOCKGATE, *map(str, arguments)], check=True, capture_output=True, text=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for model in sorted((EXAMPLE / "models").glob("*.onnx")):
        lockgate("package", model, "--manifest", model.with_suffix(".manifest.yaml"), "--output", folder / f"{model.stem}.lgp")
    return folder


@pytest.fixture(scope="session")
def server(packages):
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [LOCKGATE, "serve", "--policy", EXAMPLE / "policy.yaml", "--packages", packages, "--listen", address],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while True:
        if process.poll() is not None:
            pytest.fail(f"lockgate serve ended with {process.returncode}:\n{process.stderr.read()}")
        try:
            with urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=1) as answer:
                if answer.status == 200:
                    break
        except OSError:
            pass
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("lockgate serve did not become ready within 120 s")
        time.sleep(0.1)
    # Nobody reads the log from here on; a full pipe would block the server.
    import threading

    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield address
    process.terminate()
    assert process.wait(timeout=30) == 0, "a graceful shutdown ends with exit code 0"
