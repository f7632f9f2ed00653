"""Objects of Azure written in parts, by any number of machines: block blobs, whose blocks are seen when a list of them is committed.

Policy: obstore has no blocks in Python; a block goes to a signed address (`azure_addresses`), with its MD5, which the store holds it
against (Put Block, Put Block List of the Blob service's REST API). A block's name holds its upload, number and MD5. Blocks that nobody
commits are dropped by Azure a week after the last of them came.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from urllib.parse import quote

from ..errors import CheckpointError, CorruptError
from . import begun
from .azure_addresses import address
from .begun import Objects
from .interface import ABSENT
from .plain_http import Answer, ask
from .said import CREDENTIALS, ExistsError, refused_code

_HOLDS = 1800.0  # seconds for which a signed address is used; it is good for twice as long


class AzureSink:
    """One block blob, written in parts."""

    def __init__(self, tree: Objects, name: str) -> None:
        self.name, self._tree = name, tree
        self._label = tree.label(name)
        self._signed: dict[str, tuple[float, str]] = {}

    def _ask(self, method: str, query: str, body: bytes | memoryview | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        until, url = self._signed.get(method, (0.0, ""))
        if time.monotonic() > until:
            found = address(self._tree, method, self.name, 2 * _HOLDS)
            if found is None:
                message = "parts cannot be stored with these credentials"
                raise CheckpointError(message, path=self._label, hint=CREDENTIALS["az"])
            url = found
            self._signed[method] = time.monotonic() + _HOLDS, url
        about = {"Content-Type": "application/octet-stream", **(headers or {})}
        return ask(method, f"{url}&{query}", self._label, body=body, headers=about)

    def _error(self, answer: Answer) -> CheckpointError:
        return refused_code(answer.headers.get("x-ms-error-code", str(answer.status)), answer.status, self._label, "az")

    def begin(self) -> dict[str, str]:
        """Start an upload: a note, for Azure keeps no list of them."""
        return begun.begin(self._tree, self.name)

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag. CheckpointError where what arrived has another checksum."""
        md5 = hashlib.md5(data, usedforsecurity=False)
        query = "comp=block&blockid=" + quote(_block(upload, number, md5.hexdigest()), safe="")
        answer = self._ask("PUT", query, data, {"Content-MD5": base64.b64encode(md5.digest()).decode()})
        if answer.status != 201:
            if answer.headers.get("x-ms-error-code") == "Md5Mismatch":
                raise CorruptError(f"part {number} did not arrive as it was sent", path=self._label, hint="try again")
            raise self._error(answer)
        return md5.hexdigest()

    def _blocks(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """(name, bytes) of the blocks that are committed, and of those that are not."""
        answer = self._ask("GET", "comp=blocklist&blocklisttype=all")
        if answer.status == 404 and answer.headers.get("x-ms-error-code") == "BlobNotFound":
            return [], []
        if answer.status != 200:
            raise self._error(answer)
        text = answer.body.decode("utf-8", "replace")
        out = []
        for kind in ("CommittedBlocks", "UncommittedBlocks"):
            found = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
            pairs = re.findall(r"<Name>([^<]*)</Name>\s*<Size>(\d+)</Size>", found[1]) if found else []
            out.append([(base64.b64decode(n).decode("ascii", "replace"), int(size)) for n, size in pairs])
        return out[0], out[1]

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        begun.read(self._tree, self.name, upload)
        whole, there = self._blocks()
        if any(n.startswith(upload["id"]) for n, _ in whole):  # committed, by somebody who died before the note was gone
            begun.end(self._tree, self.name, upload)
            raise KeyError(self.name)
        return {int(n[16:21]): (n[21:], size) for n, size in there if n.startswith(upload["id"])}

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts; its tag. KeyError where there is no such upload. Raises ExistsError."""
        there = self.parts(upload)
        for n in sorted(tags):
            if there.get(n, ("", 0))[0] != tags[n]:
                raise CheckpointError(f"part {n} is not there as it was written", path=self._label, hint="begin again")
        lines = "".join(f"<Latest>{_block(upload, n, tags[n])}</Latest>" for n in sorted(tags))
        condition = {} if only_if is None else {"If-None-Match": "*"} if only_if == ABSENT else {"If-Match": only_if}
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{lines}</BlockList>'.encode()
        answer = self._ask("PUT", "comp=blocklist", body, {**condition, "Content-Type": "application/xml"})
        if answer.status in (409, 412) and [n for n, _ in self._blocks()[0]] == [_plain(upload, n, tags[n]) for n in sorted(tags)]:
            self._tree.fresh()  # it was committed, and only the answer was lost
            found = self._tree.entry(self.name)
            answer = Answer(201, {"etag": found.tag if found is not None else ""}, b"")
        if answer.status in (409, 412):
            raise ExistsError("is there, and is not what it was", path=self._label, hint="somebody else has written it meanwhile")
        if answer.status != 201:
            raise self._error(answer)
        self._tree.changed(self.name)
        begun.end(self._tree, self.name, upload)
        return answer.headers.get("etag", "")

    def abort(self, upload: Mapping[str, str]) -> None:
        """Forget the upload. Its blocks, which nobody sees, are dropped by Azure in a week."""
        begun.end(self._tree, self.name, upload)


def _plain(upload: Mapping[str, str], number: int, md5: str) -> str:
    return f"{upload['id']}{number:05d}{md5}"


def _block(upload: Mapping[str, str], number: int, md5: str) -> str:
    """The name of a block: all of an object have to be as long as each other."""
    return base64.b64encode(_plain(upload, number, md5).encode()).decode()
