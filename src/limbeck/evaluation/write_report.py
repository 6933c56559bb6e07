"""The files of a report: report.html, report.md and report.json."""

import json
from pathlib import Path

from limbeck.evaluation.html_report import html_report
from limbeck.evaluation.markdown_report import markdown_report
from limbeck.evaluation.report import Report
from limbeck.files import written_aside


def write_report(report: Report, folder: str | Path) -> None:
    """Write report.html, report.md and, last, report.json, whose presence says that the run is finished.

    Curves are taken from the folder's metrics.csv if there is one. Raises: UserError if a file cannot be written.
    """
    folder = Path(folder)
    texts = {
        "report.html": html_report(report, folder),
        "report.md": markdown_report(report, folder),
        "report.json": json.dumps(report.as_json(), indent=2, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        with written_aside(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")
