"""The models of the first day: trained by the product's own commands beside the first cycle, then put to use.

A training needs what the first cycle has read, and nothing that it concludes from it: both go on at once.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from rich.progress import Progress, TaskID
from sqlalchemy import Engine, func, select

from src.db.tables import ml_models, processing_jobs, recommendations
from src.processing.jobs import records as jobs
from src.processing.modelling import registry
from src.quickstart.loading import Cycle
from src.quickstart.services import running
from src.settings import Settings

# Of two years of ten districts a fifth: the first forecast is there in minutes, and a Sunday's training learns from
# all.
_EXAMPLES = "80000"
_COMMAND = "src.processing.models"


def process_and_train(
    progress: Progress, database: Engine, environment: dict[str, str], folder: Path, with_models: bool
) -> None:
    """Takes in what is new; where there is no model yet and models are wanted, trains them, relates leakage to pressure
    and forecasts at once. What becomes of each stands in the register of models and in the jobs' rows.

    Args:
        environment: settings by name.
        folder: where logs go.

    Raises:
        Trouble: where a cycle fails. A training that fails stops nothing.
    """
    _give_up_interrupted(database, environment)
    with ExitStack() as started:
        cycle = Cycle(progress, database, environment, folder)
        cycle.start(started)
        training: _Training | None = None
        while not cycle.is_over():
            if with_models and training is None and cycle.has_read and _is_untaught(database):
                training = _Training(progress, database, environment, folder, started)
            if training is not None:
                training.is_over()
            time.sleep(0.2)
        if with_models and training is None and _is_untaught(database):
            training = _Training(progress, database, environment, folder, started)
        if with_models and _has_nothing_recommended(database):
            _recommend(progress, environment, folder)
        while training is not None and not training.is_over():
            time.sleep(0.2)


class _Training:
    """The training of every pool, as a process beside all others, with its progress shown."""

    def __init__(
        self, progress: Progress, database: Engine, environment: dict[str, str], folder: Path, started: ExitStack
    ) -> None:
        self._progress, self._database = progress, database
        self._bar: TaskID = progress.add_task("Training forecasts", total=None)
        arguments = ("train", "--by", "quickstart")
        self._is_over = False
        self._log = folder / "training.log"
        # Whoever looks at the dashboard does not wait for it.
        quick = environment | {"training_examples": _EXAMPLES}
        starting = running(_COMMAND, quick, self._log, *arguments, niceness=5)
        self._command: subprocess.Popen[bytes] = started.enter_context(starting)

    def is_over(self) -> bool:
        """Whether it has ended; shows how far it is."""
        if (code := self._command.poll()) is not None:
            if not self._is_over:
                self._is_over = True
                self._progress.update(self._bar, total=100, completed=100)
                _print_failure(self._progress, code, self._log)
            return True
        query = select(processing_jobs.c.progress_percentage)
        query = query.where(processing_jobs.c.job_type == jobs.TRAINING, processing_jobs.c.status == "running")
        with self._database.connect() as connection:
            done = connection.scalar(query)
        # Until the first of it is done, nobody knows how long it takes.
        if done:
            self._progress.update(self._bar, total=100, completed=done)
        return False


def _recommend(progress: Progress, environment: dict[str, str], folder: Path) -> None:
    """Relates leakage to pressure in every district, and recommends set-points where that is known."""
    bar = progress.add_task("Relating leakage to pressure", total=None)
    log = folder / "training.log"
    with running(_COMMAND, environment, log, "recommend", "--by", "quickstart") as command:
        code = command.wait()
    progress.update(bar, total=1, completed=1)
    _print_failure(progress, code, log)


def _print_failure(progress: Progress, code: int, log: Path) -> None:
    if code:
        progress.console.print(f"Not everything could be learned: {log} says why.", highlight=False, soft_wrap=True)


def _give_up_interrupted(database: Engine, environment: dict[str, str]) -> None:
    """Ends a training that an earlier start was stopped in: nobody else works on these data, and it would be waited
    for."""
    if (job_id := jobs.another_running(database, jobs.TRAINING)) is not None:
        now = Settings(**environment).running_clock.now()  # type: ignore[arg-type]
        jobs.fail(database, job_id, now, "the start that trained it was stopped")


def _is_untaught(database: Engine) -> bool:
    of_flow = ml_models.c.model_type == registry.FLOW
    with database.connect() as connection:
        return not connection.scalar(select(func.count()).select_from(ml_models).where(of_flow))


def _has_nothing_recommended(database: Engine) -> bool:
    with database.connect() as connection:
        return not connection.scalar(select(func.count()).select_from(recommendations))
