"""Links beside a checkpoint: whoever made the folder chose where they lead, so they are followed only inside what he has made.

That is the checkpoint's own folder, and of a snapshot of the hub's cache (models--X/snapshots/REVISION/) the blobs that it is made of
(huggingface_hub, file_download.py: a snapshot holds links into ../../blobs). A link to /etc/passwd called vocab.txt is neither.
"""

from __future__ import annotations

import os


def leads_out(path: str, folder: str) -> str | None:
    """Where `path`, which lies in a checkpoint's `folder`, really lies if that is outside of what belongs to the checkpoint; else None."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    homes = [root]
    at = root
    while at != os.path.dirname(at):
        above = os.path.dirname(at)
        if os.path.basename(above) == "snapshots":
            homes.append(os.path.join(os.path.dirname(above), "blobs"))
            break
        at = above
    return None if any(real.startswith(home.rstrip(os.sep) + os.sep) for home in homes) else real
