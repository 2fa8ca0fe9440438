"""The algorithm of the paper once more: one image, one plain loop, float64, nothing shared with the product but the
models.

Written from the paper's equations (and the forms in which its authors ran them), to check the lane code against. It is
slow and keeps everything in sight on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glad.models import PixelModels
from glad.settings.method import Direction, MaskForm, MethodSettings, Renoise, StartLevel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Walked:
    latent: Array
    trigger: tuple[int, str] | None
    comparisons: int
    unet_evaluations: int


def walk(
    image: Array, noise: Array, models: PixelModels, settings: MethodSettings, valid: NDArray[np.bool_] | None = None
) -> Walked:
    """image: (3, H, W); noise: (C, h, w); valid: (h, w) on the latent's grid, which must then be the patch grid."""
    alpha_bar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    T, N = settings.start, settings.steps
    z = numpy(models.autoencoder.encode(tensor(image)))
    start = {StartLevel.T: T, StartLevel.T_MINUS_1: T - 1, StartLevel.FIRST_STEP: 1 + (N - 1) * (T // N)}
    a = alpha_bar[start[settings.start_level]]
    x_hat = np.sqrt(a) * z + np.sqrt(1 - a) * noise
    trigger, comparisons, evaluations = None, 0, 0
    for i in range(N - 1, -1, -1):
        t = 1 + i * (T // N)
        a = alpha_bar[t]
        e, used = predicted(x_hat, t, models, settings.guidance)
        evaluations += used
        x_hat_0 = (x_hat - np.sqrt(1 - a) * e) / np.sqrt(a)
        x_0, carrier = x_hat_0, e
        if trigger is None and settings.trigger.delta > 0:
            x_t = np.sqrt(a) * z + np.sqrt(1 - a) * noise
            x_t_0 = (x_t - np.sqrt(1 - a) * e) / np.sqrt(a)
            M, score = compared(x_t_0, x_hat_0, models, settings, valid)
            comparisons += 1
            if score > settings.trigger.delta:
                trigger = (t, "score")
                if settings.fusion.enabled:
                    shifted = (M - settings.trigger.delta) / settings.fusion.tau
                    m = 1 / (1 + np.exp(-(shifted if settings.fusion.mask is MaskForm.CENTRED else M)))
                    x_0 = m * x_hat_0 + (1 - m) * x_t_0
                    carrier = noise if settings.fusion.renoise is Renoise.ORIGINAL else e
                else:
                    x_0 = x_t_0
            elif t < settings.t_min:
                trigger = (t, "t_min")
                x_0 = x_t_0
        next_a = alpha_bar[t - T // N] if i > 0 else alpha_bar[0]
        x_hat = np.sqrt(next_a) * x_0 + np.sqrt(1 - next_a) * carrier
    return Walked(x_hat, trigger, comparisons, evaluations)


def predicted(x_hat: Array, t: int, models: PixelModels, w: float) -> tuple[Array, int]:
    """The noise prediction, guided by w if the models are told a condition; and how many evaluations it took."""
    if models.condition is None:
        return numpy(models.denoiser(tensor(x_hat), torch.tensor([t]))), 1
    e_c = numpy(models.denoiser(tensor(x_hat), torch.tensor([t]), models.condition.product[None]))
    if w == 1:
        return e_c, 1
    e_0 = numpy(models.denoiser(tensor(x_hat), torch.tensor([t]), models.condition.empty[None]))
    return e_0 + w * (e_c - e_0), 2


def compared(
    direct: Array, generated: Array, models: PixelModels, settings: MethodSettings, valid: NDArray[np.bool_] | None
) -> tuple[Array, float]:
    """The trigger's map on the latent's grid, and the mean of its largest patches."""
    layer = settings.trigger.layer or settings.score.layers[-1]
    ours, theirs = (
        numpy(models.features(models.autoencoder.decode(tensor(latent)), (layer,))[0]) for latent in (direct, generated)
    )
    shown = np.ones(ours.shape[:2], dtype=bool) if valid is None else valid
    forward = nearest(ours, theirs, settings.trigger.window, shown)
    backward = nearest(theirs, ours, settings.trigger.window, shown)
    weights = {Direction.INPUT: (1, 0), Direction.SUM: (1, 1), Direction.MEAN: (0.5, 0.5)}
    w, v = weights[settings.trigger.direction]
    M = w * forward + v * backward
    patches = np.sort(M[shown])[::-1]
    count = min(len(patches), max(settings.trigger.least_top, round(len(patches) * 10 / 4096)))
    return enlarged(M, direct.shape[1:]), float(patches[:count].mean())


def nearest(ours: Array, theirs: Array, window: int | None, shown: NDArray[np.bool_]) -> Array:
    """For every shown patch the least 1 - cosine among the shown patches of `theirs` within the window; else 0."""
    height, width = shown.shape
    ours = ours / np.linalg.norm(ours, axis=-1, keepdims=True)
    theirs = theirs / np.linalg.norm(theirs, axis=-1, keepdims=True)
    found = np.zeros(shown.shape)
    reach = max(height, width) if window is None else window
    for i in range(height):
        for j in range(width):
            if shown[i, j]:
                rows = slice(max(0, i - reach), i + reach + 1)
                columns = slice(max(0, j - reach), j + reach + 1)
                distances = 1 - theirs[rows, columns] @ ours[i, j]
                found[i, j] = max(0.0, distances[shown[rows, columns]].min())
    return found


def enlarged(values: Array, size: tuple[int, ...]) -> Array:
    """Bilinear with aligned corners, element by element."""
    if values.shape == tuple(size):
        return values
    result = np.zeros(size)
    for i, y in enumerate(np.linspace(0, values.shape[0] - 1, size[0])):
        for j, x in enumerate(np.linspace(0, values.shape[1] - 1, size[1])):
            top, left = min(int(y), values.shape[0] - 2), min(int(x), values.shape[1] - 2)
            v, u = y - top, x - left
            result[i, j] = (1 - v) * ((1 - u) * values[top, left] + u * values[top, left + 1]) + v * (
                (1 - u) * values[top + 1, left] + u * values[top + 1, left + 1]
            )
    return result


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array)[None]


def numpy(batch: torch.Tensor) -> Array:
    return batch[0].double().numpy()
