"""What every test shares: a quiet, offline, single-threaded environment, and where the fixtures lie."""

from __future__ import annotations

import gc
import os
import sys

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
