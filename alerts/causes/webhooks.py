"""Webhooks: receivers that fail, are slow, or are disabled."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group

_RETRY = 'gleaner_webhook_attempts_total{outcome="retry"}'
_DELIVERED = 'gleaner_webhook_attempts_total{outcome="delivered"}'
_SLOW = "gleaner_webhook_seconds_bucket"

GROUP = Group(
    "gleaner-webhooks",
    (
        Alert(
            name="GleanerWebhookFailureRatioHigh",
            expr=f"""sum by ({CELL}) (rate(gleaner_webhook_attempts_total{{outcome=~"retry|failed"}}[10m]))
              / sum by ({CELL}) (rate(gleaner_webhook_attempts_total[10m])) > 0.5
              and sum by ({CELL}) (increase(gleaner_webhook_attempts_total[10m])) > 10""",
            after="5m",
            severity="ticket",
            team="integration",
            summary="More than half of the webhook attempts fail.",
            description="{{ $value | humanizePercentage }} of attempts. Each is retried for days; GET "
            "/v1/webhook-endpoints shows which receivers fail.",
            board="webhooks",
            fires=Case({_RETRY: "0+9x30", _DELIVERED: "0+1x30"}, "20m", value="90%"),
            quiet=Case({_RETRY: "0+1x30", _DELIVERED: "0+9x30"}, "20m"),
        ),
        Alert(
            name="GleanerWebhookReceiversSlow",
            expr=f"""histogram_quantile(0.9, sum by ({CELL}, le) (rate({_SLOW}[10m]))) > 5
              and sum by ({CELL}) (increase(gleaner_webhook_seconds_count[10m])) > 5""",
            after="5m",
            severity="ticket",
            team="integration",
            summary="Webhook receivers are slow.",
            description="One attempt in ten takes {{ $value | humanizeDuration }} or more; at 15 s an attempt fails.",
            board="webhooks",
            fires=Case(
                {
                    f'{_SLOW}{{le="5.0"}}': "0x30",
                    f'{_SLOW}{{le="10.0"}}': "0+9x30",
                    f'{_SLOW}{{le="+Inf"}}': "0+9x30",
                    "gleaner_webhook_seconds_count": "0+9x30",
                },
                "20m",
                value="9.5s",
            ),
            quiet=Case(
                {
                    f'{_SLOW}{{le="5.0"}}': "0+9x30",
                    f'{_SLOW}{{le="+Inf"}}': "0+9x30",
                    "gleaner_webhook_seconds_count": "0+9x30",
                },
                "20m",
            ),
        ),
        Alert(
            name="GleanerWebhookEndpointsDisabled",
            expr=f"max by ({CELL}) (gleaner_webhook_endpoints_disabled) "
            f"> max by ({CELL}) (gleaner_webhook_endpoints_disabled offset 1h)",
            after="0m",
            severity="ticket",
            team="integration",
            summary="Webhook endpoints were disabled within the last hour.",
            description="{{ $value | humanize }} endpoints receive no events, after days of failures, a 410, or by their owner.",
            board="webhooks",
            fires=Case({"gleaner_webhook_endpoints_disabled": "0x60 2x30"}, "80m", value="2"),
            quiet=Case({"gleaner_webhook_endpoints_disabled": "2x90"}, "80m"),
        ),
    ),
)
