"""The words of ``primum release``: states, rules, why a signature does not count, what happened."""

from collections.abc import Mapping

from primum.report.language import message

STATES: Mapping[str, str] = {
    "candidate": message("candidate"),
    "approved": message("approved"),
    "shadow": message("shadow"),
    "canary": message("canary"),
    "live": message("live"),
    "retired": message("retired"),
    "rolled_back": message("rolled back"),
}
STYLES: Mapping[str, str] = {
    "live": "bold green",
    "canary": "cyan",
    "rolled_back": "bold red",
    "retired": "dim",
}
REASONS: Mapping[str, str] = {
    "passed": message("passes"),
    "parent": message("the parent's finding stands for it, by the plan"),
    "missing": message("no such finding"),
    "not_accepted": message("unsigned, of an unknown auditor, or of a declared identity"),
    "verdict": message("another verdict"),
    "harmful": message("harm was found"),
    "interval": message("the interval reaches beyond the threshold"),
    "no_interval": message("no interval"),
    "expired": message("too old"),
    "not_certified": message("not on a certified test set"),
    "plan": message("the policy has no such plan"),
    "no_parent": message("the parent was never live here"),
    "files": message("files changed that the plan does not name"),
    "data": message("other data than the parent's, or not said"),
    "loss": message("too much worse than the parent"),
    "canary_days": message("too short as a canary"),
}
WHYS: Mapping[str, str] = {
    "counts": message("counts"),
    "rejects": message("rejects"),
    "revoked": message("revoked"),
    "superseded": message("the same person said something else since"),
    "signature": message("the signature does not hold"),
    "unknown_key": message("the policy does not know the key"),
    "name_or_role": message("not the name or role of the key's holder"),
    "role": message("this role does not approve"),
    "author": message("an author cannot approve"),
    "model": message("signed for another model"),
    "card": message("the card changed since"),
    "policy": message("the policy changed since"),
    "findings": message("the findings changed since"),
    "round": message("signed before the model was reopened"),
    "failed": message("signed for a decision that fails"),
    "unknown_decision": message("signed for no decision that was kept"),
    "expired": message("signed too long ago"),
    "other_action": message("signed for another step"),
}
EVENTS: Mapping[str, str] = {
    "policy": message("policy in force"),
    "registered": message("registered"),
    "findings": message("findings taken in"),
    "decision": message("decision"),
    "approve": message("approved by {name}, {role}"),
    "reject": message("rejected by {name}, {role}"),
    "revoke": message("revoked by {name}, {role}"),
    "adopt": message("new policy signed by {name}, {role}"),
    "step": message("{action}: now {state}"),
    "share": message("{action}: now {state}, {share} of the patients"),
    "sealed": message("test set sealed by {name}, {role}"),
    "used": message("test set used: {purpose}"),
}
ACTIONS: Mapping[str, str] = {
    "admit": message("admitted"),
    "shadow": message("put into shadow"),
    "canary": message("put to the canary"),
    "live": message("put live"),
    "retire": message("retired"),
    "reopen": message("reopened"),
    "roll_back": message("rolled back"),
}
# What `advance --to` says, to the step of the table.
TO: Mapping[str, str] = {
    "approved": "admit",
    "shadow": "shadow",
    "canary": "canary",
    "live": "live",
    "retired": "retire",
    "candidate": "reopen",
}
OF_ALL = (
    *(message("Model"), message("Digest"), message("State")),
    *(message("Since"), message("Rules that fail"), message("Approvals")),
)
OF_TEST_SETS = (message("Test set"), message("Digest"), message("Sealed by"), message("Uses"))
OF_RULES = (message("Rule"), message("Decision"), message("Why"), message("Seen"))
OF_BALLOTS = (
    *(message("Signed by"), message("Role"), message("Date")),
    *(message("Counts?"), message("Comment")),
)
OF_HISTORY = (
    *(message("No"), message("Date (UTC)"), message("By")),
    *(message("What"), message("Model"), message("Trail")),
)
