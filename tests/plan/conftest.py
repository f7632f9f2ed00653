"""The tiny architecture as the only one that is known."""

from __future__ import annotations

from tiny import only_tiny as only_tiny
