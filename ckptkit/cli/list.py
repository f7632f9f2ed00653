"""`ckptkit list`."""

from __future__ import annotations

from ._quick import FORMAT, Quick, print_out

WHAT = ("architectures", "dialects", "containers", "variants")


def run(what: str, *, form: str) -> int:
    """Show what there is, from the tables themselves: architectures, dialects, containers or variants.

    \b
    ckptkit list architectures
    ckptkit list variants --format json
    """
    from ..report.catalogue import show_catalogue

    print_out(show_catalogue(what, form))
    return 0


quick = Quick("list", "what", (FORMAT,), run, WHAT)


def __getattr__(name: str) -> object:
    if name == "command":
        return quick.command()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
