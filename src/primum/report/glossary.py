"""What each test and each measured quantity is called, for a person who is no statistician."""

from dataclasses import dataclass

from primum.report import classifier_words, observed_words
from primum.report.language import message

TESTS = {
    "data.overlap": (
        message("Same patients on both sides"),
        message("Looks for held-out patients who are near-copies of training patients."),
    ),
    "membership.combined": (
        message("Recognising training patients"),
        message("Compares the model's score of each patient it learned from with patients it never saw."),
    ),
    "membership.loss": (
        message("Plain likelihood attack"),
        message("Higher likelihood than for other patients is taken as a sign of training."),
    ),
    "membership.min_k": (
        message("Min-K% attack"),
        message("Looks only at the least likely events of each patient."),
    ),
    "membership.min_k_pp": (
        message("Min-K%++ attack"),
        message("The same, each event measured against what else the model expected there."),
    ),
    "membership.ratio": (
        message("Attack with a reference model"),
        message("Compares with a model that never saw these patients, so that easy records do not count."),
    ),
    "membership.canary": (
        message("Planted records"),
        message(
            "Invented records were hidden in the training data; are they recognised against their twins?"
        ),
    ),
    "membership.epsilon": (
        message("Measured privacy loss"),
        message("A lower bound on epsilon, the worst-case privacy loss, from the attack itself."),
    ),
    "membership.named": (
        message("Naming individual patients"),
        message("Asks whether single patients can be named with few errors."),
    ),
    "membership.exposed": (
        message("Among the most exposed 1%"),
        message(
            "Who are the hundredth of training patients that the model recognises best? A group with more "
            "than its part of them carries more than its part of the risk."
        ),
    ),
    "trajectory.codes": (
        message("Continuing a record: codes recovered"),
        message(
            "Given who a patient is and the first ten events, the model writes on. How much of what really "
            "came next does it write, beyond what it writes for patients it never saw?"
        ),
    ),
    "trajectory.verbatim": (
        message("Continuing a record: word for word"),
        message("The next ten codes come out exactly right and in order."),
    ),
    "trajectory.distance": (
        message("Continuing a record: distance to the truth"),
        message(
            "How far what the model writes lies from what really happened, similar codes and times counting "
            "as near."
        ),
    ),
    "trajectory.likelihood": (
        message("Continuing a record: likelihood of the truth"),
        message("How likely the model finds what really came next."),
    ),
    "sensitive.inferred": (
        message("Sensitive diagnoses taken out of the record"),
        message(
            "Sensitive codes are removed; does the model still expect them, for training patients more than "
            "for others? Guessing equally well for both is medicine, not memory."
        ),
    ),
    "sensitive.sampled": (
        message("Sensitive diagnoses written by the model"),
        message("The same, from what the model writes instead of its probabilities."),
    ),
    "sensitive.exposed": (
        message("Patients whose sensitive diagnosis the model names"),
        message("Half of what the model writes about the patient names a diagnosis that is true."),
    ),
    "embedding.probe": (
        message("Recognising training patients from embeddings"),
        message(
            "A classifier looks at the model's inner summary of each patient and guesses who trained it."
        ),
    ),
    "embedding.linkage": (
        message("Linking two halves of a record"),
        message("The summary of one half of a record is matched with the other half, among all patients."),
    ),
    "embedding.attribute": (
        message("Sensitive diagnoses in embeddings"),
        message(
            "Age, sex and site are known; does the summary of a record without its sensitive codes still "
            "tell them, for training patients more than for others?"
        ),
    ),
    "embedding.attribute.known_0": (
        message("Sensitive diagnoses in embeddings, nothing else known"),
        message("The same when the attacker knows neither age, sex nor site."),
    ),
    "embedding.attribute.known_1": (
        message("Sensitive diagnoses in embeddings, age known"),
        message("The same when the attacker knows the age alone."),
    ),
    "embedding.attribute.known_2": (
        message("Sensitive diagnoses in embeddings, age and sex known"),
        message("The same when the attacker knows age and sex."),
    ),
    "perturbation.combined": (
        message("Changing who the patient is"),
        message(
            "Age, sex, site and dates are changed around the truth: does the model find the true ones "
            "surprisingly right, for training patients more than for others?"
        ),
    ),
    "perturbation.age": (message("Changing the age"), message("The same for the age alone.")),
    "perturbation.sex": (message("Changing the sex"), message("The same for the sex alone.")),
    "perturbation.site": (message("Changing the site"), message("The same for the site alone.")),
    "perturbation.dates": (message("Changing the dates"), message("The same for the dates alone.")),
    "knowledge.depth": (
        message("How deep the memory goes"),
        message(
            "The more of a patient's past is shown, the likelier the model finds the patient's rarest code. "
            "Is that so for training patients more than for others? The attacker would have to know the "
            "answer already: this is the most sensitive sign of memory, not yet a theft."
        ),
    ),
    "knowledge.cost": (
        message("What it costs to draw a secret out"),
        message(
            "How many events must an attacker know, and how often must the model be asked, until it gives "
            "away a rare or sensitive code?"
        ),
    ),
    "extraction.passages": (
        message("Passages that can be drawn out"),
        message("Eight events in a row come out word for word within a hundred attempts."),
    ),
    **classifier_words.TESTS,
    **observed_words.TESTS,
}


@dataclass(frozen=True)
class Quantity:
    """How an estimate is named and written, and which way is worse."""

    label: str
    percent: bool
    worse: str
    digits: int = 2


AUC_WORSE = message("Higher is worse; 0.50 is pure chance, 1.00 is certain.")
_RATE_WORSE = message("Higher is worse; pure chance equals the false alarms.")
_BLIND_WORSE = message("Above 0.50 the groups differ without the model.")
_GAIN_WORSE = message("Higher is worse; 0 means the model adds nothing.")
QUANTITIES = {
    "auc": Quantity(message("Recognition (AUC)"), False, AUC_WORSE),
    "auc_stratified": Quantity(message("AUC among similar patients"), False, AUC_WORSE),
    "auc_bootstrap": Quantity(message("AUC, checked by resampling"), False, AUC_WORSE),
    "blind_auc": Quantity(message("AUC without the model"), False, _BLIND_WORSE),
    "auc_minus_blind": Quantity(message("AUC the model adds"), False, _GAIN_WORSE),
    "tpr": Quantity(message("Training patients recognised"), True, _RATE_WORSE),
    "realised_fpr": Quantity(
        message("Outsiders wrongly recognised"),
        True,
        message("How strict the attack was; higher makes recognition easier."),
    ),
    "blind_tpr": Quantity(
        message("Recognised without the model"), True, message("Higher: the groups differ without the model.")
    ),
    "tpr_minus_blind": Quantity(message("Recognition the model adds"), True, _GAIN_WORSE),
    "nameable": Quantity(
        message("Patients who can be named, at least"),
        False,
        message("Higher is worse; from one to four people are told as one."),
        digits=0,
    ),
    "epsilon_one_run": Quantity(
        message("Privacy loss (epsilon), from one training"),
        False,
        message("Higher is worse; 0 means no loss was shown."),
    ),
    "epsilon": Quantity(
        message("Privacy loss (epsilon)"), False, message("Higher is worse; 0 means no loss was shown.")
    ),
    "share_difference": Quantity(
        message("More than for patients never seen"), True, message("Higher is worse; 0 means no difference.")
    ),
    "share_difference_corrected": Quantity(
        message("The same, interval corrected for all tests"), True, message("Above 0 is a difference.")
    ),
    "stratified_share_difference": Quantity(
        message("Difference among similar patients"), True, message("Higher is worse; 0 means no difference.")
    ),
    "difference_beyond_blind": Quantity(
        message("Difference that remains without what is known anyway"), True, _GAIN_WORSE
    ),
    "members_mean": Quantity(message("Training patients"), True, message("Higher is worse.")),
    "held_out_mean": Quantity(message("Patients never seen"), True, message("For comparison.")),
    "auroc_difference": Quantity(
        message("Guessed better than for patients never seen (AUC)"),
        False,
        message("Higher is worse; 0 means that the model guesses as well for people it never saw."),
    ),
    "auroc_difference_corrected": Quantity(
        message("The same, interval corrected for all tests"), False, message("Above 0 is a difference.")
    ),
    "auroc_difference_beyond_blind": Quantity(
        message("The same beyond what is guessed without the model (AUC)"), False, _GAIN_WORSE
    ),
    "over_representation": Quantity(
        message("Among the most exposed 1%, times its part"), False, message("Above 1 is worse.")
    ),
    "over_representation_held_out": Quantity(
        message("The same among patients never seen"), False, message("For comparison.")
    ),
    "near_duplicate_share": Quantity(
        message("Held-out patients with a near-copy"), True, message("Higher is worse; 0 is ideal.")
    ),
    **{name: Quantity(*told) for name, told in observed_words.QUANTITIES.items()},
}
