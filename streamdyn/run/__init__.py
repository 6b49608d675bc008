"""Runners: who drives sessions, and where."""
