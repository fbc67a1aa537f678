"""What a verification found, as sentences."""

from typing import TYPE_CHECKING, Final

from primum.report.language import Language, message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from primum.trail.verified import Verified

PROBLEMS: Final = {
    "altered": message("Record {number}: its bytes are not those that were written."),
    "broken": message("Record {last} does not follow record {number}: one of the two was altered."),
    "missing": message("Records {number} to {last} are missing."),
    "truncated": message("Records {number} to {last} are missing at the end: they were signed once."),
    "block": message("The stored root of records {number} to {last} is not theirs."),
    "head": message("The head after record {number} was altered, or is not signed by the key of this trail."),
    "lost_head": message("A witness keeps a head after record {number} that the trail does not have."),
    "root": message("Records {number} to {last} are not those that were signed: at least one was rewritten."),
    "record": message("Record {number} is none that Primum could have written."),
    "columns": message("Record {number}: searches see something else than the record says."),
    "time": message("Record {number} says an earlier time than the record before it."),
    "reference": message("Record {number} refers to one that came later."),
    "expired": message(
        "The bytes of records between {number} and {last} are gone, and no retention in the trail says so."
    ),
    "shard": message("All of it is missing: the first chain says that this one was begun."),
    "stranger": message("No record of the first chain says that this one was begun."),
}
UNSEEN: Final = {
    "tail": message(
        "The last {count} records: no signed head covers them yet, so whoever can write to the database "
        "could change or drop them unseen."
    ),
    "unwitnessed": message(
        "The last {count} records: no witness keeps a head of them, so whoever holds the key of the trail "
        "and can write to the database could rewrite them unseen."
    ),
    "key": message(
        "Whose trail this is: the key was read from the trail itself. Give the one you were told with "
        "--public-key."
    ),
    "columns": message("Whether searches find every record: verify with --deep compares them."),
    "before": message("The bytes of the first {count} records: only their hashes were read."),
    "shards": message("Whether a chain is missing or foreign: what was begun stands in records not read."),
    "others": message("The other chains, and whether this one was begun: leave --shard out."),
    "clock": message("Whether the writer's clock was right: a time never goes back, and no more is known."),
}


def all_said(chains: "Sequence[Verified]", language: Language, *, key_given: bool) -> list[str]:
    """Say what was seen of each chain, under its number where there are several."""
    if len(chains) == 1:
        return said(chains[0], language, key_given=key_given)
    lines = []
    for seen in chains:
        lines.append(language.text("Chain {shard}:", shard=seen.shard))
        lines += ["  " + line for line in said(seen, language, key_given=key_given)]
    return lines


def said(seen: "Verified", language: Language, *, key_given: bool) -> list[str]:
    """Say what was verified, what is not as it was, and what could not be seen."""
    lines = []
    if seen.holds:
        lines.append(
            language.text(
                "Nothing was altered: {size} records, {heads} signed heads, {witnessed} of them witnessed.",
                size=seen.size,
                heads=seen.heads,
                witnessed=seen.witnessed,
            )
        )
    else:
        first = seen.problems[0]
        lines.append(
            language.text("ALTERED, first at record {number} of {size}:", number=first.number, size=seen.size)
        )
        lines += [
            "  " + language.text(PROBLEMS[one.code], number=one.number, last=one.last)
            for one in seen.problems
        ]
    if seen.expired:
        lines.append(
            language.text(
                "{count} records are past their time: their bytes are gone, their hashes hold.",
                count=seen.expired,
            )
        )
    if seen.open_intents:
        lines.append(
            language.text(
                "{count} predictions began and did not end, the first at record {number}: a process died in "
                "between.",
                count=len(seen.open_intents),
                number=seen.open_intents[0],
            )
        )
    unseen = seen.unseen(key_given=key_given)
    if unseen:
        lines.append(language.text("What this does not show:"))
    return [*lines, *("  " + language.text(UNSEEN[code], count=count) for code, count in unseen)]
