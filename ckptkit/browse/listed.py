"""A list over the screen, to choose from or to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option


class Listed(ModalScreen[str]):
    """A list to choose from, with a field to search in if `search` is given; gives the id of what is chosen, "" of nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Back"), Binding("down", "into", "List", show=False)]

    def __init__(self, title: str, options: Sequence[Option], search: Callable[[str], Sequence[Option]] | None = None) -> None:
        super().__init__()
        self._title, self._options, self._search = title, options, search

    def compose(self) -> ComposeResult:
        with Container(id="listed"):
            yield Static(self._title, markup=False, id="listed-title")
            if self._search is not None:
                yield Input(placeholder="words of a name, or a glob")
            yield OptionList(*self._options, markup=False)
            yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Input if self._search is not None else OptionList).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._search is not None:
            self.query_one(OptionList).clear_options().add_options(self._search(event.value))

    def on_input_submitted(self) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            self.dismiss(str(options.get_option_at_index(options.highlighted or 0).id or ""))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(str(event.option.id or ""))

    def action_into(self) -> None:
        self.query_one(OptionList).focus()

    def action_close(self) -> None:
        self.dismiss("")
