"""Objects that are removed, each by a request of its own.

Policy: stores' requests for many at once (S3's DeleteObjects, Azure's Blob Batch) are what some of them have not, or refuse to some
credentials; nothing is removed by them, not even where the library would take them for one object. Many objects are many requests, some
under way together.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor

from ..errors import CheckpointError, NotFoundError
from .azure_addresses import address
from .begun import Objects
from .plain_http import ask
from .said import refused, refused_code


def remove(tree: Objects, name: str) -> None:
    """Remove an object; nothing happens where there is none."""
    import obstore

    url = address(tree, "DELETE", name) if tree.scheme == "az" else None
    if url is not None:
        answer = ask("DELETE", url, tree.label(name))
        if answer.status >= 300 and answer.status != 404:
            raise refused_code(answer.headers.get("x-ms-error-code", str(answer.status)), answer.status, tree.label(name), tree.scheme)
        return
    try:
        obstore.delete(tree.store, tree.key(name))
    except Exception as e:
        error = refused(e, tree.label(name), writing=True)
        if not isinstance(error, NotFoundError):
            raise error from None


def remove_all(tree: Objects, names: Iterable[str], pool: Executor) -> None:
    """Remove objects; all are tried before the first that is refused is told."""
    errors = []
    for removed in [pool.submit(tree.delete, n) for n in names]:
        try:
            removed.result()
        except CheckpointError as e:
            errors.append(e)
    if errors:
        raise errors[0]
