"""`python -m ckptkit`."""

from .cli import program

program()
