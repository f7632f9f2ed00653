"""What a pickle names and nobody makes: a value that describes an object of some class."""

from __future__ import annotations

from ..errors import printable


class Opaque:
    """A global that is only named: `module.name`, with what the pickle would have given it. `args` is None for the bare name.

    `state` is what BUILD carries (an argparse.Namespace's attributes), `items` what was appended or set. `safe` says that the
    name is on the allow-list as plain data.
    """

    __slots__ = ("args", "items", "module", "name", "new", "safe", "state")

    def __init__(
        self, module: str, name: str, args: tuple[object, ...] | None = None, state: object = None, *, safe: bool = False, new: bool = False
    ) -> None:
        self.module = module
        self.name = name
        self.args = args
        self.state = state
        self.items: dict[object, object] | list[object] | None = None
        self.safe = safe
        self.new = new  # made by NEWOBJ, so to be written by NEWOBJ

    def __repr__(self) -> str:
        return f"<{printable(self.module)}.{printable(self.name)}>"
