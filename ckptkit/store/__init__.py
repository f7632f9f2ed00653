"""Where bytes lie: files of this machine, and objects of stores and servers, behind one small interface.

A place is a text: a path, or an address (`s3://bucket/key`, `gs://`, `az://`, `https://`, `hf://owner/name@revision/path`). Whoever reads a
checkpoint asks here, and nowhere else, what is at a place and for its bytes. A path is answered by the operating system, and nothing is
imported for it; an address by a `Tree` (see `interface`), which `remote` and `hub` make. Objects have no descriptors and no times:
what holds a reading together is the tag, which every read of an object names (ETag, or the commit), so that one that is replaced
meanwhile is an error.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from .local_blob import LocalBlob
from .paths import (
    absolute,
    entries,
    exists,
    file_size,
    give_back,
    is_file,
    is_folder,
    is_link,
    is_url,
    leads_out,
    lexists,
    listdir,
    normal,
    open_blob,
    pin,
    prepare,
    read_bytes,
    read_json,
    read_link,
    relative,
    same_file,
    stamp,
    view_of,
    walk,
    warm,
)

if TYPE_CHECKING:
    from .interface import Blob

__all__ = [
    "Blob", "LocalBlob", "absolute", "entries", "exists", "file_size", "give_back", "is_file", "is_folder", "is_link", "is_url",
    "leads_out", "lexists", "listdir", "normal", "open_blob", "pin", "prepare", "read_bytes", "read_json", "read_link", "relative",
    "same_file", "stamp", "view_of", "walk", "warm",
]  # fmt: skip
