"""Writes the alert rules of docker/prometheus/rules as PrometheusRule objects for the operator: `make rules`.

The rules' text is taken over as it stands, comments and all, only further to the right: one source, two places.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "docker" / "prometheus" / "rules"
TARGET = ROOT / "k8s" / "components" / "monitoring" / "prometheus-rules.yaml"
HEAD = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
spec:
"""


def main() -> int:
    """Write the file anew."""
    TARGET.write_text(prometheus_rules(RULES), encoding="utf-8")
    return 0


def prometheus_rules(folder: Path) -> str:
    """Return an object for every file of rules, in the order of their names."""
    documents = [
        prometheus_rule(file.name.partition(".")[0], file.read_text(encoding="utf-8"))
        for file in sorted(folder.glob("*.yml"))
    ]
    return "# Written by `make rules` from docker/prometheus/rules: change it there.\n" + "---\n".join(documents)


def prometheus_rule(name: str, rules: str) -> str:
    """Return the object of one file, whose text starts with `groups:` after its comments."""
    return HEAD.format(name=name) + textwrap.indent(rules.removeprefix("---\n"), "  ").rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
