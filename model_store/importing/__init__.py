"""Published models become a bundle: Stable Diffusion 1.x, DINO, and the authors' fine-tuned checkpoints."""
