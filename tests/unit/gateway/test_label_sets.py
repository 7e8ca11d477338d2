"""Label sets: versions by content, and references to them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.label_sets import LabelSets, Reference, parse_reference
from jobs.codec import Codec
from jobs.ledger import OpenWork
from jobs.ledger.label_sets import LabelSetVersions, PutLabelSet, StoredLabelSet
from jobs.ledger.outcomes import LabelSetOutcome
from tests.support.fakes.label_sets import stored_label_set
from tests.support.fakes.scripted_ledger import ScriptedLedger

pytestmark = pytest.mark.anyio

LABELS = {"drug": "a medicine", "dose": None}
NONE = StoredLabelSet(LabelSetVersions(0, range(0)))
CONFLICT = PutLabelSet(LabelSetOutcome.CONFLICT)


def stored_version(version: int) -> PutLabelSet:
    """Return the ledger's reply to a version that it stored."""
    return PutLabelSet(LabelSetOutcome.OK, LabelSetVersions(version, range(1, version + 1)), 2_000)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("drugs", Reference("drugs")),
        ("drugs@12", Reference("drugs", 12)),
        ("A.b-c_9", Reference("A.b-c_9")),
        ("x" * 64, Reference("x" * 64)),
        *(
            (value, None)
            for value in (None, 7, ["drugs"], "", "x" * 65, "drugs@", "drugs@0", "drugs@-1", "drugs@1@2")
        ),
        *(
            (value, None)
            for value in ("drugs\n", "@1", ".drugs", "dr gs", "dr:gs", "dr/gs", "dröge", "drugs@1234567890")
        ),
    ],
)
def test_a_reference_is_a_name_with_or_without_a_version(value: Any, reference: Reference | None) -> None:
    """A name cannot reach another key or tenant."""
    assert parse_reference(value) == reference


async def test_labels_that_the_latest_version_has_are_not_stored_again() -> None:
    """Their order is part of them."""
    ledger = ScriptedLedger(read_label_set=stored_label_set("drugs", 3, LABELS), put_label_set=stored_version(4))
    sets = LabelSets(ledger, Codec())
    same = await sets.put("acme", "drugs", LABELS)
    assert (same.versions.latest, same.created, same.is_new) == (3, 1_000, False)
    assert ledger.script.names == ["read_label_set"]
    reordered = await sets.put("acme", "drugs", dict(reversed(LABELS.items())))
    assert (reordered.versions.latest, reordered.created, reordered.is_new) == (4, 2_000, True)


async def test_a_writer_that_was_overtaken_looks_again() -> None:
    """If the other wrote the same labels, there is nothing left to store."""
    ledger = ScriptedLedger(read_label_set=[NONE, stored_label_set("drugs", 1, LABELS)], put_label_set=[CONFLICT])
    stored = await LabelSets(ledger, Codec()).put("acme", "drugs", LABELS)
    assert (stored.versions.latest, stored.is_new) == (1, False)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (CONFLICT, "storage_unavailable"),
        (PutLabelSet(LabelSetOutcome.FULL), "quota_exceeded"),
        (PutLabelSet(LabelSetOutcome.STORED), "quota_exceeded"),
    ],
)
async def test_labels_that_cannot_be_stored_are_refused(reply: PutLabelSet, code: str) -> None:
    """Also after many writers that were faster."""
    ledger = ScriptedLedger(read_label_set=NONE, put_label_set=reply, read_open_work=OpenWork(0, 0, 0, 5))
    with pytest.raises(GatewayError) as refused:
        await LabelSets(ledger, Codec()).put("acme", "drugs", LABELS, 7)
    assert refused.value.code == code


async def test_a_version_whose_key_was_removed_can_be_replaced() -> None:
    """It cannot be compared, so the labels become a new version."""
    ledger = ScriptedLedger(
        read_label_set=StoredLabelSet(LabelSetVersions(1, range(1, 2)), 1, b"\x01unknown key"),
        put_label_set=stored_version(2),
    )
    assert (await LabelSets(ledger, Codec()).put("acme", "drugs", LABELS)).is_new


async def test_a_version_is_read_once_there_is_memory_for_it() -> None:
    """`reserve` gets the size of the JSON before it is decoded."""
    reserved: list[int] = []

    async def reserve(size: int) -> None:
        reserved.append(size)

    sets = LabelSets(ScriptedLedger(read_label_set=stored_label_set("drugs", 3, LABELS)), Codec())
    label_set = await sets.get("acme", Reference("drugs"), reserve)
    assert (label_set.labels, label_set.reference, label_set.stored) == (LABELS, "drugs@3", range(1, 4))
    assert reserved == [len(label_set.labels_json)]
    with pytest.raises(GatewayError, match="label_set_not_found"):
        await sets.get("acme", Reference("drugs", 9), reserve)


async def test_a_label_set_is_deleted_once() -> None:
    """The second time there is none."""
    sets = LabelSets(ScriptedLedger(delete_label_set=[True, False]), Codec())
    await sets.delete("acme", "drugs")
    with pytest.raises(GatewayError, match="label_set_not_found"):
        await sets.delete("acme", "drugs")
