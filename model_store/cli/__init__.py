"""The commands that work on bundles and stores: `glad bundle`, `glad inspect`."""
