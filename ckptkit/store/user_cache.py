"""Folders of this user's cache: `CKPTKIT_CACHE` names another one, and with `CKPTKIT_CACHE=0` nothing is kept there."""

from __future__ import annotations

import os


def cache_folder() -> str | None:
    """Where what may be thrown away at any time is kept; None where it is not to be kept."""
    said = os.environ.get("CKPTKIT_CACHE", "")
    if said == "0":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return said or os.path.join(base, "ckptkit")


def working_folder() -> str:
    """Where what a run needs lies until it is done: in the cache, or where there is none with what is temporary."""
    import tempfile

    return cache_folder() or os.path.join(tempfile.gettempdir(), f"ckptkit-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
