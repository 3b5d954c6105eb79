import io

from rich.console import Console

from automl.progress import StudyProgress


def test_where_nobody_looks_at_a_terminal_stages_are_lines() -> None:
    out = io.StringIO()
    with StudyProgress({"one": 1, "two": 3}, Console(file=out, width=100)) as progress:
        progress.skip("one")
        with progress.stage("two") as stage:
            stage.update(1, 2, "half")
    lines = out.getvalue().splitlines()
    assert lines[0] == "1/2 one: done before"
    assert lines[1].startswith("2/2 two")
    assert lines[-1].startswith("2/2 two: done in")


def test_the_share_of_the_study_follows_the_weights() -> None:
    progress = StudyProgress({"one": 1, "two": 3}, Console(file=io.StringIO()))
    with progress.stage("one"):
        pass
    with progress.stage("two") as stage:
        stage.update(1, 3)
        assert progress.share == 0.5


def test_going_back_within_a_stage_counts_nothing_twice() -> None:
    progress = StudyProgress({"one": 1}, Console(file=io.StringIO()))
    with progress.stage("one") as stage:
        stage.update(3, 4)
        stage.update(1, 4)
        stage.update(4, 4)
    assert progress.share == 1.0


def test_what_is_said_stands_under_its_stage() -> None:
    out = io.StringIO()
    with (
        StudyProgress({"one": 1}, Console(file=out, width=100)) as progress,
        progress.stage("one") as stage,
    ):
        stage.say("two at a time")
    assert "1/1 one: two at a time" in out.getvalue().splitlines()
