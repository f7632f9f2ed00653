"""Runs axe-core over pages in headless Chromium, in the light and in the dark: what it finds of serious and critical impact is printed.

    npm install axe-core && python scripts/axe.py node_modules/axe-core/axe.min.js page.html ...

Exit status 1 if there is any. Needs Chromium; axe-core is a tool of whoever runs this, and no part of the project.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chromium import Page, browser


def main() -> int:
    axe, bad = Path(sys.argv[1]).read_text(encoding="utf-8"), 0
    for path in sys.argv[2:]:
        for dark in (False, True):
            with Page(browser(), dark=dark) as page:
                page.open(path)
                page.run(axe + "; 1")
                found = page.run("axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.help, v.nodes.map((n) => n.html)]))")
            for impact, rule, words, nodes in found:
                print(f"{path}{' (dark)' if dark else ''}: {impact}: {rule}: {words}: {len(nodes)}, {nodes[0][:160]}")
                bad += impact in ("serious", "critical")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
