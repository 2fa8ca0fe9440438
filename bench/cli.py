"""`glad bench`: the list of its commands. Each prints a table, and writes JSON with the machine and the date.

The wheel brings those of `bench.speed`, which measure a customer's own machine. The others measure the project, with
the models of its tests: only a checkout has them, and only there they are listed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import typer

from bench.speed import commands as speed
from bench.speed.finetune_command import finetune
from bench.speed.fullsize_command import fullsize
from bench.speed.image_commands import arrivals, batching, products, stages
from bench.speed.image_commands import speed as image_speed
from bench.speed.page_command import page
from bench.speed.pairs_command import pairs
from bench.speed.queue_command import queue

SPEED: tuple[Callable[..., None], ...] = (
    speed.engines,
    speed.serving,
    speed.export,
    stages,
    image_speed,
    arrivals,
    batching,
    products,
    speed.steps,
    queue,
    fullsize,
    pairs,
    finetune,
    speed.startup,
    page,
)


def of_a_checkout() -> tuple[Callable[..., None], ...]:
    """Return the commands about accuracy and endurance; none where the packages are those of the wheel."""
    if find_spec("bench.accuracy") is None:
        return ()
    from bench.accuracy import commands as accuracy
    from bench.accuracy.denoiser_commands import atp, lora
    from bench.accuracy.dino_command import dino
    from bench.accuracy.peers_command import peers
    from bench.accuracy.yardstick_command import evidence, readings, yardstick
    from bench.endurance import commands as endurance
    from bench.endurance.attacks_command import attacks

    return (
        accuracy.gate,
        accuracy.coverage,
        yardstick,
        evidence,
        readings,
        peers,
        dino,
        atp,
        lora,
        endurance.reliability,
        endurance.rolling,
        endurance.soak,
        endurance.calls,
        endurance.load,
        endurance.history,
        endurance.memory,
        endurance.hostile,
        attacks,
    )


app = typer.Typer(
    help="Measure engines, serving and full-size models on this machine; figures as a table and as JSON.\n\n"
    "Example: glad bench engines bracket",
    no_args_is_help=True,
    add_completion=False,
)
for command in (*SPEED, *of_a_checkout()):
    app.command()(command)
