"""The handle of a job, base of `Job` and `AsyncJob`."""

from __future__ import annotations

from gleaner.models import Counts, JobInfo


class Handle:
    """The last response about a job, and its fields."""

    info: JobInfo

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.info.id

    @property
    def status(self) -> str:
        """Status of the job in the last response."""
        return self.info.status

    @property
    def done(self) -> bool:
        """True once the job is terminal."""
        return self.info.done

    @property
    def counts(self) -> Counts:
        """Number of documents by state in the last response."""
        return self.info.counts

    @property
    def progress(self) -> float:
        """Fraction of the documents that are finished, 0..1."""
        return self.info.progress

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"
