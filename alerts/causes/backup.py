"""The ledger's backup: too old, or failed. By kube-state-metrics, which sees the chart's CronJob."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group, in_cells, move_namespace

_CRONJOB = '{cronjob=~".+-backup"}'
_SUCCESS = 'kube_cronjob_status_last_successful_time{namespace="a",cronjob="gleaner-backup"}'
_CREATED = {'kube_cronjob_created{namespace="a",cronjob="gleaner-backup"}': "0x120"}
_JOB = 'namespace="a",job_name="gleaner-backup-29000001"'
_UP = {'gleaner_store_up{namespace="a"}': "1x120"}
_BACKUP = {"namespace": "a", "cronjob": "gleaner-backup"}


def _latest(metric: str, by: str) -> str:
    return f"max by ({CELL}{by}) ({move_namespace(metric)})"


_LAST_SUCCESS = _latest(f"kube_cronjob_status_last_successful_time{_CRONJOB}", ", cronjob")
_ANY_SUCCESS = _latest(f"kube_cronjob_status_last_successful_time{_CRONJOB}", "")
_LAST_FAILURE = f"""max by ({CELL}) ({move_namespace('kube_job_status_start_time{job_name=~".+-backup-[0-9]+"}')}
      and on ({CELL}, job_name) {move_namespace('kube_job_status_failed{job_name=~".+-backup-[0-9]+"}')} > 0)"""

GROUP = Group(
    "gleaner-backup",
    (
        Alert(
            name="GleanerBackupTooOld",
            expr=in_cells(
                f"time() - ({_LAST_SUCCESS} or {_latest(f'kube_cronjob_created{_CRONJOB}', ', cronjob')}) > 3600"
            ),
            after="5m",
            severity="page",
            team="platform",
            summary="The ledger has not been backed up for {{ $value | humanizeDuration }}.",
            description="The last snapshot that was checked and uploaded is that old: if the volume is lost, so is all "
            "that was accepted since.",
            board="resources",
            fires=Case({_SUCCESS: "600x120", **_CREATED, **_UP}, "80m", _BACKUP, "1h 10m 0s"),
            quiet=Case({_SUCCESS: "600+60x120", **_CREATED, **_UP}, "80m"),
            also=((Case({**_CREATED, **_UP}, "80m", _BACKUP, "1h 20m 0s"), True),),  # none has ever succeeded
        ),
        Alert(
            name="GleanerBackupFailed",
            expr=in_cells(f"{_LAST_FAILURE} > {_ANY_SUCCESS} or ({_LAST_FAILURE} unless {_ANY_SUCCESS})"),
            after="0m",
            severity="ticket",
            team="platform",
            summary="The last backup of the ledger failed.",
            description="It could not be taken, checked or uploaded, or it was refused because it has far fewer keys "
            "than the one before. Its log says which.",
            board="resources",
            fires=Case(
                {
                    f'kube_job_status_failed{{{_JOB},reason="BackoffLimitExceeded"}}': "1x120",
                    f"kube_job_status_start_time{{{_JOB}}}": "1500x120",
                    _SUCCESS: "600x120",
                    **_UP,
                },
                "40m",
                {"namespace": "a"},
            ),
            quiet=Case(
                {
                    f'kube_job_status_failed{{{_JOB},reason="BackoffLimitExceeded"}}': "1x120",
                    f"kube_job_status_start_time{{{_JOB}}}": "1500x120",
                    _SUCCESS: "600x30 2400x90",
                    **_UP,
                },
                "40m",
            ),
        ),
    ),
)
