"""From an image of any shape to model squares and back: placement, tiling, stitching, rendering."""
