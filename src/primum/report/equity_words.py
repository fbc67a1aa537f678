"""The words of the equity family: whom a classifier serves worse, and how sure that is."""

from primum.report.language import message

TESTS = {
    "equity.sensitivity": (
        message("Ill patients found, by group"),
        message(
            "Of the patients who have the condition, does the model find fewer in one group than among "
            "everyone else?"
        ),
    ),
    "equity.specificity": (
        message("False alarms, by group"),
        message(
            "Of the patients who do not have the condition, does the model clear fewer in one group than "
            "among everyone else?"
        ),
    ),
    "equity.auc": (
        message("Telling ill from healthy, by group"),
        message(
            "Whatever the threshold: does the model rank the ill above the healthy less well in one group "
            "than among everyone else?"
        ),
    ),
    "equity.calibration": (
        message("Right probabilities, by group"),
        message(
            "When the model says 20 in 100, are 20 in 100 ill? Does it say too much or too little in one "
            "group, compared with everyone else?"
        ),
    ),
    "equity.pairs": (
        message("Ill patients found, by two attributes together"),
        message(
            "The same for people who share two attributes, such as older women: a group can be served worse "
            "though neither attribute alone shows it."
        ),
    ),
    "equity.proxy": (
        message("Reading the group from the score"),
        message(
            "Can sex, age, skin type or site be guessed from the model's answer, beyond what the illness "
            "itself tells, or from inputs that are said to be neutral?"
        ),
    ),
}
MEANS = {"equity": message("Held-out patients with their true class, and the model's answers about them.")}
ACCESS = {"equity": message("Black box with the probability of each class.")}
_FOUND = message(
    "{worst_group}: the model finds {sensitivity} of the ill, among everyone else {sensitivity_rest}. That "
    "is {sensitivity_gap} fewer ({sensitivity_gap_interval})."
)
GAINS = {
    "equity.sensitivity": _FOUND,
    "equity.pairs": _FOUND,
    "equity.specificity": message(
        "{worst_group}: the model clears {specificity} of the healthy, among everyone else "
        "{specificity_rest}. That is {specificity_gap} fewer ({specificity_gap_interval})."
    ),
    "equity.auc": message(
        "{worst_group}: ill and healthy are told apart with an AUC of {auroc}, among everyone else with "
        "{auroc_rest}. That is lower by {auc_gap} ({auc_gap_interval})."
    ),
    "equity.calibration": message(
        "Share who are ill, less what the model says: {calibration_in_the_large} for {worst_group}, "
        "{calibration_in_the_large_rest} for everyone else (below 0: fewer are ill than it says). The two "
        "differ by {calibration_gap} ({calibration_gap_interval})."
    ),
}
COSTS = {"equity": message("One query a case.")}
ADVICE = {
    "equity.sensitivity": message(
        "Do not use the model for the group named without a second reader, or without a threshold of its own "
        "that was tested on other patients. Look at the gap among similar patients: if it stays, the model "
        "itself is weaker there, and more cases of this group belong into its training; if it goes, ask why "
        "these patients come to harder sites, devices or stages."
    ),
    "equity.specificity": message(
        "The group named will have more needless further tests. Count what these cost the patients before "
        "the threshold is chosen."
    ),
    "equity.auc": message(
        "No threshold mends this: the model has learned less about this group. Train with more of its cases, "
        "or leave the group to the clinician."
    ),
    "equity.calibration": message(
        "Do not read the model's probabilities as risks in the group named before they were calibrated again "
        "on patients of that group."
    ),
    "equity.pairs": message(
        "As for one attribute. Such groups are small: ask for more of their cases first."
    ),
    "equity.proxy": message(
        "That a group can be read from the score is no harm in itself, as illness differs between groups. It "
        "says that leaving the attribute out of the inputs does not make the model blind to it."
    ),
}
_GAP = message("Above 0 the group is served worse; 0 is no difference.")
_HIGHER_BETTER = message("Lower is worse.")
_LOWER_BETTER = message("Higher is worse.")
_FOR_COMPARISON = message("For comparison.")
_CORRECTED = message("Above 0 is a difference.")
_CHANCE = message("0.50 tells nothing; higher tells more.")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "sensitivity_gap": (message("Fewer ill patients found than elsewhere"), True, _GAP, 2),
    "sensitivity_gap_corrected": (
        message("The same, interval corrected for all tests and groups"),
        True,
        _CORRECTED,
        2,
    ),
    "sensitivity_gap_standardised": (message("The same among similar patients"), True, _GAP, 2),
    "sensitivity": (message("Ill patients found in the group (sensitivity)"), True, _HIGHER_BETTER, 2),
    "sensitivity_rest": (message("Ill patients found among everyone else"), True, _FOR_COMPARISON, 2),
    "specificity_gap": (message("Fewer healthy patients cleared than elsewhere"), True, _GAP, 2),
    "specificity_gap_corrected": (
        message("The same, interval corrected for all tests and groups"),
        True,
        _CORRECTED,
        2,
    ),
    "specificity": (message("Healthy patients cleared in the group (specificity)"), True, _HIGHER_BETTER, 2),
    "specificity_rest": (message("Healthy patients cleared among everyone else"), True, _FOR_COMPARISON, 2),
    "auc_gap": (message("AUC lower than elsewhere, by"), False, _GAP, 3),
    "auc_gap_corrected": (
        message("The same, interval corrected for all tests and groups"),
        False,
        _CORRECTED,
        3,
    ),
    "auroc": (message("Ill ranked above healthy in the group (AUC)"), False, _HIGHER_BETTER, 3),
    "auroc_rest": (message("Ill ranked above healthy among everyone else (AUC)"), False, _FOR_COMPARISON, 3),
    "calibration_gap": (
        message("Probabilities off by more or less than elsewhere"),
        True,
        message("Higher is worse, whether the risk is said too high or too low; 0 is no difference."),
        2,
    ),
    "calibration_gap_corrected": (
        message("The same, interval corrected for all tests and groups"),
        True,
        _CORRECTED,
        2,
    ),
    "calibration_in_the_large": (
        message("More ill than the model says, in the group"),
        True,
        message("0 is right; above 0 the model says too little, below 0 too much."),
        2,
    ),
    "calibration_in_the_large_rest": (
        message("More ill than the model says, among everyone else"),
        True,
        _FOR_COMPARISON,
        2,
    ),
    "calibration_slope": (
        message("Calibration slope"),
        False,
        message("1 is right; below 1 the model is too bold, above 1 too timid."),
        2,
    ),
    "calibration_error": (
        message("Calibration error, less what chance makes"),
        True,
        message("Higher is worse; 0 is right."),
        2,
    ),
    "brier": (message("Brier score"), False, _LOWER_BETTER, 3),
    "ppv": (message("Ill among those called ill (PPV)"), True, _HIGHER_BETTER, 2),
    "npv": (message("Healthy among those called healthy (NPV)"), True, _HIGHER_BETTER, 2),
    "net_benefit": (
        message("Net benefit per patient, treating from this risk on"),
        False,
        message("Lower is worse; below 0 nobody should be treated by the model."),
        3,
    ),
    "proxy_score": (message("Group guessed from the model's score (AUC)"), False, _CHANCE, 2),
    "proxy_label": (message("Group guessed from the diagnosis alone (AUC)"), False, _FOR_COMPARISON, 2),
    "proxy_neutral": (message("Group guessed from the inputs said to be neutral (AUC)"), False, _CHANCE, 2),
}
REASONS = {
    "no_groups": message(
        "Nothing is known that divides the held-out patients into groups: give sex, age, ethnicity, skin "
        "type, site or device."
    ),
    "too_few_in_group": message(
        "Fewer than {needed} patients to compare, in the group or outside it: nothing can be said."
    ),
    "group_needs": message(
        "To rule a gap out, about {inside} held-out patients of the group with the widest interval ({group}) "
        "and {outside} others would be needed."
    ),
    "group_needs_ill": message(
        "To rule a gap out, about {inside} held-out patients who have the condition would be needed of the "
        "group with the widest interval ({group}), and {outside} of the others."
    ),
    "group_needs_well": message(
        "To rule a gap out, about {inside} held-out patients who do not have the condition would be needed "
        "of the group with the widest interval ({group}), and {outside} of the others."
    ),
    "clearest_gap": message("The clearest gap is that of this group: {group}."),
    "gap_among_alike": message(
        "The gap stays among patients of similar age, site, device and severity, as far as these are known."
    ),
    "gap_maybe_case_mix": message(
        "Among patients of similar age, site, device and severity, as far as these are known, the gap is no "
        "longer beyond chance: that the patients are others may explain it."
    ),
}
METHODS = {
    "newcombe": message("Newcombe, difference of two shares"),
    "patient-robust": message("variance by patient"),
    "debiased-bins": message("ten bins, variance taken off"),
}
SETTINGS = {
    "classes_judged": message("Class that is to be found"),
    "threshold": message("Called ill from this probability on"),
    "smallest_group": message("Fewest patients on each side of a comparison"),
    "groups": message("Groups compared"),
    "groups_left_out": message("Groups of fewer than five patients, or beyond the twenty largest, left out"),
    "contrasts": message("Comparisons that share one error budget"),
    "worst_group": message("Group that is judged"),
    "worst_class": message("Class that is judged"),
    "standardised_over": message("Held alike for similar patients"),
}
_CALIBRATED = message(
    "Each point is a tenth of all cases, by the risk that the model says. On the dotted line the model is "
    "right; points above it mean that more fall ill than the model says, points below that fewer do. Where a "
    "group's blue points leave the line and the grey ones do not, its risks are misjudged. Points of fewer "
    "than ten patients are not drawn."
)
_DECIDED = message(
    "What using the model is worth: ill patients rightly treated, less those treated needlessly, weighed by "
    "how much risk one is willing to treat (left: little risk is enough; right: only if nearly certain). "
    "Where the solid line is above both the dashed line (treat everybody) and 0 (treat nobody), the model "
    "helps this group; where it is not, this group is better off without it. Heights of different groups "
    "cannot be compared, as illness is not equally frequent."
)
PLOTS = {
    "equity_calibration_sex": (message("Are the risks right? By sex"), _CALIBRATED),
    "equity_calibration_age": (message("Are the risks right? By age"), _CALIBRATED),
    "equity_calibration_ethnicity": (message("Are the risks right? By ethnicity"), _CALIBRATED),
    "equity_calibration_skin_type": (message("Are the risks right? By skin type"), _CALIBRATED),
    "equity_calibration_site": (message("Are the risks right? By site"), _CALIBRATED),
    "equity_calibration_device": (message("Are the risks right? By device"), _CALIBRATED),
    "equity_decision_sex": (message("Is using the model worth it? By sex"), _DECIDED),
    "equity_decision_age": (message("Is using the model worth it? By age"), _DECIDED),
    "equity_decision_ethnicity": (message("Is using the model worth it? By ethnicity"), _DECIDED),
    "equity_decision_skin_type": (message("Is using the model worth it? By skin type"), _DECIDED),
    "equity_decision_site": (message("Is using the model worth it? By site"), _DECIDED),
    "equity_decision_device": (message("Is using the model worth it? By device"), _DECIDED),
}
FOREST = (
    message("Ill patients found: each group against everyone else"),
    message(
        "Right of the dotted line the model finds fewer of the ill in this group than among everyone else; "
        "right of the solid line it is a difference that matters. A line that crosses the dotted line may be "
        "chance. Diamonds are differences shown on their own, after correction for all comparisons; the "
        "small squares are the same among similar patients."
    ),
)
# Columns of the data tables are named "<what>:<group>".
COLUMNS = {
    "predicted": message("Risk the model says"),
    "observed": message("Really ill"),
    "low": message("Lower bound"),
    "high": message("Upper bound"),
    "patients": message("Patients"),
    "threshold": message("Risk from which one treats"),
    "benefit": message("Net benefit of the model"),
    "everyone": message("Net benefit of treating everybody"),
}
LITERATURE = {
    "buolamwini2018": "Buolamwini J, Gebru T. Gender shades: intersectional accuracy disparities in "
    "commercial gender classification. Conference on Fairness, Accountability and Transparency 2018.",
    "gichoya2022": "Gichoya J W, Banerjee I, Bhimireddy A R, et al. AI recognition of patient race in "
    "medical imaging: a modelling study. Lancet Digit Health 2022;4(6):e406-e414.",
    "greenland1985": "Greenland S, Robins J M. Estimation of a common effect parameter from sparse "
    "follow-up data. Biometrics 1985;41(1):55-68.",
    "kumar2019": "Kumar A, Liang P, Ma T. Verified uncertainty calibration. NeurIPS 2019.",
    "newcombe1998": "Newcombe R G. Interval estimation for the difference between independent proportions: "
    "comparison of eleven methods. Stat Med 1998;17(8):873-890.",
    "obuchowski1997": "Obuchowski N A. Nonparametric analysis of clustered ROC curve data. Biometrics "
    "1997;53(2):567-578.",
    "seyyedkalantari2021": "Seyyed-Kalantari L, Zhang H, McDermott M B A, Chen I Y, Ghassemi M. "
    "Underdiagnosis bias of artificial intelligence algorithms applied to chest radiographs in under-served "
    "patient populations. Nat Med 2021;27(12):2176-2182.",
    "vancalster2019": "Van Calster B, McLernon D J, van Smeden M, Wynants L, Steyerberg E W. Calibration: "
    "the Achilles heel of predictive analytics. BMC Med 2019;17:230.",
    "vickers2006": "Vickers A J, Elkin E B. Decision curve analysis: a novel method for evaluating "
    "prediction models. Med Decis Making 2006;26(6):565-574.",
}
