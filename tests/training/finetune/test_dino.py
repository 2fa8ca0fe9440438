"""DINO's fine-tuning: good images and their reconstructions grow alike, by the named MLPs alone, chosen by held-out."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glad.settings.method import ScoreSettings
from model_store.backbones.loading import read_folder
from model_store.backbones.vit import VIT_KINDS, VitBackbone, blocks
from tests.support.tiny_vit import tiny_vit
from training.finetune.dino import TunedDino, feature_distance, finetune_dino, read_held_out
from training.finetune.reconstructions import RebuiltImages
from training.finetune.tuning_split import HeldOutImages
from training.pretrained_recipe import DinoFinetuneRecipe
from training.recipe import LoopRecipe
from training.training_run import TrainingRun

SIDE = 32
SCORE = ScoreSettings(layers=(1, 3))
RECIPE = DinoFinetuneRecipe(side=SIDE, blocks=(1, 3), epochs=3, batch=4, learning_rate=3e-3, anomalies=8)


def coarse(images: Tensor) -> Tensor:
    """Reconstructions that lose every detail below 8 pixels."""
    small = torch.nn.functional.avg_pool2d(images.float(), 8)
    return torch.nn.functional.interpolate(small, scale_factor=8).round().to(torch.uint8)


def good(count: int, seed: int) -> RebuiltImages:
    images = torch.randint(
        256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    nowhere = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    return RebuiltImages(images, coarse(images), ~nowhere, nowhere)


def anomalous(count: int, seed: int) -> RebuiltImages:
    """Good ones with a red square of one patch that does not come back."""
    clean = good(count, seed)
    images, mask = clean.images.clone(), clean.mask.clone()
    images[:, 0, 8:16, 8:16], images[:, 1:, 8:16, 8:16], mask[:, 8:16, 8:16] = 255, 0, True
    return RebuiltImages(images, clean.rebuilt, clean.valid, mask)


TRAINING = good(16, 0)
HELD_OUT = HeldOutImages(good(8, 1), anomalous(8, 2))


def network(kind: str = "vit") -> VitBackbone:
    return VitBackbone(tiny_vit(kind))


def changed(before: VitBackbone, after: VitBackbone) -> set[str]:
    kept = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, kept[name])}


def test_the_distance_is_summed_over_blocks_and_a_mean_over_images() -> None:
    here = torch.tensor([[1.0, 0.0], [1.0, 0.0]])[:, :, None, None]  # two images of one place and two channels
    there = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, :, None, None]  # 1 - cosine: 1 of the first, 0 of the second
    assert float(feature_distance([here, here], [there, here])) == pytest.approx((1 + 0) / 2)
    assert float(feature_distance([here, here], [there, there])) == pytest.approx((2 + 0) / 2)


@pytest.mark.parametrize("kind", VIT_KINDS)
def test_in_every_layout_good_images_held_out_grow_alike_by_the_named_mlps_alone(kind: str, tmp_path: Path) -> None:
    tuned = finetune_dino(network(kind), TRAINING, HELD_OUT, RECIPE, TrainingRun(tmp_path / "run"), score=SCORE, seed=0)
    measured = tuned.choice.measured
    assert measured[3]["good_distance"] < 0.9 * measured[0]["good_distance"]
    assert tuned.choice.chosen > 0
    names = changed(network(kind), tuned.backbone)
    assert names
    assert all(".mlp." in name and any(f".{block - 1}.mlp." in name for block in RECIPE.blocks) for name in names)
    tuned.backbone.stored.save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
    again = read_folder(tmp_path / "tuned")
    assert not changed(tuned.backbone, again)  # type: ignore[arg-type]


def test_what_does_not_help_is_not_kept(tmp_path: Path) -> None:
    ruinous = RECIPE.model_copy(update={"learning_rate": 30.0, "epochs": 1})
    tuned = finetune_dino(network(), TRAINING, HELD_OUT, ruinous, TrainingRun(tmp_path), score=SCORE, seed=0)
    assert tuned.choice.chosen == 0
    assert not changed(network(), tuned.backbone)
    assert "kept the published weights, of 2 measured" in tuned.choice.in_words()


def test_the_weight_of_the_frozen_network_holds_the_features_back(tmp_path: Path) -> None:
    def moved(weight: float) -> float:
        recipe = RECIPE.model_copy(update={"frozen_weight": weight, "epochs": 1})
        run = TrainingRun(tmp_path / str(weight))
        tuned = finetune_dino(network(), TRAINING, HELD_OUT, recipe, run, score=SCORE, seed=0)
        assert tuned.choice.chosen == 1
        images = HELD_OUT.good.images.float() / 127.5 - 1
        return float(feature_distance(tuned.backbone(images, (1, 3)), network()(images, (1, 3))))

    assert moved(10.0) < 0.5 * moved(0.0)


def test_checkpointed_gradients_and_parts_of_a_batch_end_in_the_same_weights(tmp_path: Path) -> None:
    def tune(training: LoopRecipe) -> VitBackbone:
        run = TrainingRun(tmp_path / str(training.accumulate))
        tuned = finetune_dino(
            network("dinov2"), TRAINING, HELD_OUT, RECIPE, run, score=SCORE, seed=0, training=training
        )
        assert tuned.choice.chosen > 0
        return tuned.backbone

    plain, thrifty = tune(LoopRecipe()), tune(LoopRecipe(gradient_checkpointing=True, accumulate=2))
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(thrifty.state_dict()[name], weight, rtol=0, atol=1e-4, msg=name)


def stopping(calls: int) -> VitBackbone:
    """The network, at whose so many-th call somebody presses Ctrl-C."""
    made = network()
    count = iter(range(calls))

    def hook(*_: object) -> None:
        if next(count, None) is None:
            signal.raise_signal(signal.SIGINT)

    blocks(made.module)[0].register_forward_hook(hook)
    return made


@pytest.mark.parametrize("calls", [20, 27])
def test_a_stopped_run_ends_in_the_weights_and_the_choice_of_an_unbroken_one(calls: int, tmp_path: Path) -> None:
    def tune(folder: Path, backbone: VitBackbone) -> TunedDino:
        return finetune_dino(backbone, TRAINING, HELD_OUT, RECIPE, TrainingRun(folder), score=SCORE, seed=0)

    unbroken = tune(tmp_path / "unbroken", network())
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "stopped", stopping(calls))
    resumed = tune(tmp_path / "stopped", network())
    assert not changed(unbroken.backbone, resumed.backbone)
    assert resumed.choice == unbroken.choice


def test_a_patch_of_padding_counts_for_nothing() -> None:
    padded = HELD_OUT.anomalous.valid.clone()
    padded[:, 8:16, 8:16] = False  # the patch that every anomaly lies in
    hidden = RebuiltImages(HELD_OUT.anomalous.images, HELD_OUT.anomalous.rebuilt, padded, HELD_OUT.anomalous.mask)
    with pytest.raises(ValueError, match="none of the 8 synthetic anomalies fills 15% of a patch of 8 px"):
        read_held_out(network(), HeldOutImages(HELD_OUT.good, hidden), (1, 3), SCORE)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"blocks": (1, 4)}, "this backbone has levels 1 ... 3"), ({"side": 36}, "set it to 32 or 40")],
)
def test_a_recipe_that_does_not_fit_the_network_is_refused(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        finetune_dino(
            network(), TRAINING, HELD_OUT, RECIPE.model_copy(update=change), TrainingRun(tmp_path), score=SCORE, seed=0
        )
