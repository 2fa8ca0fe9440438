"""Folders of images in the layouts of the field: reading, splitting, grouping."""
