"""Models that run: built from an architecture's forward traits, canonical parameter names, in PyTorch and in Keras.

The only place that imports a framework, and only in `torch.py`, `keras.py` and what exports from them. What a model is
(`spec.py`) and how its numbers flow (`blocks.py`, `heads.py`, `flow.py`) is written once, over array operations that
have the names and meanings of `keras.ops`; a framework gives the leaves (linear, norm, embedding) and the operations.
"""
