"""Tables to one HTML page."""

from curate.report.build import build_report, rebuild_report

__all__ = ["build_report", "rebuild_report"]
