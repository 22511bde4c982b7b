"""An S3 server on loopback that honours put-if-absent, for the tests of releases in object stores."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


def settings_for(address: str) -> dict[str, str]:
    """Return the environment in which the server at an address is S3."""
    return {**SETTINGS, "AWS_ENDPOINT_URL": address}


@contextmanager
def serving() -> Iterator[str]:
    """Run moto's S3 in a process of its own; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=1).close()  # noqa: S310 - our own server
            break
        except OSError:
            time.sleep(0.1)
    yield address
    process.terminate()
    process.wait()


def make_bucket(address: str, name: str) -> None:
    """Make a bucket."""
    made = urllib.request.Request(f"{address}/{name}", method="PUT")  # noqa: S310 - our own server
    urllib.request.urlopen(made).close()  # noqa: S310 - as above
