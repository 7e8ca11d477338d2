"""Label sets as the ledger stores them, for units of the gateway."""

from __future__ import annotations

import orjson

from jobs.codec import Codec
from jobs.ledger import associated_data
from jobs.ledger.label_sets import LabelSetVersions, StoredLabelSet
from jobs.tasks import Labels
from tests.support.fakes.submissions import CALLER


def stored_label_set(name: str, version: int, labels: Labels, tenant: str = CALLER.tenant) -> StoredLabelSet:
    """Return the ledger's reply for the latest version of a label set."""
    sealed = Codec().encode(orjson.dumps(labels), associated_data("labels", f"{tenant}:{name}", version))
    return StoredLabelSet(LabelSetVersions(version, range(1, version + 1)), 1_000, sealed)
