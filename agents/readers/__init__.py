"""Readers of token streams, one file each: a network, its training path and its executed loop."""
