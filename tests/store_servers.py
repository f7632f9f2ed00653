"""Real servers for tests of stores, where they are installed: SeaweedFS, Azurite, nginx, rclone's WebDAV. Each is a process of its own on
loopback, with its data in a folder of the test.

They are not part of the usual environment: `CKPTKIT_STORES=1` runs the tests against all of them, and one that is not installed then is
a failure; `CKPTKIT_STORES=seaweedfs,azurite` names some. CONTRIBUTING.md says how to install them.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import servers

PROGRAMS = {"seaweedfs": "weed", "azurite": "azurite-blob", "nginx": "nginx", "webdav": "rclone"}
ACCOUNT = "devstoreaccount1"  # Azurite's, as its documentation says, with its key
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def wanted() -> set[str]:
    """The servers that the environment asks for."""
    said = os.environ.get("CKPTKIT_STORES", "0")
    return set() if said in ("", "0") else set(PROGRAMS) if said == "1" else set(said.split(","))


def written() -> list[str]:
    """Those of them that are written to, Azurite by its key and by a shared access signature."""
    there = wanted()
    return [n for n in ("azurite", "azurite-sas", "seaweedfs") if n.partition("-")[0] in there]


def program(name: str) -> str:
    """The path of a server's program. Raises FileNotFoundError."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(PROGRAMS[name], path=os.pathsep.join([os.environ.get("PATH", ""), beside, "/usr/sbin"]))
    if found is None:
        raise FileNotFoundError(f"{PROGRAMS[name]} is not installed: see CONTRIBUTING.md on CKPTKIT_STORES")
    return found


def free_port() -> int:
    """A port that nobody listens at now, and that the system gives to no connection meanwhile (it gives those above 32767)."""
    while True:
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", random.SystemRandom().randrange(12_000, 32_000)))
            return int(s.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, folder: Path, patience: float = 300) -> Iterator[subprocess.Popen[bytes]]:
    """A server while it runs, from when it listens at `port`."""
    with open(folder / "server.log", "wb") as log:
        made = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if made.poll() is not None or time.monotonic() > until:
                    said = (folder / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{command[0]} does not listen: {said}") from None
                time.sleep(0.1)
        yield made
    finally:
        made.terminate()
        try:
            made.wait(3)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait()


@contextmanager
def seaweedfs(folder: Path, hook: servers.Hook | None = None, *, proxy: bool = True) -> Iterator[list[servers.Request]]:
    """SeaweedFS' S3 with an empty bucket, reached through a proxy or at once; `s3://BUCKET/...` is there meanwhile."""
    with ExitStack() as stack:
        direct = stack.enter_context(_weed(folder))
        words = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
        address, requests = stack.enter_context(servers.counting(direct, hook))
        stack.enter_context(servers.environment(AWS_ENDPOINT_URL=address if proxy else direct, **words))
        yield requests


@contextmanager
def _weed(folder: Path) -> Iterator[str]:
    """SeaweedFS with an empty bucket; its S3's address. It has many ports: where another process was quicker with one it is begun again."""
    for k in range(4):
        work = folder / f"weed{k}"
        work.mkdir()
        ports = {n: free_port() for n in ("master.port", "volume.port", "filer.port", "s3.port")}
        command = [program("seaweedfs"), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", f"-dir={work}"]
        command += [f"-{n}={p}" for n, p in ports.items()] + [f"-{n}.grpc={free_port()}" for n in ports]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20"]  # its catalogues, at ports that two of them would share
        with ExitStack() as stack:
            try:
                made = stack.enter_context(process(command, ports["s3.port"], work))
                direct = f"http://127.0.0.1:{ports['s3.port']}"
                _bucket(direct, made)
            except RuntimeError:
                if k == 3:
                    raise
                continue
            yield direct
            return


def _bucket(direct: str, made: subprocess.Popen[bytes], patience: float = 240) -> None:
    """Make the bucket, once what is behind SeaweedFS' S3 takes objects. RuntimeError where it ends before."""
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test-secret"}
    client = boto3.client("s3", endpoint_url=direct, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}), **keys)
    until = time.monotonic() + patience
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=servers.BUCKET)
            for _ in range(8):  # in volumes, which are made for the first objects: an empty one needs none
                client.put_object(Bucket=servers.BUCKET, Key="-ready", Body=bytes(100_000))
            client.delete_object(Bucket=servers.BUCKET, Key="-ready")
            return
        except Exception as e:
            if made.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS takes no objects: {e}") from None
            time.sleep(0.5)


def signature(permissions: str = "rwdlac") -> str:
    """A shared access signature for Azurite's account (account SAS, as the storage services' documentation says)."""
    until, version = "2099-01-01T00:00:00Z", "2021-08-06"
    lines = [ACCOUNT, permissions, "b", "sco", "", until, "", "", version, "", ""]
    digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    return urlencode({"sp": permissions, "ss": "b", "srt": "sco", "se": until, "sv": version, "sig": base64.b64encode(digest).decode()})


@contextmanager
def azurite(folder: Path, hook: servers.Hook | None = None, *, sas: str = "") -> Iterator[list[servers.Request]]:
    """Azurite with an empty container, reached through a proxy; `az://BUCKET/...` is there meanwhile, by its key or by a `sas`."""
    port = free_port()
    command = [program("azurite"), "--skipApiVersionCheck", "--disableTelemetry", "--silent", "--blobHost", "127.0.0.1"]
    with process([*command, "--blobPort", str(port), "-l", str(folder)], port, folder):
        created = _container(port)
        if created not in (201, 409):
            raise RuntimeError(f"Azurite makes no container: {created}")
        with servers.counting(f"http://127.0.0.1:{port}", hook) as (address, requests), servers.environment(
            AZURE_STORAGE_ACCOUNT_NAME=ACCOUNT, AZURE_STORAGE_ENDPOINT=f"{address}/{ACCOUNT}",
            **({"AZURE_STORAGE_SAS_TOKEN": sas} if sas else {"AZURE_STORAGE_ACCOUNT_KEY": KEY}),
        ):  # fmt: skip
            yield requests


def _container(port: int) -> int:
    """Make the container of the tests (Shared Key, as the Blob service's documentation says); the answer's status."""
    date = email.utils.formatdate(usegmt=True)
    signed = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{servers.BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), ("PUT" + "\n" * 12 + signed).encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        "Content-Length": "0",
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{ACCOUNT}/{servers.BUCKET}?restype=container", headers=headers)
    return connection.getresponse().status


@contextmanager
def nginx(folder: Path, work: Path) -> Iterator[str]:
    """nginx over the files below `folder`; its address."""
    port = free_port()
    (work / "tmp").mkdir(exist_ok=True)
    temporary = "".join(f"{n}_temp_path {work}/tmp/{n};\n" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;\n" if os.geteuid() == 0 else ""
    (work / "nginx.conf").write_text(
        f"{user}daemon off; pid {work}/nginx.pid; error_log {work}/error.log; worker_processes 1;\nevents {{}}\n"
        f"http {{ access_log off;\n{temporary}server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    with process([program("nginx"), "-p", str(work), "-c", str(work / "nginx.conf"), "-e", str(work / "error.log")], port, work):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def webdav(folder: Path, work: Path) -> Iterator[str]:
    """rclone's WebDAV server over the files below `folder`; its address."""
    port = free_port()
    with process([program("webdav"), "serve", "webdav", str(folder), "--addr", f"127.0.0.1:{port}", "--config", "/dev/null"], port, work):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def started(name: str, work: Path, hook: servers.Hook | None = None) -> Iterator[str]:
    """A store by the name of its server, behind a proxy with that hook; the address of its bucket."""
    if name == "seaweedfs":
        made, scheme = seaweedfs(work, hook), "s3"
    elif name in ("azurite", "azurite-sas"):
        made, scheme = azurite(work, hook, sas=signature() if name == "azurite-sas" else ""), "az"
    else:
        made, scheme = servers.s3(hook), "s3"
    with made:
        yield f"{scheme}://{servers.BUCKET}"
