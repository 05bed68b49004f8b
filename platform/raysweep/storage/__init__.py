"""Files that are whole or not there, locks, checkpoints, and background threads that do not die unseen."""
