"""ckptkit: inspect, validate, convert and verify model checkpoints."""

__version__ = "0.1.0"
