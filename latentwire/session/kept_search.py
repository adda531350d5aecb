"""What is searched once on questions that are never scored, and kept as a hashed artifact."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from latentwire.errors import LatentWireError
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.session import Session
from latentwire.tasks.dataset import Dataset
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.dataset_inputs import TRAINING, log_question_sets
from latentwire.tracking.leases import run_exclusively


@dataclass(frozen=True)
class KeptSearch:
    """A search by name: its run is `NAME_search`, its artifact `file`."""

    name: str
    file: str
    tag: str  # sha256 of the artifact, on the run that searched; `tag`_of: of what was searched on

    def finished(self, session: Session, request: str) -> str | None:
        """The artifact of a run that has finished this search, whole as its hash says."""
        wanted = f"tags.`{self.tag}` != '' and attributes.status = 'FINISHED'"
        for run in session.store.search(wanted, tags={f"{self.tag}_of": request}):
            try:
                with local_artifact(session.store, run, self.file) as path:
                    data = path.read_bytes()
            except Exception:  # every artifact store has failures of its own: searched anew
                continue
            if hashlib.sha256(data).hexdigest() == run.data.tags[self.tag]:
                return data.decode()
        return None

    def searched_once(
        self, session: Session, request: str, sets: list[Dataset], search: Callable[[], str]
    ) -> str:
        """What `search` gives on question sets, by whichever process is first. LatentWireError
        where it cannot be read back."""
        session.prepare_work()
        with session_run(session, f"{self.name}_search") as run:
            for _ in run_exclusively(
                run.leases,
                [request],
                lambda each: f"{self.file}:{each}",
                lambda each: self.finished(session, each),
                lambda each: self._keep(session, run, each, sets, search),
                to_the_runs_end=True,  # others find it once the run is FINISHED
            ):
                pass
        text = self.finished(session, request)
        if text is None:
            raise LatentWireError(f"{self.file}, just searched, cannot be read from the store")
        return text

    def _keep(
        self,
        session: Session,
        run: MilestoneRun,
        request: str,
        sets: list[Dataset],
        search: Callable[[], str],
    ) -> str:
        """Search, and log the artifact; the run's id."""
        log_checkpoints(run, session)
        used = {s.name: (s.hash, len(s.examples), s.source) for s in sets}
        log_question_sets(session.store, run.run_id, used, TRAINING)
        text = search()
        run.writer.log_text(run.run_id, text, self.file)
        digest = hashlib.sha256(text.encode()).hexdigest()
        tags = {self.tag: digest, f"{self.tag}_of": request}
        # Each packet says what it is: nothing is known beforehand, and nothing is to be added.
        metrics = {f"{self.file.partition('.')[0]}_bytes": float(len(text.encode()))}
        run.writer.log(run.run_id, tags=tags, metrics=metrics)
        return run.run_id
