"""Checks that every relative link and anchor in the project's Markdown leads somewhere. Prints those that don't.

A link whose text is a name of code, such as `step()` or `Lane`, and whose target is a Python file, must find that name
defined there: documents that guide a reader through the code are no use with yesterday's names.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE_NAME = re.compile(r"`([A-Za-z_][\w.]*)(?:\(\))?`")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def main() -> int:
    """Check all tracked and new Markdown files; return 1 if a link is broken."""
    broken = [line for page in pages(ROOT) for line in broken_links(page)]
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


def pages(root: Path) -> list[Path]:
    """Return the Markdown files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return [root / name for name in sorted(set(names)) if (root / name).exists()]


def broken_links(page: Path) -> list[str]:
    """Return a line for each link of a page that leads nowhere; links with a scheme are not followed."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    lines = []
    for match in LINK.finditer(text):
        link = match.group(2) or match.group(3)
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = page if not place else page.parent / place
        if not target.exists():
            lines.append(f"{page.relative_to(ROOT)}: no such file: {link}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            lines.append(f"{page.relative_to(ROOT)}: no such heading: {link}")
        elif not defines(target, match["text"] or ""):
            lines.append(f"{page.relative_to(ROOT)}: {match['text']} is not defined in {link}")
    return lines


def defines(target: Path, text: str) -> bool:
    """Return whether a Python file defines the name that a link's text is; true where the text is no name."""
    name = CODE_NAME.fullmatch(text)
    if target.suffix != ".py" or name is None or name[1].endswith(".py"):
        return True
    last, source = name[1].rpartition(".")[2], target.read_text(encoding="utf-8")
    return bool(re.search(rf"^\s*(async def|def|class) {last}\b|^{last}\b.* = ", source, re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as code hosts do: lower case, no punctuation, hyphens for spaces."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in kept}


if __name__ == "__main__":
    sys.exit(main())
