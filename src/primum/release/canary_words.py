"""What is said of a canary: codes to sentences, which are said in the reader's language elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def message(sentence: str) -> str:
    """Mark a sentence for translation where it is defined."""
    return sentence


SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "canary.watching": message("The canary goes on: nothing that is watched speaks against it so far."),
        "canary.error_rate": message(
            "The canary is wrong oftener than the live model: {canary_events} of {canary_patients} of its "
            "patients against {live_events} of {live_patients}."
        ),
        "canary.refusals": message(
            "The canary refuses oftener than the live model: {canary_events} of {canary_patients} of its "
            "patients against {live_events} of {live_patients}."
        ),
        "canary.latency": message(
            "The canary oftener answers later than {limit_ms} ms: {canary_events} of {canary_patients} of "
            "its patients against {live_events} of {live_patients} of the live model."
        ),
        "canary.agreement": message(
            "The canary and the live model disagree oftener than the policy allows: on {canary_events} of "
            "{canary_patients} patients."
        ),
        "canary.calibration": message(
            "The canary's probabilities are further from what came than the live model's: mean Brier score "
            "{canary_mean} on {canary_patients} patients against {live_mean} on {live_patients}."
        ),
        "canary.harmful_finding": message(
            "A harmful finding was made of the canary: {test}. It is a fact and waits for no statistics."
        ),
        "canary.evidence": message(
            "The evidence reached {e_value}; {threshold} was the limit. If the canary were no worse, this "
            "limit would be reached in at most {share} of all canaries, however long they run."
        ),
    }
)
