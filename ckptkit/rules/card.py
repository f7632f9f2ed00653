"""What the model card beside the weights says of itself: README.md's front matter.

Policy: the part between the two lines of dashes is read as data (YAML without tags), nothing else of the page. What it says of the
licence is held against the folder, never against the law.

Source: huggingface_hub `repocard_data.py`, the hub's metadata of model cards (`license`, `license_name`, `license_link`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from .. import store
from ..errors import CheckpointError, CorruptError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ._base import folder_of, rule

ORDER = 63
CARD = "README.md"
MOST = 1 << 20  # bytes of a card that is looked at
# lines whose meaning is plain: a key with a word or without a value, an item of a list
_PLAIN = r"[a-z][a-z_-]*:(?: [A-Za-z][\w.+-]*)?|- [A-Za-z][\w./ +-]*"
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # which YAML takes for other things


@rule("card", "warning", "The model card's front matter can be read, and names its licence", reads="beside")
def card(s: Subject) -> Iterator[Finding]:
    """What stands between the first two lines of dashes of README.md beside the weights: it must be YAML that gives keys, since the hub and
    programs read the licence and the base model there. A licence `other` needs license_name; a license_link that is a file's name needs
    that file.
    """
    folder = folder_of(s.checkpoint)
    path = os.path.join(folder, CARD)
    if not store.is_file(path) or store.file_size(path) > MOST:
        return
    try:
        lines = store.read_bytes(path).decode("utf-8", "replace").splitlines()
    except CheckpointError:
        return
    if not lines or lines[0].strip() != "---":
        return
    end = next((k for k, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        yield Finding("warning", "card", CARD, f"the front matter of {CARD} is never closed", "end it with a line of three dashes")
        return
    try:
        said = _front_matter(lines[1:end])
    except CorruptError as e:
        if "alias" not in e.message:  # which is right, and not read here
            yield Finding("warning", "card", CARD, f"the front matter of {CARD} {e.message}", "mend it between the lines of dashes")
        return
    except CheckpointError:  # more than is looked at
        return
    if said.get("license") == "other" and not said.get("license_name"):
        yield Finding("warning", "card", "license", f"{CARD} says license: other and gives it no name", "add license_name and license_link")
    link = said.get("license_link")
    if isinstance(link, str) and link and "/" not in link and ":" not in link and not store.lexists(os.path.join(folder, link)):
        what = f"{CARD} says license_link: {printable(link, 100)}, and no such file lies beside the weights"
        yield Finding("warning", "card", "license_link", what, "add the licence's text, or name its address")


def _front_matter(lines: Sequence[str]) -> dict[str, object]:
    """What it says. Most of it is so plain that YAML's reader, whose import takes as long as inspecting a checkpoint, is not needed."""
    plain = re.compile(_PLAIN).fullmatch
    texts = [line.rstrip() for line in lines]
    keys = [line.partition(":")[0] for line in texts if ":" in line]
    after = ["", *texts]
    in_order = all(b.startswith("- ") or b.endswith(":") for b, t in zip(after, texts, strict=False) if t.startswith("- "))
    if in_order and all(plain(t) for t in texts) and len(set(keys)) == len(keys):
        said: dict[str, object] = {}
        for t in texts:
            key, colon, value = t.partition(":")
            if colon:
                said[key] = value.strip() or None
        if not any(str(v).lower() in _WORDS for v in said.values()):
            return said
    from ..support.yaml import yaml_mapping

    return yaml_mapping("\n".join(lines))
