"""A plan carried out in units: by this process, by many, or by many machines, into a store or a folder that all of them see.

`units` cuts a plan, `make` makes the bytes of a unit, `receipts` folds what units told, `run` begins a run, does its units and commits it.
"""
