"""``make study``: every study in turn; each prints its table and writes it under ``docs/studies``."""

from studies import coverage, false_alarms, power, traps

for study in (coverage.main, traps.main, power.main, false_alarms.main):
    study()
