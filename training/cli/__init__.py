"""The offline commands: `glad train`, `calibrate`, `gate`, `evaluate`, `export` and more."""
