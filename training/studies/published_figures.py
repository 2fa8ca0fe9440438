"""What the paper reports of GLAD: I-AUROC and P-AUROC in percent, of each class and of each part of the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from training.studies.ablation import FULL

Percents: TypeAlias = tuple[float, float]
"""I-AUROC and P-AUROC."""

FIXED = ("fixed 350/750 of T", "fixed 550/750 of T", "fixed T")
COMPONENTS: Mapping[str, Percents] = {
    "baseline": (98.3, 98.0),
    "baseline + ADS": (99.0, 98.5),
    "baseline + ATP": (98.7, 98.5),
    "ADS + ATP without SAFF": (99.2, 98.3),
    FULL: (99.3, 98.6),
    FIXED[0]: (98.8, 97.6),
    FIXED[1]: (98.8, 98.1),
    FIXED[2]: (98.7, 98.5),
}
"""Tables 6 and 7 (350, 550 and 750 steps of T = 750): averages over MVTec-AD's 15 classes."""

CLASSES: Mapping[str, Mapping[str, Percents]] = {
    "mvtec-ad": {
        "carpet": (99.0, 98.5),
        "grid": (100.0, 99.6),
        "leather": (100.0, 99.8),
        "tile": (100.0, 98.7),
        "wood": (99.4, 98.4),
        "bottle": (100.0, 98.9),
        "cable": (99.9, 98.1),
        "capsule": (99.5, 98.5),
        "hazelnut": (100.0, 99.5),
        "metal_nut": (100.0, 98.8),
        "pill": (98.1, 97.9),
        "screw": (96.9, 99.1),
        "toothbrush": (100.0, 99.4),
        "transistor": (98.3, 96.2),
        "zipper": (98.5, 97.9),
    },
    "mpdd": {
        "bracket_black": (98.0, 99.4),
        "bracket_brown": (90.7, 97.5),
        "bracket_white": (98.3, 99.7),
        "connector": (100.0, 98.2),
        "metal_plate": (99.9, 99.4),
        "tubes": (98.1, 97.8),
    },
    "visa": {
        "candle": (99.9, 94.8),
        "capsules": (99.1, 99.6),
        "cashew": (98.4, 97.0),
        "chewinggum": (99.6, 99.1),
        "fryum": (99.4, 96.9),
        "macaroni1": (99.9, 99.8),
        "macaroni2": (98.9, 99.8),
        "pcb1": (99.6, 99.6),
        "pcb2": (100.0, 98.6),
        "pcb3": (99.9, 98.9),
        "pcb4": (99.9, 99.5),
        "pipe_fryum": (98.9, 99.4),
    },
    "pcb-bank": {
        "pcb1": (99.6, 99.6),
        "pcb2": (100.0, 98.6),
        "pcb3": (99.9, 98.9),
        "pcb4": (99.9, 99.5),
        "pcb5": (99.6, 99.1),
        "pcb6": (92.2, 99.7),
        "pcb7": (99.6, 99.8),
    },
}
"""Tables 1 to 4, the column of GLAD: one model a class, 512 × 512."""
