"""Labelled clips, and long streams joined from them whose truth is known."""
