"""Names derived from a model's name."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from jobs.naming import model_slug, queue_name
from jobs.schema import Priority


@given(st.text(max_size=60), st.text(max_size=60))
def test_two_models_never_share_a_slug(first: str, second: str) -> None:
    """Whatever their names are, and each slug fits into names of Kubernetes and Redis keys."""
    slugs = model_slug(first), model_slug(second)
    assert (slugs[0] == slugs[1]) == (first == second)
    assert all(re.fullmatch(r"[a-z0-9-]*", slug) for slug in slugs)


def test_a_plain_name_is_its_own_slug() -> None:
    """Other names keep what is plain of them, and get a part that tells them from each other."""
    assert model_slug("gleaner-small") == "gleaner-small"
    assert re.fullmatch(r"urchade-gliner-v2-1-[0-9a-f]{6}", model_slug("urchade/GLiNER v2.1"))
    assert queue_name("gleaner-small", Priority.INTERACTIVE) == "gleaner.gleaner-small.interactive"
