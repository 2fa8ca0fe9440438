"""`glad bench`: the list of its commands. Each prints a table, and writes JSON with the machine and the date."""

from __future__ import annotations

import typer

from bench.accuracy import commands as accuracy
from bench.accuracy.peers_command import peers
from bench.accuracy.yardstick_command import evidence, readings, yardstick
from bench.endurance import commands as endurance
from bench.speed import commands as speed
from bench.speed.fullsize_command import fullsize
from bench.speed.image_commands import arrivals, batching, products, stages
from bench.speed.image_commands import speed as image_speed
from bench.speed.queue_command import queue

app = typer.Typer(
    help="Measure engines, serving, load, endurance and full-size models; figures as a table and as JSON.\n\n"
    "Example: glad bench engines bracket",
    no_args_is_help=True,
    add_completion=False,
)
for command in (
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
    speed.startup,
    accuracy.gate,
    accuracy.coverage,
    yardstick,
    evidence,
    readings,
    peers,
    endurance.reliability,
    endurance.rolling,
    endurance.soak,
    endurance.calls,
    endurance.load,
    endurance.history,
    endurance.memory,
    endurance.hostile,
):
    app.command()(command)
