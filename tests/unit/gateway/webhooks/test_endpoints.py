"""An endpoint's secrets: which ones sign, and how they are stored."""

from __future__ import annotations

import pytest

from gateway.webhooks.endpoints import EndpointDetails, Secret
from jobs.codec import Codec, CodecError


def test_old_secrets_sign_until_their_time() -> None:
    """A card knows which of its secrets count now."""
    card = EndpointDetails("https://example.com", "", (Secret("new"), Secret("old", 100)))
    assert card.signing_secrets(99) == ["new", "old"]
    assert card.signing_secrets(100) == ["new"]


def test_a_card_is_sealed() -> None:
    """With a key set, neither URL nor secret can be read in the store, nor moved to another endpoint."""
    codec = Codec(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])  # pragma: allowlist secret
    card = EndpointDetails("https://example.com/token", "mine", (Secret("whsec_x"), Secret("whsec_y", 5)))
    sealed = card.seal(codec, "ep_1")
    assert b"token" not in sealed
    assert EndpointDetails.open(codec, "ep_1", sealed) == card
    with pytest.raises(CodecError, match="damaged or was moved"):
        EndpointDetails.open(codec, "ep_2", sealed)
