"""Escalation of pages that continue: the higher levels of docs/how-to/escalation.md."""

from __future__ import annotations

from alerts.model import Alert, Case, Group


def _escalation(level: str, after: str, minutes: int, action: str) -> Alert:
    page = 'ALERTS{alertstate="firing",severity="page",alertname="GleanerRedisDown",level="L2",team="platform"}'
    return Alert(
        name=f"GleanerEscalation{level}",
        expr='max by (team) (ALERTS{alertstate="firing",severity="page",level="L2",alertname=~"Gleaner.*"}) == 1',
        after=after,
        severity="page",
        team="",
        summary=f"Pages have continued for {after}: {level}.",
        description=f"{action} The firing alerts name the fault.",
        board="overview",
        level=level,
        fires=Case({page: f"1x{minutes + 10}"}, f"{minutes + 5}m", {"team": "platform"}),
        quiet=Case({page: "1x5 stale"}, f"{minutes + 5}m"),
    )


GROUP = Group(
    "gleaner-escalation",
    (
        _escalation("L3", "30m", 30, "Call the second on-call engineer and the service owner."),
        _escalation("L4", "2h", 120, "The incident manager takes over."),
    ),
)
