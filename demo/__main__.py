"""`python -m demo`: see `make demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from demo.processes import DemoError, StoppedBySignal, stop_on_signals
from demo.run import DemoPlan, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 only if every image has a result."""
    defaults = {field.name: field.default for field in fields(DemoPlan)}
    parser = argparse.ArgumentParser(prog="python -m demo", description="Sample images through the real service.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="a new folder, or an earlier demo's")
    parser.add_argument("--product", default=defaults["product"])
    parser.add_argument("--seed", type=int, default=defaults["seed"], help="of the rendered images")
    parser.add_argument("--good", type=int, default=defaults["good"], help="images of good parts")
    parser.add_argument("--defects", type=int, default=defaults["defects"], help="images of each defect and severity")
    parser.add_argument(
        "--rate", type=float, default=defaults["rate"], help="images a second; default: what this machine keeps"
    )
    try:
        with stop_on_signals():
            run(DemoPlan(**vars(parser.parse_args(arguments))))
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except StoppedBySignal as stopped:
        print(f"\ndemo: stopped by {stopped}; nothing is left running", file=sys.stderr)
        return stopped.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
