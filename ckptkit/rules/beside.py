"""What lies beside the weights: vocabularies, remote code, the name of the folder."""

from __future__ import annotations
