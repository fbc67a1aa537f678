"""``make study``: every study in turn; each prints its table and writes it under ``docs/studies``."""

from studies import (
    classifier_false_alarms,
    classifier_power,
    confidence,
    coverage,
    false_alarms,
    fuzz,
    inversion,
    lira,
    naming,
    null_sensitive,
    one_run,
    power,
    record_counts,
    suite_false_alarms,
    suite_power,
    suite_traps,
    traps,
)

for study in (
    fuzz,
    coverage,
    traps,
    power,
    false_alarms,
    one_run,
    naming,
    confidence,
    record_counts,
    lira,
    inversion,
    classifier_power,
    classifier_false_alarms,
    null_sensitive,
    suite_traps,
    suite_power,
    suite_false_alarms,
):
    study.main()
