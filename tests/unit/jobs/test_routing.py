from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.routing import Models
from jobs.settings import Settings

WEIGHTS = st.integers(0, 1000)
TENANTS = st.lists(st.text(max_size=12), min_size=1, max_size=30, unique=True)


def split(**weights: int) -> Models:
    """Return models with a name `medium` that is split by these weights."""
    shares = "|".join(f"{model}:{weight}" for model, weight in weights.items())
    return Models.parse(f"medium={shares}")


def test_a_list_of_names_means_what_it_always_meant() -> None:
    """Each name is a model, runs its own jobs, and the first is the default."""
    models = Models.parse("gleaner-small, Acme/NER v2,")
    assert models.names == models.served == ("gleaner-small", "Acme/NER v2")
    assert [models.choose_model(name, "acme") for name in models.names] == list(models.names)
    assert models.splits == {}


def test_a_split_serves_its_models_and_answers_to_its_name() -> None:
    """Models of a split have queues; by name they can be asked for only where they are listed, too."""
    models = Models.parse("gleaner-small,medium=one:90|hub:two:10,two")
    assert models.names == ("gleaner-small", "medium", "two")
    assert models.served == ("gleaner-small", "one", "hub:two", "two")
    assert models.splits == {"medium": {"one": 90, "hub:two": 10}}
    assert str(models) == "gleaner-small,medium=one:90|hub:two:10,two"


def test_a_split_may_bear_the_name_of_one_of_its_models() -> None:
    """A canary on a name that clients use already."""
    models = Models.parse("one=one:0|two:1")
    assert (models.names, models.served) == (("one",), ("one", "two"))
    assert models.choose_model("one", "acme") == "two"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no model is listed"),
        (" , ", "no model is listed"),
        ("a,a", "'a' is listed twice"),
        ("a,a=b:1", "'a' is listed twice"),
        ("a|b", "'a|b' is not a model"),
        ("=a:1", "'=a:1' is not a model"),
        ("a=", "is not a split"),
        ("a=b", "is not a split"),
        ("a=:1", "is not a split"),
        ("a=b:1|", "is not a split"),
        ("a=b=c:1", "is not a split"),
        ("a=b:1.5", "the weight of 'b'"),
        ("a=b:-1", "the weight of 'b'"),
        ("a=b:", "the weight of 'b'"),
        ("a=b:²", "the weight of 'b'"),
        ("a=b:1|b:2", "'b' is listed twice"),
        ("a=b:0|c:0", "a weight above 0"),
        ("a=b:1,b=c:1", "'b' is itself a split"),
    ],
)
def test_what_cannot_be_meant_stops_the_process(text: str, complaint: str) -> None:
    """The error names the entry and the reason."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Models.parse(text)
    if text:
        with pytest.raises(ValidationError, match="models"):
            Settings(models=text)  # type: ignore[arg-type]


@given(tenants=TENANTS, first=st.integers(1, 1000), two=WEIGHTS, three=WEIGHTS, more=st.integers(1, 1000))
def test_a_growing_weight_takes_tenants_over_and_moves_no_other(
    tenants: list[str], first: int, two: int, three: int, more: int
) -> None:
    """From one setting to the next, whoever moves, moves to the model that grew; and back if it shrinks again."""
    before, after = split(first=first, two=two, three=three), split(first=first, two=two + more, three=three)
    for tenant in tenants:
        was, becomes = before.choose_model("medium", tenant), after.choose_model("medium", tenant)
        assert becomes in (was, "two")


@given(tenants=TENANTS, shares=st.lists(st.integers(0, 100), min_size=2, max_size=6))
def test_a_canary_that_grows_from_0_to_100_never_gives_a_tenant_back(tenants: list[str], shares: list[int]) -> None:
    """The operator's way: two weights that sum to 100, step by step."""
    steps = [split(stable=100 - share, canary=share) for share in sorted(shares)]
    for tenant in tenants:
        way = [models.choose_model("medium", tenant) for models in steps]
        assert way == sorted(way, reverse=True)  # stable ... canary, turning once at most


@given(tenant=st.text(max_size=20), first=WEIGHTS, two=st.integers(1, 1000))
def test_the_choice_is_the_same_in_every_process(tenant: str, first: int, two: int) -> None:
    """Neither the order in the setting nor a common factor of the weights changes it; weight 0 gets nobody."""
    models = split(first=first, two=two)
    chosen = models.choose_model("medium", tenant)
    assert chosen == split(two=two, first=first).choose_model("medium", tenant)
    assert chosen == split(two=7 * two, first=7 * first).choose_model("medium", tenant)
    assert models.splits["medium"][chosen] > 0


def test_tenants_are_shared_out_by_weight() -> None:
    """Of 4,000 tenants a tenth, within four standard deviations; another name draws other tenants."""
    tenants = [f"tenant-{n}" for n in range(4000)]
    canary = {t for t in tenants if split(stable=90, canary=10).choose_model("medium", t) == "canary"}
    assert abs(len(canary) - 400) < 4 * math.sqrt(4000 * 0.1 * 0.9)
    other = Models.parse("large=stable:90|canary:10")
    both = {t for t in canary if other.choose_model("large", t) == "canary"}
    assert len(both) < len(canary) / 4
    assert split(stable=90, canary=10).choose_model("medium", "acme") == "stable"  # over releases, too


def test_settings_read_it() -> None:
    """A string from the environment and a list of entries give the same."""
    expected = Models.parse("a,b=c:1")
    assert Settings(models="a,b=c:1").models == expected  # type: ignore[arg-type]
    assert Settings(models=("a", "b=c:1")).models == expected  # type: ignore[arg-type]
    assert Settings().models == Models.parse("gleaner-small")
