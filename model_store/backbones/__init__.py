"""Frozen, pretrained backbones: EfficientNet-Lite and vision transformers, from packages, folders, the hub and bundles.

Importing this package loads none of them.
"""
