"""The gateway: down, failing or slow; certificates."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group, count_as_absent, in_cells, move_namespace

_5XX = 'gleaner_http_requests_total{route!~"/livez|/readyz",status=~"5.."}'
_ALL = 'gleaner_http_requests_total{route!~"/livez|/readyz"}'
_503 = 'gleaner_http_requests_total{route="/v1/jobs",method="POST",status="503"}'
_202 = 'gleaner_http_requests_total{route="/v1/jobs",method="POST",status="202"}'
_OTHER_CELL = {'gleaner_store_down{job="gleaner",namespace="b"}': "0x10"}
_SUBMIT = 'gleaner_http_request_seconds_bucket{route="/v1/jobs",method="POST"'

GROUP = Group(
    "gleaner-api",
    (
        Alert(
            name="GleanerGatewayDown",
            expr=count_as_absent("gleaner_store_down"),
            after="2m",
            severity="page",
            team="platform",
            summary="No gateway is running.",
            description="No gateway shows metrics. Clients can neither submit nor read. Accepted jobs continue.",
            board="api",
            fires=Case({'gleaner_store_down{namespace="a"}': "0x3 stale", **_OTHER_CELL}, "8m", {"namespace": "a"}),
            quiet=Case({'gleaner_store_down{job="kubernetes-pods",namespace="a"}': "0x10", **_OTHER_CELL}, "8m"),
            also=((Case({}, "4m"), True),),
        ),
        Alert(
            name="GleanerGatewayProcessesEnding",
            expr=f"sum by ({CELL}, instance) (increase(gleaner_gateway_processes_ended_total[15m])) > 2",
            after="0m",
            severity="ticket",
            team="platform",
            summary="Processes of gateway {{ $labels.instance }} keep ending.",
            description="{{ $value | humanize }} in 15 minutes: killed for memory, a native crash, or an event loop that "
            "stood still. They are restarted inside the pod, so Kubernetes counts no restart.",
            board="api",
            fires=Case(
                {'gleaner_gateway_processes_ended_total{instance="a:9101"}': "0+1x30"},
                "20m",
                {"instance": "a:9101"},
                "15",
            ),
            quiet=Case({'gleaner_gateway_processes_ended_total{instance="a:9101"}': "3x30"}, "20m"),
        ),
        Alert(
            name="GleanerKeysFileUnreadable",
            expr=f"max by ({CELL}, instance) (gleaner_keys_file_stale_seconds) > 0",
            after="2m",
            severity="page",
            team="platform",
            summary="Gateway {{ $labels.instance }} cannot read its API keys.",
            description="For {{ $value | humanizeDuration }} the keys file has been missing or damaged. Keys revoked "
            "since are still accepted; after GLEANER_KEYS_MAX_STALE_S every key is refused.",
            board="api",
            fires=Case(
                {'gleaner_keys_file_stale_seconds{instance="a:9101"}': "0 30+60x10"},
                "5m",
                {"instance": "a:9101"},
                "4m 30s",
            ),
            quiet=Case({'gleaner_keys_file_stale_seconds{instance="a:9101"}': "0 30 0x10"}, "5m"),
        ),
        Alert(
            name="GleanerErrorRatioHigh",
            expr=f"""(sum by ({CELL}) (rate({_5XX}[5m])) / sum by ({CELL}) (rate({_ALL}[5m]))) > 0.05
              and sum by ({CELL}) (rate({_ALL}[5m])) > 0.1""",
            after="5m",
            severity="page",
            team="platform",
            summary="More than 5 % of requests fail.",
            description="{{ $value | humanizePercentage }} of requests are answered with 5xx.",
            board="api",
            of_store=True,
            fires=Case({_503: "0+10x20", _202: "0+90x20"}, "12m", value="10%"),
            quiet=Case({_503: "0+1x20", _202: "0+99x20"}, "12m"),
        ),
        Alert(
            name="GleanerLatencySpike",
            expr=f"histogram_quantile(0.95, sum by ({CELL}, le) (rate({_SUBMIT}}}[5m]))) > 1",
            after="5m",
            severity="ticket",
            team="platform",
            summary="Submissions take more than a second.",
            description="The 95th percentile is {{ $value | humanizeDuration }}: a slow disk of Redis, large bodies, or "
            "a gateway short of CPU.",
            board="api",
            of_store=True,
            fires=Case(
                {
                    f'{_SUBMIT},le="1.0"}}': "0x20",
                    f'{_SUBMIT},le="2.5"}}': "0+60x20",
                    f'{_SUBMIT},le="+Inf"}}': "0+60x20",
                },
                "12m",
                value="2.425s",
            ),
            quiet=Case({f'{_SUBMIT},le="1.0"}}': "0+60x20", f'{_SUBMIT},le="+Inf"}}': "0+60x20"}, "12m"),
        ),
        Alert(
            name="GleanerCertificateExpiry",
            expr=f"""({in_cells(move_namespace("certmanager_certificate_expiration_timestamp_seconds"))}
              or probe_ssl_earliest_cert_expiry{{job=~".*gleaner.*"}}) - time() < 14 * 86400""",
            after="1h",
            severity="ticket",
            team="platform",
            summary="A certificate of Gleaner expires within two weeks.",
            description="It expires in {{ $value | humanizeDuration }}; it should have been renewed.",
            board="overview",
            fires=Case(
                {'probe_ssl_earliest_cert_expiry{job="gleaner-tls"}': "864000x70"},
                "65m",
                {"job": "gleaner-tls"},
                "9d 22h 55m 0s",
            ),
            quiet=Case({'probe_ssl_earliest_cert_expiry{job="gleaner-tls"}': "8640000x70"}, "65m"),
            also=(
                (  # cert-manager's, scraped without honor_labels
                    Case(
                        {
                            'certmanager_certificate_expiration_timestamp_seconds{namespace="cert-manager",'
                            'exported_namespace="a",name="tls"}': "864000x70",
                            'gleaner_store_up{namespace="a"}': "1x70",
                        },
                        "65m",
                        {"namespace": "a", "exported_namespace": "a", "name": "tls"},
                        "9d 22h 55m 0s",
                    ),
                    True,
                ),
            ),
        ),
    ),
)
