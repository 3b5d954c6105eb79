"""Which of Tune's waiting trials comes next."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler


class NewestFirst(FIFOScheduler):
    """Starts the newest of the trials that wait, where actors are used again.

    Tune gives an actor that is free to the trial that is chosen, and ends the process that was
    starting for it. The oldest one waits because its process is starting: with Tune's own order, a
    process that takes longer to start than an evaluation takes never gets there, and an evaluator
    that was lost is not replaced.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The newest trial that waits; None where none does."""
        trials = reversed(tune_controller.get_trials())
        return next((trial for trial in trials if trial.status == Trial.PENDING), None)
