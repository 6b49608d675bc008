"""Cheap features a policy may see before it decides; each module states its cost."""
