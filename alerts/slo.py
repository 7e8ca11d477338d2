"""Service level objectives and their burn-rate alerts.

An SLO is the share of good events. Its error budget may burn fast (a page) or slowly (a ticket); each alert requires a
long window, so that it matters, and a short one, so that it ends soon after the cause (Google's SRE workbook, 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from alerts.model import CELL, Alert, Case, Group, Severity

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
FAST = (("5m", "1h", 14.4), ("30m", "6h", 6.0))
SLOW = (("2h", "1d", 3.0), ("6h", "3d", 1.0))
MIN_EVENTS = 20
"""Events per hour below which a ratio means nothing."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective.

    Attributes:
        objective: share of events that are good, over 30 days.
        promise: the objective in words.
        bad: rate of bad events per installation, an expression with `{w}` for the window; no sample without any.
        total: rate of all events, likewise.
        series: (bad, good) input series of the generated tests.
    """

    name: str
    title: str
    objective: float
    promise: str
    bad: str
    total: str
    team: str
    board: str
    series: tuple[str, str]
    of_store: bool = True

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective, 6)

    def ratio_name(self, window: str) -> str:
        """Return the name of the recording of the bad events' share."""
        return f"gleaner:{self.name}:error_ratio_{window}"

    @property
    def events_name(self) -> str:
        """Name of the recording of all events per hour."""
        return f"gleaner:{self.name}:events_1h"


_SUM = f"sum by ({CELL}) "
_HTTP = 'gleaner_http_requests_total{route!~"/livez|/readyz"%s}'
_DOCUMENTS = "gleaner_documents_total"
_OURS = 'code=~"inference_failed|out_of_memory|worker_lost"'
_JOB = "gleaner_job_seconds"


def _latency_expressions(priority: str, limit: str) -> tuple[str, str, tuple[str, str]]:
    of = f'priority="{priority}"'
    total = f"{_SUM}(rate({_JOB}_count{{{of}}}[{{w}}]))"
    bad = f'{total} - {_SUM}(rate({_JOB}_bucket{{{of},le="{limit}"}}[{{w}}]))'
    return bad, total, (f"{_JOB}_count{{{of}}}", f'{_JOB}_bucket{{{of},le="{limit}"}}')


_INTERACTIVE = _latency_expressions("interactive", "30.0")
_STANDARD = _latency_expressions("standard", "3600.0")

SLOS: tuple[Slo, ...] = (
    Slo(
        "availability",
        "Availability",
        0.999,
        "99.9 % of requests are answered without a 5xx.",
        f"{_SUM}(rate(" + _HTTP % ',status=~"5.."' + "[{w}]))",
        f"{_SUM}(rate(" + _HTTP % "" + "[{w}]))",
        "platform",
        "api",
        (
            'gleaner_http_requests_total{route="/v1/jobs",status="503"}',
            'gleaner_http_requests_total{route="/v1/jobs",status="202"}',
        ),
    ),
    Slo(
        "documents",
        "DocumentSuccess",
        0.999,
        "99.9 % of documents get their entities, or fail for a reason that is in the document.",
        f'{_SUM}(rate({_DOCUMENTS}{{status="failed",{_OURS}}}[{{w}}]))',
        f"{_SUM}(rate({_DOCUMENTS}[{{w}}]))",
        "ml",
        "errors",
        (
            f'{_DOCUMENTS}{{status="failed",code="inference_failed"}}',
            f'{_DOCUMENTS}{{status="succeeded",code="ok"}}',
        ),
    ),
    Slo(
        "interactive",
        "InteractiveLatency",
        0.99,
        "99 % of interactive jobs end within 30 s of their acceptance.",
        _INTERACTIVE[0],
        _INTERACTIVE[1],
        "platform",
        "queue",
        _INTERACTIVE[2],
    ),
    Slo(
        "standard",
        "StandardLatency",
        0.99,
        "99 % of standard jobs end within an hour of their acceptance.",
        _STANDARD[0],
        _STANDARD[1],
        "platform",
        "queue",
        _STANDARD[2],
    ),
    Slo(
        "webhooks",
        "WebhookDelivery",
        0.99,
        "99 % of webhook deliveries arrive.",
        f'{_SUM}(rate(gleaner_webhook_attempts_total{{outcome="failed"}}[{{w}}]))',
        f'{_SUM}(rate(gleaner_webhook_attempts_total{{outcome=~"delivered|failed"}}[{{w}}]))',
        "integration",
        "webhooks",
        (
            'gleaner_webhook_attempts_total{outcome="failed"}',
            'gleaner_webhook_attempts_total{outcome="delivered"}',
        ),
    ),
)


def build_group(slo: Slo) -> Group:
    """Return the recordings and the two alerts of an SLO."""
    ratio = f"({slo.bad} or 0 * {slo.total}) / ({slo.total})"
    recordings = {slo.ratio_name(w): _fill_window(ratio, w) for w in WINDOWS}
    recordings[slo.events_name] = f"({_fill_window(slo.total, '1h')}) * 3600"
    return Group(
        f"gleaner-slo-{slo.name}", (_burn_alert(slo, "Fast", FAST), _burn_alert(slo, "Slow", SLOW)), recordings
    )


def _fill_window(expr: str, window: str) -> str:
    return expr.replace("{w}", window)


def _burn_alert(slo: Slo, pace: str, pairs: tuple[tuple[str, str, float], ...]) -> Alert:
    severity: Severity = "page" if pace == "Fast" else "ticket"
    both = " or ".join(
        f"({slo.ratio_name(short)} > {factor * slo.budget:.6g} and {slo.ratio_name(long)} > {factor * slo.budget:.6g})"
        for short, long, factor in pairs
    )
    lasts = "about two days" if pace == "Fast" else "less than a month"
    name = f"Gleaner{slo.title}Burn{pace}"
    return Alert(
        name=name,
        expr=f"({both}) and {slo.events_name} > {MIN_EVENTS}",
        after="2m" if pace == "Fast" else "15m",
        severity=severity,
        team=slo.team,
        summary=f"The {slo.name} SLO ({100 * slo.objective:g} %) is burning its error budget too fast.",
        description=f"{slo.promise} At this rate the error budget of 30 days lasts {lasts} or less. "
        f"Share of bad events: {{{{ $value | humanizePercentage }}}}.",
        board=slo.board,
        of_store=slo.of_store,
        more={"slo": slo.name},
        fires=_burn_case(slo, pace, bad=0.5, value="50%"),
        quiet=_burn_case(slo, pace, bad=0.0),
    )


def _burn_case(slo: Slo, pace: str, bad: float, value: str = "") -> Case:
    """Return a case of 20 events per minute, the share `bad` of them bad."""
    step, minutes = (1, 90) if pace == "Fast" else (10, 26 * 60)
    steps, events = minutes // step, 20 * step
    broken = round(events * bad)
    good = events - broken
    if slo.series[0].startswith(_JOB):  # a histogram: all events, and those in time
        broken = events
    series = {slo.series[0]: f"0+{broken}x{steps}", slo.series[1]: f"0+{good}x{steps}"}
    return Case(series, f"{minutes}m", value=value, step=step)
