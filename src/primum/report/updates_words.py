"""The words of what travels between hospitals: whether it names their patients."""

from primum.report.language import message

TESTS = {
    "updates.reconstruction": (
        message("Records drawn out of what a site sent"),
        message(
            "From what a site sent in a round the attack computes records, and looks for each among known "
            "ones. Are the site's own patients found, more often than patients it never had?"
        ),
    ),
    "updates.membership": (
        message("Recognising who trained at a site"),
        message(
            "Is what a site sent likelier to come from its own patients' records than from those of patients "
            "it never had?"
        ),
    ),
}
MEANS = {
    "updates": message("What one site sent in one round, the weights before it, and records to compare with.")
}
ACCESS = {"updates": message("The coordinator, or whoever reads along between it and a site.")}
COSTS = {"updates": message("Seconds a round, on any computer; nothing is asked of the site.")}
GAINS = {
    "updates.reconstruction": message(
        "{members_reconstructed} of the sites' patients are found from what was sent, and "
        "{held_out_reconstructed} of patients whom no site had."
    )
}
ADVICE = {
    "updates.reconstruction": message(
        "Do not send updates of few cases unprotected. Let each site add the noise of its own epsilon, or "
        "train with secure aggregation, so that nobody sees the update of one site; then inspect again."
    ),
    "updates.membership": message(
        "Let each site add the noise of its own epsilon before anything is sent; secure aggregation hides "
        "which site it was, not that somebody trained."
    ),
}
_AGAIN = message("Inspect again when the network, the batch or the protection of updates changes.")
STEPS = {
    "harm": (
        message("Stop the rounds: whatever was sent so far may name patients, treat it as their records."),
        message(
            "Let each site add the noise of its own epsilon before anything is sent, or train with secure "
            "aggregation, which shows the coordinator the sum alone. Then inspect again."
        ),
        message("Show this report to the data-protection officers of all sites."),
    ),
    "clear": (
        message("Keep this report with the training: it holds for these updates and these attacks."),
        _AGAIN,
    ),
    "unknown": (
        message("Do not go on on the strength of this report: it is evidence neither way."),
        message("Capture more rounds, or give more patients to compare with, and inspect again."),
    ),
    "confounded": (
        message("Choose patients to compare with from the same hospitals and time as those of the sites."),
        _AGAIN,
    ),
}
_MORE = message("Higher is worse; 0 means nobody.")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "members_reconstructed": (message("Of the sites' patients found"), True, _MORE, 2),
    "held_out_reconstructed": (message("Of patients whom no site had found"), True, _MORE, 2),
}
ATTACKERS = {"updates": message("Who reads what sites send")}
