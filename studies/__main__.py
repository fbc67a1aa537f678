"""``make study``: every study in turn; each prints its table and writes it under ``docs/studies``."""

from studies import (
    coverage,
    false_alarms,
    power,
    suite_false_alarms,
    suite_power,
    suite_traps,
    traps,
)

for study in (
    coverage.main,
    traps.main,
    power.main,
    false_alarms.main,
    suite_traps.main,
    suite_power.main,
    suite_false_alarms.main,
):
    study()
