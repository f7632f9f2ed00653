"""What every test shares: a quiet, offline, single-threaded environment, and where the fixtures lie."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

# before any framework is imported: they read these once
os.environ.update(
    TF_CPP_MIN_LOG_LEVEL="3",
    CUDA_VISIBLE_DEVICES="",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# bytecode is kept whatever the environment says: else each of a thousand commands compiles the package again, two thirds of its time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# a busy machine makes no test wrong
settings.register_profile("ckptkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ckptkit")


def pytest_collection_finish() -> None:
    """Leave what was imported so far out of garbage collection, and look for garbage less often: a tenth of the time of all tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _of_stores() -> dict[str, str]:
    marks = ("AWS_", "AZURE_", "GOOGLE_", "GS_", "HF_ENDPOINT", "HF_TOKEN", "CKPTKIT_")
    return {n: v for n, v in os.environ.items() if n.startswith(marks)}


_before = _of_stores()


@pytest.fixture(autouse=True)
def _environment_of_stores_is_left_as_it_was() -> Iterator[None]:
    """What a test leaves in the environment would decide how later ones fare: the test that leaves it fails."""
    yield
    servers = sys.modules.get("servers")
    if servers is None or servers._layers:  # a server is running still, for a module
        return
    now = _of_stores()
    left = sorted(n for n in now.keys() | _before.keys() if now.get(n) != _before.get(n))
    for n in left:
        if n in _before:
            os.environ[n] = _before[n]
        else:
            del os.environ[n]
    assert left == [], f"left in the environment: {left}"


FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Checkpoints of the original programs, with those programs' outputs."""
    return FIXTURES / "golden"


@pytest.fixture(scope="session")
def made_dir() -> Path:
    """The project's own small fixtures."""
    return FIXTURES / "made"


@pytest.fixture(scope="session")
def hostile_dir() -> Path:
    """The corpus of malformed and malicious checkpoints; manifest.json is in it."""
    return FIXTURES / "hostile" / "corpus"
