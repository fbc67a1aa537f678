"""The words of what travels between hospitals: whether it names their patients."""

from primum.evidence.audit import Audit
from primum.report.language import message

TITLES = {"updates": message("What hospitals send")}
TESTS = {
    "updates.reconstruction": (
        message("Records drawn out of what a site sent"),
        message(
            "From what a site sent in a round the attack computes records, and looks for each among known "
            "ones. Are the site's own patients found, more often than patients it never had?"
        ),
    ),
    "updates.codes": (
        message("Rare codes read off what a site sent"),
        message(
            "What a site sent of a model of health records shows which codes it learned from. Are rare codes "
            "of its own patients among them, more often than those of patients it never had?"
        ),
    ),
    "updates.property": (
        message("What share of a hospital's patients has a property"),
        message(
            "With updates made of other patients, of whom the property is known, the attacker learns to tell "
            "from an update how many of those behind it have it. It names nobody; it tells of a hospital."
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
REASONS = {
    "property_guessed": message(
        "From updates alone the share of a hospital's patients with this property was guessed, without "
        "seeing any patient: {group}, {lowest:.0%} to {highest:.0%} by hospital (hospitals: {sites}), where "
        "elsewhere {usual:.0%} have it. Nobody could check the guesses: these records do not say which "
        "hospital had whom."
    ),
    "property_checked": message(
        "From updates alone the share of a hospital's patients with this property was guessed, without "
        "seeing any patient: {group}, {lowest:.0%} to {highest:.0%} by hospital (hospitals: {sites}). The "
        "guesses are wrong by {error:.0%} on average; whoever guesses {usual:.0%} everywhere is wrong by "
        "{plain:.0%}. "
        "Guesses and truth correlate by {value:.2f} ({low:.2f} to {high:.2f}); 0 gives nothing away, 1 "
        "everything."
    ),
}
METHODS = {"student": message("Student's interval")}
MEANS = {
    "updates": message("What one site sent in one round, the weights before it, and records to compare with.")
}
ACCESS = {"updates": message("The coordinator, or whoever reads along between it and a site.")}
COSTS = {"updates": message("Seconds a round, on any computer; nothing is asked of the site.")}
GAINS = {
    "updates.reconstruction": message(
        "{members_reconstructed} of the sites' patients are found from what was sent, and "
        "{held_out_reconstructed} of patients whom no site had."
    ),
    "updates.codes": message(
        "{members_rare_read} of the rare codes of a patient of the sites are read off what was sent, and "
        "{held_out_rare_read} of those of a patient whom no site had."
    ),
}
ADVICE = {
    "updates.reconstruction": message(
        "Do not send updates of few cases unprotected. Let each site add the noise of its own epsilon, or "
        "train with secure aggregation, so that nobody sees the update of one site; then inspect again."
    ),
    "updates.codes": message(
        "Leave rare codes out of the vocabulary that sites agree on, let each site add the noise of its own "
        "epsilon, or train with secure aggregation, so that nobody sees whose site a code came from."
    ),
    "updates.membership": message(
        "Let each site add the noise of its own epsilon before anything is sent; secure aggregation hides "
        "which site it was, not that somebody trained."
    ),
}
# Of an audit of updates, in place of what is said of a model.
HEADLINES = {
    "clear": message("No patient was found in what hospitals send."),
    "unknown": message("This audit cannot tell whether what hospitals send gives patients away."),
}
AUDITED = message(
    "Captured updates, {updates} in all: what hospitals sent while they trained a model together, not the "
    "model itself ({name}, whose fingerprint begins with {digest}); with Primum {version}, {date}."
)
CONCERNED = message(
    "{members} patients of the hospitals that sent updates. They were compared with {held_out} similar "
    "patients whom none of them had."
)
_ASKED = message(
    "An update is computed from patients' records. It is personal data if a person can be identified from it "
    "by means reasonably likely to be used (GDPR, recital 26), whatever becomes of the model."
)
_NEITHER_WAY = message("This audit is evidence neither way and cannot be relied on for that question.")
_STAYS = message(
    "Until shown otherwise, treat what hospitals send as personal data concerning health (GDPR, articles 4 "
    "and 9): sending it to the coordinator discloses patients' data, and needs a legal basis, a purpose, an "
    "agreement among the hospitals and security, as for the records themselves."
)
MEANING = {
    "harm": (
        _ASKED,
        message(
            "The attacks below told patients of the hospitals from others by what was sent. Whether such "
            "means are reasonably likely to be used is for the controllers to judge, and to write down."
        ),
        _STAYS,
        message(
            "If updates went to anyone not entitled to the records, or are still kept there, examine whether "
            "that is a personal data breach (articles 33 and 34), and have them deleted."
        ),
    ),
    "clear": (
        _ASKED,
        message(
            "The attacks tried drew nothing out of these updates that matters. That speaks for a low "
            "likelihood and does not prove it: other attacks, smaller batches or other rounds may give more "
            "away. The controllers decide, and write down why."
        ),
    ),
    "unknown": (_ASKED, _NEITHER_WAY, _STAYS),
    "confounded": (_ASKED, _NEITHER_WAY, _STAYS),
}
UNTESTED = message(
    "Only what these hospitals sent was attacked. What the model that they trained remembers is another "
    "question, which primum audit asks; so is how it is kept and served."
)
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
_TELLS = message("Higher is worse; 0 tells nothing of a hospital.")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "members_reconstructed": (message("Of the sites' patients found"), True, _MORE, 2),
    "held_out_reconstructed": (message("Of patients whom no site had found"), True, _MORE, 2),
    "members_rare_read": (message("Rare codes of a patient of the sites, read off"), True, _MORE, 2),
    "held_out_rare_read": (message("Rare codes of a patient whom no site had, read off"), True, _MORE, 2),
    "share_guessed": (
        message("Share of patients with the property, as guessed"),
        True,
        message("Neither way is worse: nobody knows the truth."),
        0,
    ),
    "share_correlation": (message("Guesses against the truth (correlation)"), False, _TELLS, 2),
    "error_saved": (message("Nearer to the truth than by guessing one share for all"), True, _TELLS, 1),
}
ATTACKERS = {"updates": message("Who reads what sites send")}
LITERATURE = {
    "melis2019": "Melis L, Song C, De Cristofaro E, Shmatikov V. Exploiting unintended feature leakage in "
    "collaborative learning. IEEE Symposium on Security and Privacy 2019."
}


def of_updates(audit: Audit) -> bool:
    """Tell whether it is what hospitals send that was audited, and not a model."""
    return any(one.test.startswith("updates.") for one in audit.findings)
