"""Makes docs/pictures/browse.svg: `ckptkit browse` of the damaged BERT of scripts/report_pictures.py, driven by Textual's pilot.

    python scripts/browse_picture.py [FILE]
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

from report_pictures import damaged, saved  # noqa: E402

from ckptkit.browse.app import Browser, side_of  # noqa: E402
from ckptkit.browse.tree import find, names_of  # noqa: E402
from ckptkit.graph.examine import examine  # noqa: E402

SHOWN = "layers.7 value.weight"


async def drawn(path: Path) -> str:
    with examine(path) as subject:
        app = Browser([side_of("bert-damaged/", subject)], jobs=1)
        async with app.run_test(size=(110, 32)) as pilot:
            app.go_to(find(names_of(app.root), SHOWN, 1)[0])
            for _ in range(100):
                await pilot.pause(0.05)
                if all(app.facts) and not app.doing and app.chosen.node.rows:
                    break
            await pilot.pause(0.5)
            return app.export_screenshot(title="ckptkit browse bert-damaged/")


def main(target: str = "") -> None:
    with tempfile.TemporaryDirectory() as work:
        path = saved(Path(work) / "bert", damaged())
        svg = asyncio.run(drawn(path))
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)  # nothing is fetched
    svg = svg.replace("Fira Code,monospace", "monospace").replace("Fira Code", "monospace")
    (Path(target) if target else ROOT / "docs" / "pictures" / "browse.svg").write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
