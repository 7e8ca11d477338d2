"""Workers that are not ready, restart, lose shards, fail on documents or run out of memory; GPUs."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group

_M = 'model="gleaner-small"'
_MODEL = {"model": "gleaner-small"}

GROUP = Group(
    "gleaner-workers",
    (
        Alert(
            name="GleanerWorkerNotReady",
            expr="gleaner_model_ready == 0",
            after="10m",
            severity="ticket",
            team="ml",
            summary="Worker {{ $labels.instance }} is not ready.",
            description="Its model is still loading or warming up, or its drain does not end.",
            board="model",
            fires=Case({'gleaner_model_ready{instance="a:9102"}': "0x20"}, "12m", {"instance": "a:9102"}),
            quiet=Case({'gleaner_model_ready{instance="a:9102"}': "0x3 1x20"}, "12m"),
        ),
        Alert(
            name="GleanerModelReloadLoop",
            expr=f"max by ({CELL}, model) (gleaner_model_trouble) > 0",
            after="2m",
            severity="page",
            team="ml",
            summary="Workers of {{ $labels.model }} cannot load their model.",
            description="They restart again and again. `gleaner models` shows the reason.",
            board="model",
            of_store=True,
            fires=Case({f"gleaner_model_trouble{{{_M}}}": "1x10"}, "4m", _MODEL),
            quiet=Case({f"gleaner_model_trouble{{{_M}}}": "0x10"}, "4m"),
        ),
        Alert(
            name="GleanerWorkerRestarting",
            expr=f"""sum by ({CELL}, instance) (changes(process_start_time_seconds[15m])
              and on ({CELL}, job, instance) present_over_time(gleaner_model_ready[15m])) > 2""",
            after="0m",
            severity="ticket",
            team="ml",
            summary="Worker {{ $labels.instance }} keeps restarting.",
            description="{{ $value | humanize }} times in 15 minutes: killed for memory, hung model calls, or a document "
            "that kills it.",
            board="resources",
            fires=Case(
                {
                    'process_start_time_seconds{job="kubernetes-pods",instance="a"}': "100x2 200x2 300x2 400x2",
                    'gleaner_model_ready{job="kubernetes-pods",instance="a"}': "0x12",
                },
                "11m",
                {"instance": "a"},
                "3",
            ),
            quiet=Case(
                {
                    'process_start_time_seconds{job="gleaner-worker",instance="a"}': "100x5 200x9",
                    'gleaner_model_ready{job="gleaner-worker",instance="a"}': "1x14",
                    'process_start_time_seconds{job="others",instance="b"}': "100x2 200x2 300x2 400x2",
                },
                "11m",
            ),
        ),
        Alert(
            name="GleanerLeasesLost",
            expr=f"sum by ({CELL}) (increase(gleaner_leases_lost_total[15m])) > 5",
            after="0m",
            severity="ticket",
            team="platform",
            summary="Workers lose shards that they are running.",
            description="{{ $value | humanize }} in 15 minutes: they stall for longer than a lease, or cannot reach Redis.",
            board="queue",
            of_store=True,
            fires=Case({"gleaner_leases_lost_total": "0+1x30"}, "20m", value="15"),
            quiet=Case({"gleaner_leases_lost_total": "3x30"}, "20m"),
        ),
        Alert(
            name="GleanerPoisonDocuments",
            expr=f"""sum by ({CELL}, code) (increase(gleaner_documents_total{{
              code=~"worker_lost|inference_failed|out_of_memory"}}[15m])) > 2""",
            after="0m",
            severity="ticket",
            team="ml",
            summary="Documents fail in the model with {{ $labels.code }}.",
            description="{{ $value | humanize }} in 15 minutes. Each failed when run alone; find what they have in common.",
            board="errors",
            fires=Case(
                {'gleaner_documents_total{status="failed",code="worker_lost"}': "0+1x30"},
                "20m",
                {"code": "worker_lost"},
                "15",
            ),
            quiet=Case({'gleaner_documents_total{status="failed",code="empty_text"}': "0+9x30"}, "20m"),
        ),
        Alert(
            name="GleanerOutOfMemoryLadder",
            expr=f"sum by ({CELL}, action) (increase(gleaner_oom_total[15m])) > 3",
            after="0m",
            severity="ticket",
            team="ml",
            summary="Micro-batches do not fit the device's memory ({{ $labels.action }}).",
            description="{{ $value | humanize }} times in 15 minutes. Each is repeated in halves; reduce the token budget.",
            board="model",
            fires=Case({'gleaner_oom_total{action="split"}': "0+1x30"}, "20m", {"action": "split"}, "15"),
            quiet=Case({'gleaner_oom_total{action="split"}': "2x30"}, "20m"),
        ),
        Alert(
            name="GleanerGpuMemoryHigh",
            expr=f"max by ({CELL}, instance, gpu) (gleaner_gpu_memory_used_bytes / gleaner_gpu_memory_limit_bytes) > 0.95",
            after="10m",
            severity="ticket",
            team="ml",
            summary="GPU {{ $labels.gpu }} of {{ $labels.instance }} is nearly full.",
            description="{{ $value | humanizePercentage }} of its memory is in use; the next long text may not fit.",
            board="resources",
            fires=Case(
                {
                    'gleaner_gpu_memory_used_bytes{instance="a",gpu="0"}': "97x20",
                    'gleaner_gpu_memory_limit_bytes{instance="a",gpu="0"}': "100x20",
                },
                "12m",
                {"instance": "a", "gpu": "0"},
                "97%",
            ),
            quiet=Case(
                {
                    'gleaner_gpu_memory_used_bytes{instance="a",gpu="0"}': "80x20",
                    'gleaner_gpu_memory_limit_bytes{instance="a",gpu="0"}': "100x20",
                },
                "12m",
            ),
        ),
        Alert(
            name="GleanerGpuHot",
            expr=f"max by ({CELL}, instance, gpu) (gleaner_gpu_temperature_celsius) > 87",
            after="10m",
            severity="ticket",
            team="platform",
            summary="GPU {{ $labels.gpu }} of {{ $labels.instance }} is too hot.",
            description="{{ $value | humanize }} degrees Celsius: it throttles, and may switch off. In a cloud only a "
            "change of the node helps.",
            board="resources",
            fires=Case(
                {'gleaner_gpu_temperature_celsius{instance="a",gpu="0"}': "90x14"},
                "12m",
                {"instance": "a", "gpu": "0"},
                "90",
            ),
            quiet=Case({'gleaner_gpu_temperature_celsius{instance="a",gpu="0"}': "75x14"}, "12m"),
        ),
    ),
)
