"""Cells, gates and their compiled loops: what the learned agents are made of."""
