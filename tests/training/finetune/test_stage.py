"""Training loops: interrupted and resumed, they end with the very weights of an unbroken one; whatever the device is
asked for, they learn the same.
"""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from tests.support.toy_training import BATCH, STEPS, ToyTraining, ctrl_c
from training.finetune import curves as curves_module
from training.finetune import stage as stage_module
from training.finetune.curves import read_curve
from training.finetune.stage import Stage, learning_rate_at
from training.finetune.unet import new_unet
from training.recipe import LoopRecipe, UnetRecipe
from training.training_run import StageError, TrainingRun, read_records

Weights = dict[str, Tensor]
EACH_STEP = LoopRecipe(checkpoint_every_s=0)


def same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def losses(folder: Path) -> list[float]:
    return [row[1] for row in read_curve(folder / "curves/toy.csv")]


@pytest.fixture(scope="module")
def unbroken_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, ToyTraining(folder).run()


@pytest.fixture
def unbroken(unbroken_run: tuple[Path, Weights]) -> Weights:
    return unbroken_run[1]


@pytest.mark.parametrize("at", [0, 5, STEPS - 1])
def test_ctrl_c_ends_after_the_step_under_way_and_the_next_run_takes_the_others(
    tmp_path: Path, unbroken: Weights, at: int
) -> None:
    first = ToyTraining(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run(at, ctrl_c)
    second = ToyTraining(tmp_path)
    assert same(second.run(), unbroken)
    assert first.taken + second.taken == list(range(STEPS))


def test_a_cluster_that_wants_its_machine_back_is_heard_as_ctrl_c(tmp_path: Path, unbroken: Weights) -> None:
    first = ToyTraining(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run(5, lambda: signal.raise_signal(signal.SIGTERM))
    assert first.taken == [0, 1, 2, 3, 4, 5]
    assert same(ToyTraining(tmp_path).run(), unbroken)


def test_a_second_ctrl_c_ends_at_once_and_the_last_checkpoint_stands(tmp_path: Path, unbroken: Weights) -> None:
    def twice() -> None:
        ctrl_c()
        ctrl_c()

    first = ToyTraining(tmp_path, EACH_STEP)
    with pytest.raises(KeyboardInterrupt):
        first.run(6, twice)
    assert first.taken == [0, 1, 2, 3, 4, 5]
    second = ToyTraining(tmp_path)
    assert same(second.run(), unbroken)
    assert second.taken == list(range(6, STEPS))


def test_a_step_that_fails_is_taken_again_from_the_last_checkpoint(tmp_path: Path, unbroken: Weights) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        ToyTraining(tmp_path, EACH_STEP).run(6, fail)
    assert same(ToyTraining(tmp_path).run(), unbroken)


def test_ctrl_c_means_what_it_meant_before_once_a_loop_has_ended(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ToyTraining(tmp_path / "whole").run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        ToyTraining(tmp_path / "broken").run(3, ctrl_c)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_loop_runs_outside_the_main_thread_too(tmp_path: Path, unbroken: Weights) -> None:
    found: list[Weights] = []
    thread = Thread(target=lambda: found.append(ToyTraining(tmp_path).run()))
    thread.start()
    thread.join()
    assert same(found[0], unbroken)


def test_a_finished_loop_takes_no_step_again(tmp_path: Path, unbroken: Weights) -> None:
    ToyTraining(tmp_path).run()
    again = ToyTraining(tmp_path)
    assert same(again.run(), unbroken)
    assert again.taken == []


def test_a_resumed_curve_is_that_of_an_unbroken_run_without_a_step_twice(
    tmp_path: Path, unbroken_run: tuple[Path, Weights]
) -> None:
    def fail() -> None:
        raise RuntimeError

    for at in (3, 7):  # the last checkpoint is that of the beginning, and the steps since then are in the table
        with pytest.raises(RuntimeError):
            ToyTraining(tmp_path).run(at, fail)
    path = tmp_path / "curves/toy.csv"
    path.write_text(path.read_text() + "7,0.1")  # a line that the power cut off
    ToyTraining(tmp_path).run()
    assert [row[0] for row in read_curve(path)] == list(range(STEPS))
    assert losses(tmp_path) == losses(unbroken_run[0])
    assert path.read_text().startswith("step,loss,learning_rate,images_per_s,memory_bytes\n")


def test_a_run_knows_how_long_a_stage_took_and_how_often_it_was_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ToyTraining(tmp_path).run(4, ctrl_c)
    before = read_records(tmp_path)["toy"]
    assert (before.finished, before.resumed) == (False, 0)
    ToyTraining(tmp_path).run()
    after = read_records(tmp_path)["toy"]
    assert (after.finished, after.resumed, after.begun) == (True, 1, before.begun)
    assert after.seconds > before.seconds > 0
    assert after.peak_memory_bytes > 2**20


def test_a_measurement_between_two_steps_counts_for_no_steps_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(stage_module, "time", clock)
    monkeypatch.setattr(curves_module, "time", clock)
    toy = ToyTraining(tmp_path, steps=3)

    def passes() -> None:
        nonlocal now
        with toy.stage.untimed():
            now += 1000
        now += 2

    toy.run(1, passes)
    assert read_curve(tmp_path / "curves/toy.csv")[1][3] == BATCH / 2  # images in the two seconds of learning


def test_scalars_lie_where_tensorboard_finds_them(unbroken_run: tuple[Path, Weights]) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loading.EventAccumulator(str(unbroken_run[0] / "tensorboard/toy")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(STEPS))
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses(unbroken_run[0]))


def test_a_steps_draws_depend_on_seed_stage_and_step_alone(tmp_path: Path) -> None:
    def draw(name: str, seed: int, step: int) -> float:
        return float(Stage(TrainingRun(tmp_path), name, STEPS, seed=seed).rng(step).random())

    assert draw("one", 0, 3) == draw("one", 0, 3)
    assert len({draw("one", 0, 3), draw("one", 0, 4), draw("one", 1, 3), draw("two", 0, 3)}) == 4


def test_what_draws_without_a_generator_draws_the_same_after_a_stop(tmp_path: Path) -> None:
    def train(folder: Path, stop_at: int = -1) -> list[float]:
        drawn: list[float] = []
        stage = Stage(TrainingRun(folder), "toy", 4, seed=1)
        network = stage.prepare(nn.Linear(2, 2), learning_rate=0.1)
        for step in stage:
            dropped = nn.functional.dropout(torch.ones(64))
            drawn.append(float(dropped.mean()))
            stage.backward(network(torch.ones(1, 2)).square().mean())
            if step == stop_at:
                ctrl_c()
            stage.update(step)
        return drawn

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop_at=1)
    torch.manual_seed(99)
    assert train(tmp_path / "broken") == whole[2:]
    assert len(set(whole)) > 1


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_fiftieth_of_it() -> None:
    rates = [learning_rate_at(step, 1000, peak=1.0) for step in range(1000)]
    top = max(range(1000), key=rates.__getitem__)
    assert rates[0] == pytest.approx(0.01)  # a hundredth of the peak in the first of 100 warm-up steps
    assert 90 <= top <= 110
    assert 0.95 < rates[top] <= 1.0
    assert rates[-1] == pytest.approx(0.02, abs=1e-4)
    assert learning_rate_at(999, 1000, peak=0.5, course="constant") == 0.5


@pytest.mark.parametrize("parts", [2, 3, BATCH])
def test_a_batch_in_parts_of_whatever_size_is_learnt_as_one(
    tmp_path: Path, unbroken_run: tuple[Path, Weights], parts: int
) -> None:
    weights = ToyTraining(tmp_path, LoopRecipe(accumulate=parts)).run()
    assert losses(tmp_path) == pytest.approx(losses(unbroken_run[0]), rel=1e-5)  # sums in another order
    for name, weight in unbroken_run[1].items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_a_batch_of_fewer_samples_than_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"the batch of stage toy is 8; 1 x training\.accumulate 9 parts need at least 9"
    ):
        ToyTraining(tmp_path, LoopRecipe(accumulate=9)).run()


def test_half_precision_learns_about_the_same_and_leaves_a_plain_model(
    tmp_path: Path, unbroken_run: tuple[Path, Weights]
) -> None:
    toy = ToyTraining(tmp_path, LoopRecipe(precision="bf16"))
    seen: list[torch.dtype] = []
    toy.model[0].register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    weights = toy.run()
    assert set(seen) == {torch.bfloat16}
    assert losses(tmp_path) == pytest.approx(losses(unbroken_run[0]), rel=0.02)  # bfloat16 has 8 bits
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert toy.model(torch.zeros(1, 3)).dtype == torch.float32
    assert seen[-1] == torch.float32
    assert ToyTraining(tmp_path / "after", LoopRecipe()).run().keys() == weights.keys()  # another precision after it


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_precision_that_the_device_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r'"fp16", which needs a GPU: choose "bf16" or "no"'):
        ToyTraining(tmp_path, LoopRecipe(precision="fp16"))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_an_optimizer_that_is_not_installed_is_refused_by_its_package(tmp_path: Path) -> None:
    with pytest.raises(StageError, match='bitsandbytes is not installed: pip install bitsandbytes, or choose "adamw"'):
        ToyTraining(tmp_path, LoopRecipe(optimizer="adamw8bit"))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the package bitsandbytes")
def test_the_optimizer_of_8_bits_resumes_to_the_same_weights(tmp_path: Path) -> None:
    loop, wide = LoopRecipe(optimizer="adamw8bit"), 2048  # smaller weights keep a memory of 32 bits
    whole = ToyTraining(tmp_path / "whole", loop, width=wide).run()
    with pytest.raises(KeyboardInterrupt):
        ToyTraining(tmp_path / "broken", loop, width=wide).run(5, ctrl_c)
    assert same(ToyTraining(tmp_path / "broken", loop, width=wide).run(), whole)


def test_a_run_does_not_go_on_with_another_optimizer(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ToyTraining(tmp_path).run(2, ctrl_c)
    state = next((tmp_path / "stages/toy").iterdir()) / "state.json"
    state.write_text(state.read_text().replace('"optimizer": "adamw"', '"optimizer": "adamw8bit"'))
    with pytest.raises(StageError, match=r"begun with training\.optimizer 'adamw8bit', the recipe has 'adamw'"):
        ToyTraining(tmp_path)


def test_a_training_that_runs_away_leaves_no_checkpoint_of_it(tmp_path: Path) -> None:
    toy = ToyTraining(tmp_path, EACH_STEP)

    def break_weights() -> None:
        with torch.no_grad():
            next(toy.model.parameters()).fill_(float("nan"))

    with pytest.raises(StageError, match=r"stage toy: weights are not finite after step 4; .* lower learning_rate"):
        toy.run(4, break_weights)
    seldom = ToyTraining(tmp_path, LoopRecipe())
    assert seldom.stage.position == 4
    toy = seldom
    with pytest.raises(StageError, match="stage toy: loss is nan at step 6"):
        seldom.run(5, break_weights)
    assert ToyTraining(tmp_path).stage.position == 4


def _unet(gradient_checkpointing: bool, folder: Path) -> Weights:
    torch.manual_seed(0)
    recipe = UnetRecipe(widths=(16, 16), steps=2, batch=2, learning_rate=1e-3)
    model = new_unet(recipe, 4, 8)
    loop = LoopRecipe(gradient_checkpointing=gradient_checkpointing)
    stage = Stage(TrainingRun(folder), "unet", recipe.steps, seed=0, loop=loop)
    network: Callable[..., UNet2DModel] = stage.prepare(model, learning_rate=1e-3)
    for step in stage:
        given = torch.randn(2, 4, 8, 8, generator=stage.generator(step))
        stage.backward((network(given, torch.tensor([3, 500])).sample - given).square().mean())
        stage.update(step)
    return dict(stage.finish(model).state_dict())


def test_activations_that_are_computed_again_change_no_weight(tmp_path: Path) -> None:
    assert same(_unet(True, tmp_path / "again"), _unet(False, tmp_path / "kept"))


def test_a_model_that_cannot_compute_its_activations_again_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="gradient_checkpointing is true; Sequential cannot do that: set it to false"):
        ToyTraining(tmp_path, LoopRecipe(gradient_checkpointing=True))
