"""What a pretrained network gives without training: learnt from the good images, and its row beside a bundle's."""
