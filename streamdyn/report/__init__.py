"""A report on an index, as one HTML page."""

from streamdyn.report.page import write_report

__all__ = ["write_report"]
