"""The program that `ckptkit browse` runs, made with Textual.

Policy: the interface waits for nothing but the headers. What reads weights or runs rules is done in a thread, shows how far it is, and
is called off by a key or by choosing something else. Names from files are never taken for markup.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Footer, Static, Tree
from textual.widgets.option_list import Option
from textual.widgets.tree import TreeNode
from textual.worker import get_current_worker

from .._typing import NamedTuple
from ..errors import CancelledError, CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..report.inspection import facts
from ..scan.figures import Statistics
from ..scan.survey import Asked, survey
from ..support.progress import describe, human_bytes
from ..support.terminal import fitted
from ..verbs.diff import diff
from ..verbs.inspect import inspect_subject, rows_of
from ..verbs.inspected_rows import TensorRow
from ..verbs.measure import measure_subject
from .details import change_words, lines_of
from .listed import Listed
from .tree import Node, View, compared, find, leads_to, leaves_by_name, names_of, tree_of, tree_of_two, views

AT_ONCE = 64 << 20  # bytes of a tensor that are read when it is chosen; more when a key is pressed
FOUND = 200  # tensors that a search lists
SEVERITIES = {"error": "bold red", "warning": "yellow", "info": "dim"}


class Side(NamedTuple):
    """One checkpoint, open."""

    path: str
    subject: Subject
    rows: Sequence[TensorRow]


def side_of(path: str, subject: Subject) -> Side:
    return Side(path, subject, rows_of(subject))


class Browser(App[None]):
    """Of one checkpoint a tree with facts, figures, findings; of two what differs between them."""

    CSS = """
    #title { height: 1; background: $panel; text-style: bold; }
    #both { layout: horizontal; }
    Tree { width: 45%; height: 100%; border-right: solid $panel; }
    #side { width: 1fr; height: 100%; padding: 0 1; scrollbar-gutter: stable; }
    #details { text-wrap: nowrap; }
    .-narrow #both { layout: vertical; }
    .-narrow Tree { width: 100%; height: 45%; border-right: none; border-bottom: solid $panel; }
    .-narrow #side { width: 100%; height: 1fr; }
    #state { height: 1; color: $text-muted; }
    Listed { align: center middle; }
    #listed { width: 94%; height: 85%; border: solid $primary; background: $surface; }
    #listed OptionList { height: 1fr; border: none; }
    #listed Input { border: none; height: 1; background: $panel; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012  # columns from which on the tree lies beside
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/"),
        Binding("f", "findings", "Findings"),
        Binding("i", "facts", "Facts"),
        Binding("s", "read", "Figures"),
        Binding("a", "read_all", "All"),
        Binding("n", "next", "Next"),
        Binding("tab", "switch", "Text", show=False),
        Binding("escape", "cancel", "Stop", show=False),
        Binding("q", "leave", "Quit"),
    ]

    def __init__(self, sides: Sequence[Side], *, jobs: int | None = None) -> None:
        super().__init__()
        self.sides, self.jobs = sides, jobs
        self.ended: int | None = None  # the signal that says to end: put here at any time, seen at the next tick
        self.root = tree_of(sides[0].rows) if len(sides) == 1 else tree_of_two(sides[0].rows, sides[1].rows)
        self.known: list[dict[str, Statistics | None]] = [{} for _ in sides]
        self.findings: list[list[Finding] | None] = [None for _ in sides]
        self.facts: list[list[tuple[str, str]]] = [[] for _ in sides]
        self.chosen = View("", self.root)
        self.doing = ""
        self.far = 0, 0
        self.said = ""
        self.values_read = False
        self._reading = threading.Lock()
        self._names: list[tuple[str, Node]] = []  # made for the first search

    def compose(self) -> ComposeResult:
        yield Static(self._title_text(), markup=False, id="title")
        with Container(id="both"):
            tree: Tree[View] = Tree(Text("everything"), View("", self.root))
            tree.guide_depth = 2
            yield tree
            with VerticalScroll(id="side"):
                yield Static("", markup=False, id="details")
        yield Static("", markup=False, id="state")
        yield Footer(compact=True, show_command_palette=False)

    def _title_text(self) -> str:
        titles = []
        for s in self.sides:
            what = s.subject.architecture.name if s.subject.architecture is not None else "unknown architecture"
            titles.append(f"{printable(s.path)}: {what}")
        return "   ".join(f"{letter} {t}" for letter, t in zip("AB", titles, strict=False)) if len(titles) > 1 else titles[0]

    def on_mount(self) -> None:
        tree = self._tree()
        self._fill(tree.root)
        tree.root.expand()
        tree.focus()
        self.set_interval(0.2, self._show_state)
        self.call_after_refresh(self._show)
        self.set_timer(0.3, self._look)  # the tree is drawn first
        if len(self.sides) == 2:
            self._compare()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def _tree(self) -> Tree[View]:
        return self.query_one(Tree)

    # --- the tree ----------------------------------------------------------------------------------------------------

    def _label(self, view: View) -> Text:
        node = view.node
        text = Text(view.label)
        if node.rows and not view.members:
            row = next(r for r in node.rows if r is not None)
            if node.change is not None:
                text.append(f"  {change_words(node.change)}", "dim" if node.change.kind == "same" else "yellow")
            elif len(self.sides) == 1:
                text.append(f"  {row.dtype} {list(row.shape)}", "dim")
        elif len(self.sides) == 2:
            if node.compared and not view.members:
                style = "yellow" if node.different else "dim"
                text.append(f"  {node.different:,} of {node.compared:,} differ" if node.different else "  same", style)
        elif not view.members:
            text.append(f"  {node.elements:,}", "dim")
        return text

    def _fill(self, at: TreeNode[View]) -> None:
        """Make the lines below one, once."""
        if at.children or at.data is None:
            return
        for view in views(at.data):
            at.add(self._label(view), view, allow_expand=view.opens)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[View]) -> None:
        self._fill(event.node)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[View]) -> None:
        if event.node.data is None or event.node.data is self.chosen:
            return
        self.chosen = event.node.data
        self._stop()
        self._show()
        self.query_one("#side", VerticalScroll).scroll_home(animate=False)
        rows = [r for r in self.chosen.node.rows if r is not None]
        if rows and not self.doing and not self.chosen.members and sum(r.nbytes for r in rows) <= AT_ONCE:
            self._read_chosen()

    def go_to(self, node: Node) -> None:
        """Open the tree down to a node, and choose it."""
        at = self._tree().root
        while at.data is not None and (at.data.members or at.data.node is not node):
            self._fill(at)
            at.expand()
            below = next((c for c in at.children if c.data is not None and leads_to(c.data, node)), None)
            if below is None:
                break
            at = below
        self.call_after_refresh(self._tree().move_cursor, at)

    def _relabel(self) -> None:
        todo = [self._tree().root]
        while todo:
            at = todo.pop()
            if at.data is not None and at is not self._tree().root:
                at.set_label(self._label(at.data))
            todo += at.children

    # --- what is shown -------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        side, details = self.query("#side").results(VerticalScroll), self.query("#details").results(Static)
        for s, d in zip(side, details, strict=False):  # neither is there once the program ends
            d.update(self._details(max(24, s.scrollable_content_region.width or self.size.width - 4)))

    def _details(self, width: int) -> Text:
        lines = lines_of(self.chosen.node, self.known, width)
        text = Text(lines[0], "bold")
        text.append("\n" + "\n".join(lines[1:]), "not bold")
        unread = [r for k, r in enumerate(self.chosen.node.rows) if r is not None and r.name not in self.known[k]]
        if unread and not self.doing and sum(r.nbytes for r in unread) > AT_ONCE:
            text.append(f"\n\ns reads its {human_bytes(sum(r.nbytes for r in unread))} for figures and a histogram", "italic not bold")
        elif self.chosen.opens and not self.doing and len(self.sides) == 1:
            text.append("\n\ns reads all that is below it for its figures", "italic not bold")
        return text

    def _show_state(self) -> None:
        if self.ended is not None:
            self.action_leave()
        far = f"  {describe(*self.far, 0.0)}" if self.far[1] else ""
        for state in self.query("#state").results(Static):
            state.update(f"{self.doing}{far}  (esc stops)" if self.doing else self.said)

    def _tell(self, done: int, total: int) -> None:
        self.far = done, total  # shown at the next tick: any thread calls this

    # --- what is read --------------------------------------------------------------------------------------------------

    def _begin(self, what: str) -> None:
        self.doing, self.far, self.said = what, (0, 0), ""

    def _end(self, said: str = "") -> None:
        self.doing, self.said = "", said
        self._show_state()
        self._show()

    @work(thread=True, group="facts")
    def _look(self) -> None:
        """Facts and findings, by headers."""
        for k, s in enumerate(self.sides):
            try:
                with self._reading:
                    found = inspect_subject(s.subject, s.path)
            except (CheckpointError, OSError) as e:
                self.said = str(e)
                continue
            self.facts[k] = list(facts(found))
            if self.findings[k] is None:
                self.findings[k] = list(found.findings)
        graver = sum(f.severity != "info" for found in self.findings for f in found or ())
        if graver and not self.said:
            self.said = f"{graver:,} finding{'s' * (graver > 1)} (f shows them)"

    def _read_chosen(self) -> None:
        names = [
            [r.name for n in self.chosen.node.below() if (r := n.rows[k]) is not None and r.name not in self.known[k]]
            for k in range(len(self.sides))
        ]
        if any(names):
            self._begin("reading")
            self._figures(names)

    @work(thread=True, exclusive=True, group="figures")
    def _figures(self, names: list[list[str]]) -> None:
        """The figures of these stored tensors, a list a side."""
        worker = get_current_worker()
        try:
            for k, s in enumerate(self.sides):
                wanted = {*names[k]}
                with self._reading:
                    parts = s.subject.packings.parts(r.note for r in s.rows if r.role == "packing" and r.name in wanted)
                    there = [n for n in names[k] if n in parts or n in s.subject.checkpoint.tensors]
                    asked = Asked(there, parts=parts, progress=self._tell, cancelled=lambda: worker.is_cancelled, jobs=self.jobs)
                    found = survey(s.subject.checkpoint, (), asked, checks=False).statistics
                if worker.is_cancelled:
                    return
                self.known[k].update({n: found.get(n) for n in names[k]})
            said = ""
        except CancelledError:
            return
        except (CheckpointError, OSError) as e:
            said = str(e)
        if not worker.is_cancelled:
            self.call_from_thread(self._end, said)

    @work(thread=True, exclusive=True, group="figures")
    def _everything(self) -> None:
        """One pass over all weights: figures of every tensor, and the findings of every rule."""
        worker = get_current_worker()
        said = "all is read"
        try:
            for k, s in enumerate(self.sides):
                asked = Asked(progress=self._tell, cancelled=lambda: worker.is_cancelled, jobs=self.jobs)
                with self._reading:
                    measured = measure_subject(s.subject, asked, digest=False)
                self.known[k].update({m.name: m.statistics for m in measured.tensors})
                self.findings[k] = list(measured.findings)
            self.values_read = True
        except CancelledError:
            return
        except (CheckpointError, OSError) as e:
            said = str(e)
        if not worker.is_cancelled:
            self.call_from_thread(self._end, said)

    @work(thread=True, exclusive=True, group="comparison")
    def _compare(self) -> None:
        """What differs between the two."""
        worker = get_current_worker()
        self._begin("comparing")

        def told(done: int, total: int) -> None:
            self.far = done, total
            if worker.is_cancelled:
                raise CancelledError("cancelled")

        try:
            a, b = (s.subject for s in self.sides)
            found = diff(a, b, jobs=self.jobs, progress=told)
        except CancelledError:
            return
        except (CheckpointError, OSError) as e:
            self.call_from_thread(self._end, str(e))
            return
        if not worker.is_cancelled:
            self.call_from_thread(self._compared, found)

    # --- keys ----------------------------------------------------------------------------------------------------------

    def _compared(self, found: object) -> None:
        from ..report.diff import conclusion
        from ..verbs.diff import Diff

        assert isinstance(found, Diff)
        compared(self.root, found)
        self._relabel()
        self._end(conclusion(found))
        if self.chosen.node.rows:
            self._read_chosen()

    def _stop(self) -> None:
        """Call off the reading of what was chosen; a comparison goes on."""
        if self.doing == "reading":
            self.workers.cancel_group(self, "figures")
            self.doing = ""

    def action_cancel(self) -> None:
        if self.doing:
            for group in ("figures", "comparison"):
                self.workers.cancel_group(self, group)
            self._end("stopped")

    def action_read(self) -> None:
        if not self.doing:
            self._read_chosen()

    def action_read_all(self) -> None:
        if not self.doing:
            self._begin("reading all weights")
            self._show()  # without the offer to read
            self._everything()

    def action_switch(self) -> None:
        self.screen.focus_next()

    def action_next(self) -> None:
        """Choose the next parameter that differs, from the chosen one on, and from the first again."""
        order = list(self.root.below())
        unlike = [k for k, n in enumerate(order) if n.change is not None and n.change.kind != "same"]
        if not unlike:
            self.said = "" if self.doing else "nothing differs"
            return
        here = next((k for k, n in enumerate(order) if n is self.chosen.node), -1)
        self.go_to(order[next((k for k in unlike if k > here), unlike[0])])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return len(self.sides) == 2 if action == "next" else True

    def action_search(self) -> None:
        there: dict[str, Node] = {}
        self._names = self._names or names_of(self.root)

        def search(words: str) -> list[Option]:
            found = find(self._names, words, FOUND)
            there.update({str(k): n for k, n in enumerate(found)})
            return [Option(Text(n.name), str(k)) for k, n in enumerate(found)]

        self.push_screen(Listed("search", (), search), lambda key: self.go_to(there[key]) if key else None)

    def action_findings(self) -> None:
        if any(found is None for found in self.findings):
            self.said = "still looking"
            return
        options: list[Option] = []
        places = leaves_by_name(self.root)
        at: dict[str, Node | None] = {}
        width = max(20, self.size.width * 94 // 100 - 8)
        for k, found in enumerate(self.findings):
            for f in found or ():
                side = f"{'AB'[k]} " if len(self.sides) > 1 else ""
                text = Text(side + f.severity, SEVERITIES.get(f.severity, ""))
                text.append(fitted(f" {f.rule}  {printable(f.where)}: {printable(f.message)}", width - len(side + f.severity)), "not bold")
                key = str(len(options))
                options.append(Option(text, key))
                at[key] = places.get(f.where)
        title = f"{len(options):,} finding{'s' * (len(options) != 1)}"
        title += "" if self.values_read else " by headers; a reads the weights for what only values show"

        def go(key: str | None) -> None:
            node = at.get(key or "")
            if node is not None:
                self.go_to(node)

        self.push_screen(Listed(title, options), go)

    def action_facts(self) -> None:
        width = max(20, self.size.width * 94 // 100 - 8)
        options = []
        for k, said in enumerate(self.facts):
            for key, value in said:
                side = f"{'AB'[k]} " if len(self.sides) > 1 else ""
                options.append(Option(Text(fitted(f"{side}{key:<13} {printable(value, 600)}", width))))
        self.push_screen(Listed("facts" if options else "facts: still looking", options))

    def action_leave(self) -> None:
        self.workers.cancel_all()
        self.exit()
