"""An S3 server on loopback that honours put-if-absent, for the tests of releases in object stores."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
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


def make_users(address: str, allowed: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Make users who may do what is named (`s3:GetObject`, …) and nothing else; return the environment of each.

    From then on the server asks everybody who they are.
    """
    import boto3  # noqa: PLC0415 - only where rights are tested

    anybody = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    iam = boto3.client("iam", endpoint_url=address, region_name="us-east-1", **anybody)
    users = {}
    for name, actions in allowed.items():
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        users[name] = settings_for(address) | {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        if actions:
            told = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=told)
    asking = urllib.request.Request(  # noqa: S310 - our own server
        f"{address}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(asking).close()  # noqa: S310 - as above
    return users
