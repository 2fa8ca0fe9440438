"""Truth marked in annotation tools (COCO, Label Studio), as images and masks of a data folder. Needs [formats]."""
