"""Prints what the distribution and some of its extras require, a line each: `pip install -r` without the project.

    python scripts/requirements.py            the base: the API
    python scripts/requirements.py gpu        the base and [gpu], with the extras that [gpu] includes

Standard library only. Images install these before the project's own code, in a layer that a change of it leaves alone.
The client is left out: it is built of the same checkout, and the base names all that it requires.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
CLIENT = "glad-inspect-client"


def main(extras: Sequence[str]) -> int:
    """Print the lines; return 1 if there is no such extra."""
    try:
        lines = requirements(extras)
    except KeyError as error:
        print(f"pyproject.toml has no extra {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def requirements(extras: Sequence[str]) -> list[str]:
    """Return the base's requirements and those of the extras, each once.

    Raises:
        KeyError: for an unknown extra.
    """
    project: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found = [line for line in project["dependencies"] if not line.startswith(CLIENT)]
    for extra in extras:
        found += _lines(project, extra)
    return list(dict.fromkeys(found))


def _lines(project: dict[str, Any], extra: str) -> Iterator[str]:
    own = re.compile(rf"{re.escape(project['name'])}\[([a-z,]+)\]")
    for line in project["optional-dependencies"][extra]:
        included = own.fullmatch(line)
        if included is None:
            yield line
        else:
            for other in included[1].split(","):
                yield from _lines(project, other)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
