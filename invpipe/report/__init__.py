"""Report: charts, tables for people and the static page of one run."""

from invpipe.report.html import Report, render_report, write_report
from invpipe.report.images import png_markdown, svg
from invpipe.report.tables import ablation_table, fold_table, markdown, order_lines_table, text

__all__ = [
    "Report",
    "ablation_table",
    "fold_table",
    "markdown",
    "order_lines_table",
    "png_markdown",
    "render_report",
    "svg",
    "text",
    "write_report",
]
