"""Backup and restore of one installation: see docs/backup.md."""
