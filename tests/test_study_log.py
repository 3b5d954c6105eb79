"""The log of a study, written by many processes."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from automl.progress import StudyProgress
from automl.study_log import LOG, LogTail, log_line

WRITER = """
import sys
from pathlib import Path
from automl.study_log import log_line
for number in range(300):
    log_line(Path(sys.argv[1]), f"{sys.argv[2]} {number} " + "x" * 200)
"""


def test_lines_of_processes_side_by_side_stay_whole(tmp_path: Path) -> None:
    tail = LogTail(tmp_path)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name]) for name in ("a", "b")
    ]
    lines = []
    while any(writer.poll() is None for writer in writers):
        lines += tail.new_lines()
    lines += tail.new_lines()
    for name in ("a", "b"):
        own = [line for line in lines if line.startswith(f"{name} ")]
        assert own == [f"{name} {number} " + "x" * 200 for number in range(300)]
    assert len(lines) == 600


def test_what_is_logged_shows_once_whoever_logs_it(tmp_path: Path) -> None:
    log_line(tmp_path, "of another time")
    out = io.StringIO()
    with (
        StudyProgress({"one": 1}, Console(file=out, width=100), tmp_path) as progress,
        progress.stage("one") as share,
    ):
        log_line(tmp_path, "something\nhappened")
        share.update(1, 2)
        share.say("half is done")
    assert out.getvalue().count("something happened\n") == 1
    assert out.getvalue().count("1/1 one: half is done\n") == 1
    assert "of another time" not in out.getvalue()
    assert (tmp_path / LOG).read_text().count("\n") == 3
