"""The words of the robustness family: how a classifier's verdicts are turned, and by whom."""

from primum.report.language import message

TESTS = {
    "robustness.evasion": (
        message("Cases that were tampered with"),
        message(
            "Every value of a case is changed a little, too little to notice. Does that turn right answers "
            "into wrong ones, more often than random changes of the same size do?"
        ),
    ),
    "robustness.patch": (
        message("A small patch"),
        message(
            "A patch of a few pixels, like a speck of dust or a sticker, is put where it does most harm. "
            "Does it turn right answers, more often than a random patch?"
        ),
    ),
    "robustness.universal": (
        message("One change for all patients"),
        message(
            "One and the same small change, made from other patients, is added to every case. Whoever has it "
            "needs to know nothing about the patient."
        ),
    ),
    "robustness.corruption": (
        message("Poor quality as in daily work"),
        message(
            "Noise, blur, compression and the like, as mild as they are in any hospital. No attacker is "
            "needed. How much worse does the model become under the kind that harms it most?"
        ),
    ),
    "robustness.l2": (
        message("Changes of a given length"),
        message("As tampering, but a few values may change much while the others stay."),
    ),
    "robustness.square": (
        message("Tampering by someone who sees only probabilities"),
        message("The attacker tries random squares and watches the model's probabilities."),
    ),
    "robustness.decision": (
        message("Tampering by someone who sees only the diagnosis"),
        message("The attacker tries changes and is told nothing but which class the model names."),
    ),
    "robustness.transfer": (
        message("Tampering by way of another model"),
        message(
            "The attacker trains a model on cases of others, tampers until that one is fooled, and tries the "
            "result here once."
        ),
    ),
    "robustness.certified": (
        message("What no attack can turn"),
        message(
            "The model is asked many times with noise added, and the most frequent answer counts. Up to what "
            "change is it certain that this answer stays, whatever the attack?"
        ),
    ),
}
MEANS = {
    "robustness": message(
        "A case on its way to the model: in the archive, on the network, or on the patient's own device."
    )
}
ACCESS = {
    "robustness": message(
        "White box where the model shows its gradients; else the probabilities, or the diagnosis alone."
    )
}
COSTS = {
    "robustness": message(
        "{steps} gradient steps a case and strength; {queries} queries a case without gradients."
    )
}
GAINS = {
    "robustness.evasion": message(
        "Changing every value by at most {strength} parts in {levels} of its range turns {turned_by_attack} "
        "of the right answers; random changes of the same size turn {turned_by_noise}. The difference is "
        "{turned_beyond_noise} ({turned_beyond_noise_interval}). Balanced accuracy falls from "
        "{clean_balanced_accuracy} to {robust_balanced_accuracy}."
    ),
    "robustness.patch": message(
        "A patch of {patch_side} by {patch_side} values turns {turned_by_attack} of the right answers, a "
        "random patch {turned_by_noise}: a difference of {turned_beyond_noise} "
        "({turned_beyond_noise_interval})."
    ),
    "robustness.universal": message(
        "One change for all patients, at most {universal_strength} parts in {levels} of the range, turns "
        "{turned_by_attack} of the right answers, random changes {turned_by_noise}: a difference of "
        "{turned_beyond_noise} ({turned_beyond_noise_interval})."
    ),
    "robustness.corruption": message(
        "The mild corruption that harms most takes {balanced_accuracy_lost} of the balanced accuracy "
        "({balanced_accuracy_lost_interval}), from {clean_balanced_accuracy}; the mean over all "
        "{corruptions} kinds is {mean_balanced_accuracy_lost}."
    ),
}
ADVICE = {
    "robustness.evasion": message(
        "Protect the way from the device to the model: sign images, restrict who can write to the archive, "
        "and do not offer the model to strangers. Train again with tampered cases (adversarial training) and "
        "audit again; filters that merely hide the gradient do not help."
    ),
    "robustness.patch": message(
        "Let a person look at the image itself, not only at the answer: a patch can be seen. Train again "
        "with random patches, and refuse images with marks that do not belong there."
    ),
    "robustness.universal": message(
        "Whoever has this change can fool the model on any patient, without knowing the patient. Do not give "
        "the weights away, and train again with such changes."
    ),
    "robustness.corruption": message(
        "This needs no attacker. Check the quality of every case before the model sees it, refuse those "
        "that are worse than the training cases, and train again with such corruption."
    ),
}
_TURNED = message("Higher is worse; 0 means no more than chance.")

_LESS = message("Lower is worse.")
_COMPARED = message("For comparison.")
_LOST = message("Higher is worse; 0 means that nothing is lost.")
_CORRECTED = message("Above 0 is a difference.")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "turned_beyond_noise": (message("Right answers turned, beyond chance"), True, _TURNED, 2),
    "turned_beyond_noise_corrected": (
        message("The same, interval corrected for all tests"),
        True,
        _CORRECTED,
        2,
    ),
    "turned_by_attack": (message("Right answers turned by the attack"), True, message("Higher is worse."), 2),
    "turned_by_one_patch": (
        message("Right answers turned by one and the same patch, at one place"),
        True,
        message("Higher is worse."),
        2,
    ),
    "turned_by_noise": (message("Right answers turned by chance"), True, _COMPARED, 2),
    "clean_auc": (message("AUC, cases as they are"), False, _COMPARED, 2),
    "robust_auc": (message("AUC under attack"), False, _LESS, 2),
    "clean_balanced_accuracy": (message("Balanced accuracy, cases as they are"), True, _COMPARED, 2),
    "robust_balanced_accuracy": (message("Balanced accuracy under attack"), True, _LESS, 2),
    "balanced_accuracy_lost": (message("Balanced accuracy lost, worst mild corruption"), True, _LOST, 2),
    "balanced_accuracy_lost_corrected": (
        message("The same, interval corrected for all tests"),
        True,
        _CORRECTED,
        2,
    ),
    "mean_balanced_accuracy_lost": (
        message("Balanced accuracy lost, mean over mild corruptions"),
        True,
        _LOST,
        2,
    ),
    "certified_balanced_accuracy": (
        message("Balanced accuracy that no change of the given length can take away"),
        True,
        _LESS,
        2,
    ),
    "smoothed_balanced_accuracy": (
        message("Balanced accuracy of the model asked under noise"),
        True,
        _LESS,
        2,
    ),
}
REASONS = {
    "needs_held_out": message(
        "To rule the effect out, about {needed} held-out patients with a right answer would be needed."
    ),
    "gradient_masked": message(
        "An attack that sees less of the model turned more ({more:.1%} more right answers): the gradient of "
        "this model misleads, and the number of the stronger-looking attack is not to be trusted. The other "
        "attack is judged instead."
    ),
    "right_by_chance": message(
        "The model is right no more often than by guessing, as far as can be told: that its answers are "
        "steady says nothing good of it."
    ),
    "kept_answers": message(
        "Only recorded answers were given: nobody can ask what the model says of a changed case."
    ),
    "is_the_evasion": message(
        "The model shows no gradients, so that this attack is the one judged as tampering."
    ),
    "not_one_shape": message("The cases differ in shape: no one change fits them all."),
    "too_few_to_train": message("Too few held-out patients to train another model on half of them."),
    "no_corruption": message("The model takes none of the corrupted cases."),
    "attack_not_of_letters": message(
        "A sequence of letters has no small changes; letters are exchanged instead."
    ),
    "attack_only_of_letters": message("Only sequences have letters to exchange."),
    "attack_not_of_tables": message("Columns of a table have no place: there is nowhere to put a patch."),
}
ATTACKERS = {
    "evader": message(
        "The attacker can change a case slightly before the model sees it, and knows the model's weights "
        "where these can be seen."
    ),
    "evader_scores": message(
        "The attacker can change a case slightly and sees the model's probabilities, as often as asked."
    ),
    "evader_labels": message(
        "The attacker can change a case slightly and sees only the class that the model names."
    ),
    "evader_surrogate": message(
        "The attacker can change a case slightly and has never asked this model anything."
    ),
    "sticker": message("The attacker can cover a small part of a case, and knows the model's weights."),
    "one_for_all": message(
        "The attacker knows the model's weights and some patients, but nothing of the one who is attacked."
    ),
    "nobody": message("No attacker is needed: this happens by itself."),
}
METHODS = {
    "bonett-price": message("paired by patient (Bonett-Price)"),
    "agresti-coull": message("adjusted share of patients (Agresti-Coull)"),
    "class-mean": message("mean over classes, variance by patient"),
    "class-mean-worst": message("mean over classes, variance by patient, over all kinds at once"),
}
SETTINGS = {
    "attack": message("Attack that is judged"),
    "white_box": message("The attack sees the model's gradients"),
    "strength": message("Largest change of a value, in parts of 255 of the range"),
    "cases": message("Held-out cases that were asked about"),
    "cases_queried": message("Of these, cases asked about hundreds of times"),
    "steps": message("Gradient steps"),
    "queries": message("Queries a case, without gradients"),
    "patch_side": message("Side of the patch"),
    "l2": message("Length of the change, 1 being one value from one end of the range to the other"),
    "sigma": message("Deviation of the noise of the certificate, in parts of the range"),
    "samples": message("Questions a certificate"),
    "worst_corruption": message("Corruption that harms most"),
    "corruptions_not_taken": message("Corruptions that the model refuses"),
    "whole_numbers": message("Judged after rounding to what a file can hold"),
}
# How the kinds are called on plots and in tables, in the order of primum.evidence.robustness_answers.
CORRUPTION_NAMES = {
    "noise": message("noise"),
    "blur": message("blur"),
    "motion": message("movement"),
    "contrast": message("low contrast"),
    "gamma": message("too bright or dark"),
    "compression": message("compression (JPEG)"),
    "occlusion": message("a part covered"),
    "rotation": message("rotated"),
    "wander": message("wandering baseline"),
    "dropout": message("signal lost for a while"),
    "gain": message("wrong amplification"),
    "missing": message("missing cells"),
    "substitution": message("letters misread"),
    "ends": message("ends not read"),
    "tiles": message("tiles lost"),
}
PLOTS = {
    "robustness_strength": (
        message("How well the model holds against stronger and stronger tampering"),
        message(
            "From left to right every value of a case may be changed by more. Solid lines: changed by an "
            "attacker; dashed lines: changed as much, but at random. A solid line that falls while the "
            "dashed one stays is a model that can be fooled. At the dotted line it does no better than "
            "guessing, below it the attacker decides the answers. Bands are 95% intervals by patient."
        ),
    ),
    "robustness_corruption": (
        message("What poor quality takes from the model"),
        message(
            "Balanced accuracy lost under each kind of corruption, from mild (1) to severe (5). Darker is "
            "worse. What stands left of the line happens in daily work and is judged; nobody would read "
            "cases like those on the far right."
        ),
    ),
    "robustness_patch_places": (
        message("Where a small patch does most harm"),
        message(
            "The image is divided into fields. Each number is the share of patients with a right answer "
            "whose answer is turned by a patch whose best place lies in that field. Darker is worse. Fields "
            "with one to four patients are marked <5."
        ),
    ),
    "robustness_patch": (
        message("The one patch that turns most answers"),
        message(
            "One patch, made from half of the patients and tried on the others, at one place for all. It is "
            "no part of any patient's image."
        ),
    ),
    "robustness_certified": (
        message("What is certain against any attack"),
        message(
            "Balanced accuracy of the model asked many times under noise, and how much of it no change of "
            "the given length can take away, whatever the attack. Further right the change is longer. A "
            "curve that falls at once promises nothing."
        ),
    ),
}
COLUMNS = {
    "strength": message("Parts of 255 of the range"),
    "kind": message("Kind of corruption"),
    "severity": message("Severity"),
    "balanced_accuracy": message("Balanced accuracy"),
    "balanced_accuracy_low": message("Lower bound"),
    "balanced_accuracy_high": message("Upper bound"),
    "auc": message("AUC"),
    "auc_low": message("Lower bound"),
    "auc_high": message("Upper bound"),
    "noise_balanced_accuracy": message("Balanced accuracy, changed at random"),
    "noise_balanced_accuracy_low": message("Lower bound"),
    "noise_balanced_accuracy_high": message("Upper bound"),
    "noise_auc": message("AUC, changed at random"),
    "noise_auc_low": message("Lower bound"),
    "noise_auc_high": message("Upper bound"),
    "lost": message("Balanced accuracy lost"),
    "lost_low": message("Lower bound"),
    "lost_high": message("Upper bound"),
    "row": message("Row, from the top"),
    "column": message("Column, from the left"),
    "turned": message("Right answers turned"),
    "value": message("Value, from 0 (lowest) to 1 (highest)"),
    "radius": message("Length of the change"),
}
# What is being done, as progress shows it.
STAGES = (
    message("answers about a sample of held-out cases"),
    message("attacks on held-out cases"),
    message("attacks on held-out cases, without gradients"),
    message("attacks of a given length"),
    message("patches"),
    message("one change for all patients"),
    message("attacks by way of another model"),
    message("corrupted cases"),
    message("certificates"),
)
LITERATURE = {
    "andriushchenko2020": "Andriushchenko M, Croce F, Flammarion N, Hein M. Square attack: a query-efficient "
    "black-box adversarial attack via random search. ECCV 2020.",
    "bonett2012": "Bonett D G, Price R M. Adjusted Wald confidence interval for a difference of binomial "
    "proportions based on paired data. J Educ Behav Stat 2012;37(4):479-488.",
    "brown2017": "Brown T B, Mané D, Roy A, Abadi M, Gilmer J. Adversarial patch. NeurIPS workshop on "
    "machine learning and computer security 2017.",
    "chen2020": "Chen J, Gu Q. RayS: a ray searching method for hard-label adversarial attack. KDD 2020.",
    "chenj2020": "Chen J, Jordan M I, Wainwright M J. HopSkipJumpAttack: a query-efficient decision-based "
    "attack. IEEE Symposium on Security and Privacy 2020.",
    "clopper1934": "Clopper C J, Pearson E S. The use of confidence or fiducial limits illustrated in the "
    "case of the binomial. Biometrika 1934;26(4):404-413.",
    "cohen2019": "Cohen J M, Rosenfeld E, Kolter J Z. Certified adversarial robustness via randomized "
    "smoothing. ICML 2019.",
    "croce2020": "Croce F, Hein M. Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks. ICML 2020.",
    "hendrycks2019": "Hendrycks D, Dietterich T. Benchmarking neural network robustness to common "
    "corruptions and perturbations. ICLR 2019.",
    "karmon2018": "Karmon D, Zoran D, Goldberg Y. LaVAN: localized and visible adversarial noise. ICML 2018.",
    "madry2018": "Madry A, Makelov A, Schmidt L, Tsipras D, Vladu A. Towards deep learning models resistant "
    "to adversarial attacks. ICLR 2018.",
    "mcnemar1947": "McNemar Q. Note on the sampling error of the difference between correlated proportions "
    "or percentages. Psychometrika 1947;12(2):153-157.",
    "moosavi2017": "Moosavi-Dezfooli S-M, Fawzi A, Fawzi O, Frossard P. Universal adversarial perturbations. "
    "CVPR 2017.",
    "papernot2017": "Papernot N, McDaniel P, Goodfellow I, Jha S, Celik Z B, Swami A. Practical black-box "
    "attacks against machine learning. ACM AsiaCCS 2017.",
    "westfall1993": "Westfall P H, Young S S. Resampling-based multiple testing: examples and methods for "
    "p-value adjustment. Wiley 1993.",
}
