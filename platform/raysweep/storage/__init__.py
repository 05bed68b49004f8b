"""Atomic file writes, locks, checkpoints, and background threads that do not die silently."""
