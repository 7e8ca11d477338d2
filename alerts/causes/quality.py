"""Drift of the model's results against the last three days."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group

_FOUND, _SCORES, _WORDS = "gleaner_entities_total", "gleaner_entity_scores_total", "gleaner_words_total"
_END = 4 * 24 * 60
"""Minutes of a drift test's history: the averages look back for days."""
_ALL_STEPS, _LAST = _END // 10, 18
"""Steps of ten minutes in it, and the number of steps at the end that drift."""
_FIRST = _ALL_STEPS - _LAST

GROUP = Group(
    "gleaner-quality",
    (
        Alert(
            name="GleanerScoreDrift",
            expr=f"""abs(gleaner:entity_score:mean_1h / (avg_over_time(gleaner:entity_score:mean_1h[3d] offset 6h)) - 1)
              > 0.15 and on ({CELL}, label) sum by ({CELL}, label) (increase(gleaner_entities_total[1h])) > 100""",
            after="30m",
            severity="ticket",
            team="ml",
            summary="Scores of {{ $labels.label }} have drifted.",
            description="Their mean moved by {{ $value | humanizePercentage }} against the last three days: another model, "
            "other texts, or a fault.",
            board="model",
            fires=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+100x{_ALL_STEPS}",
                    f'{_SCORES}{{label="other"}}': f"0+80x{_FIRST} {80 * _FIRST + 40}+40x{_LAST}",
                },
                f"{_END}m",
                {"label": "other"},
                "50%",
                step=10,
            ),
            quiet=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+100x{_ALL_STEPS}",
                    f'{_SCORES}{{label="other"}}': f"0+80x{_ALL_STEPS}",
                },
                f"{_END}m",
                step=10,
            ),
        ),
        Alert(
            name="GleanerEntityRateDrift",
            expr=f"""abs(gleaner:entities_per_1000_words:1h
                / (avg_over_time(gleaner:entities_per_1000_words:1h[3d] offset 6h)) - 1) > 0.5
              and on ({CELL}) sum by ({CELL}) (increase(gleaner_words_total[1h])) > 10000""",
            after="30m",
            severity="ticket",
            team="ml",
            summary="{{ $labels.label }} is found much more or less often than before.",
            description="Entities per 1,000 words moved by {{ $value | humanizePercentage }} against the last three days.",
            board="model",
            fires=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+200x{_FIRST} {200 * _FIRST + 20}+20x{_LAST}",
                    _WORDS: f"0+10000x{_ALL_STEPS}",
                },
                f"{_END}m",
                {"label": "other"},
                "90%",
                step=10,
            ),
            quiet=Case(
                {f'{_FOUND}{{label="other"}}': f"0+200x{_ALL_STEPS}", _WORDS: f"0+10000x{_ALL_STEPS}"},
                f"{_END}m",
                step=10,
            ),
        ),
    ),
    {
        "gleaner:entity_score:mean_1h": f"sum by ({CELL}, label) (rate({_SCORES}[1h])) "
        f"/ sum by ({CELL}, label) (rate({_FOUND}[1h]))",
        "gleaner:entities_per_1000_words:1h": f"1000 * sum by ({CELL}, label) (rate({_FOUND}[1h])) "
        f"/ on ({CELL}) group_left () sum by ({CELL}) (rate({_WORDS}[1h]))",
    },
)
