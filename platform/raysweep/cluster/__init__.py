"""Launching Ray clusters, and studies as their jobs."""
