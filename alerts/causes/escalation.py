"""Pages that go on: the higher levels of docs/how-to/escalation.md."""

from __future__ import annotations

from alerts.model import Alert, Case, Group


def _escalation(level: str, after: str, minutes: int, who: str) -> Alert:
    page = 'ALERTS{alertstate="firing",severity="page",alertname="GleanerRedisDown",level="L2",team="platform"}'
    return Alert(
        name=f"GleanerEscalation{level}",
        expr='max by (team) (ALERTS{alertstate="firing",severity="page",level="L2",alertname=~"Gleaner.*"}) == 1',
        after=after,
        severity="page",
        team="",
        summary=f"Pages have gone on for {after}: {level}.",
        description=f"{who} The alerts that fire say what is wrong.",
        board="overview",
        level=level,
        fires=Case({page: f"1x{minutes + 10}"}, f"{minutes + 5}m", {"team": "platform"}),
        quiet=Case({page: "1x5 stale"}, f"{minutes + 5}m"),
    )


GROUP = Group(
    "gleaner-escalation",
    (
        _escalation("L3", "30m", 30, "The second on call and the owner of the service come in."),
        _escalation("L4", "2h", 120, "The incident manager takes over."),
    ),
)
