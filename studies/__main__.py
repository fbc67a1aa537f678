"""``make study``: every study in turn; each prints its table and writes it under ``docs/studies``."""

from studies import (
    coverage,
    false_alarms,
    null_sensitive,
    power,
    suite_false_alarms,
    suite_power,
    suite_traps,
    traps,
)

for study in (
    coverage,
    traps,
    power,
    false_alarms,
    null_sensitive,
    suite_traps,
    suite_power,
    suite_false_alarms,
):
    study.main()
