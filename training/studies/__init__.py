"""Studies over several bundles or settings: ablation, reproduction of published results, retraining."""
