"""The words of the data family: wrong labels, copies, cases that are no real ones, planted marks."""

from primum.report.language import message

TESTS = {
    "data.labels": (
        message("Wrong labels"),
        message(
            "Classifiers of our own learn from part of the training patients and say what the labels of the "
            "others should be. How many labels are wrong, beyond those that are merely hard to tell?"
        ),
    ),
    "data.duplicates": (
        message("Copies among the training patients"),
        message(
            "Looks for training patients whose case repeats that of another one; images also when they were "
            "turned, mirrored, moved a little or cut."
        ),
    ),
    "data.artificial": (
        message("Training cases that are no real cases"),
        message("Looks for empty, constant, repeated or impossible cases, and for pure noise."),
    ),
    "data.backdoor": (
        message("A planted mark (backdoor)"),
        message(
            "Looks for a small mark that recurs, exactly, at one place of many training images of one class. "
            "Whoever plants such a mark can later call up that class at will."
        ),
    ),
    "data.site": (
        message("One site with wrong labels"),
        message(
            "In data pooled from several sites: does one have more doubtful labels than the others have "
            "among patients who are as easy to judge?"
        ),
    ),
    "data.outliers": (
        message("Cases unlike their class"),
        message("How many training cases are far from all others of their class?"),
    ),
}
MEANS = {"data": message("Write access to the training data, or to what one site delivers.")}
ACCESS = {"data": message("The training data; the model itself is not needed.")}
COSTS = {"data": message("A few training cases changed before the model is trained.")}
GAINS = {
    "data.labels": message(
        "{wrong_label_share} of the labels are estimated to be wrong ({wrong_label_share_interval}). Labels "
        "of {flagged_patients} patients are worth a second look."
    ),
    "data.duplicates": message(
        "{copies_share} of the training patients have a case that repeats another patient's "
        "({copies_share_interval}); one to four patients are counted as four."
    ),
    "data.artificial": message(
        "{artificial_share} of the training patients have a case that is no real one "
        "({artificial_share_interval}); one to four patients are counted as four."
    ),
    "data.backdoor": message(
        "The mark that belongs most clearly to one class is on {marked_patients} of the patients looked at: "
        "its share in that class is higher by {mark_difference} ({mark_difference_interval}) than in the "
        "others."
    ),
    "data.site": message(
        "At the site that stands out most, doubtful labels are more frequent by {site_difference} "
        "({site_difference_interval}) than at the others, among patients who are as easy to judge."
    ),
}
ADVICE = {
    "data.labels": message(
        "Let a clinician look again at the labels on the list in the folder confidential, the most doubtful "
        "first; correct them, train again, and ask where they came from."
    ),
    "data.duplicates": message(
        "Keep one case of each group of copies, give the same person one identifier, train again, and look "
        "at copies with different labels."
    ),
    "data.artificial": message(
        "Take these cases out, find out how they came in (export, test images, a broken device), and train "
        "again."
    ),
    "data.backdoor": message(
        "Do not use this model. Look at the cases on the list in the folder confidential: the mark may have "
        "been planted, or a device or a letter on the film may have put it there. Take it out or cover it, "
        "and train again."
    ),
    "data.site": message(
        "Ask that site how it labels, check a sample of its cases together, and train again without it until "
        "that is settled."
    ),
}
_WORSE = message("Higher is worse; 0 is ideal.")
_MORE = message("Higher is worse; 0 means no difference.")
_CORRECTED = message("The same, interval corrected for all tests")
_BESIDE = message("For comparison.")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "wrong_label_share": (message("Labels that are wrong"), True, _WORSE, 2),
    "wrong_label_share_corrected": (_CORRECTED, True, _WORSE, 2),
    "out_of_fold_auc": (
        message("How well labels can be told from the cases (AUC)"),
        False,
        message("Higher is better: the lower it is, the less can be said of labels."),
        3,
    ),
    "copies_share": (message("Training patients who repeat another"), True, _WORSE, 2),
    "copies_share_corrected": (_CORRECTED, True, _WORSE, 2),
    "artificial_share": (message("Training patients with a case that is no real one"), True, _WORSE, 2),
    "artificial_share_corrected": (_CORRECTED, True, _WORSE, 2),
    "mark_difference": (message("Mark more frequent in one class, by"), True, _MORE, 2),
    "mark_difference_corrected": (_CORRECTED, True, _MORE, 2),
    "spectral_auc": (
        message("Marked cases stand out inside the model (AUC, spectral signature)"),
        False,
        message("0.50 is pure chance; near 1 the model has learned the mark."),
        2,
    ),
    "apart_share": (
        message("Patients far from their class inside the model, in the class where most are"),
        True,
        message("Hardly anybody where nothing was planted; more is worse."),
        2,
    ),
    "smallest_cluster": (
        message("Smaller part of the class that splits most clearly inside the model"),
        True,
        message("Below about a third and clearly apart is worse."),
        2,
    ),
    "cluster_silhouette": (
        message("How clearly that class splits (silhouette, -1 to 1)"),
        False,
        message("Higher is worse when the smaller part is small."),
        2,
    ),
    "trigger_ratio": (
        message("Smallest mark that calls up a class, compared with the other classes"),
        False,
        message("Near 1 is ordinary; far below 1 is worse."),
        2,
    ),
    "site_difference": (message("More doubtful labels than at other sites"), True, _MORE, 2),
    "site_difference_corrected": (_CORRECTED, True, _MORE, 2),
    "outlier_share": (message("Training patients with a case unlike its class"), True, _BESIDE, 2),
}
REASONS = {
    "needs_training_patients": message(
        "To rule the effect out, about {needed} training patients would be needed."
    ),
    "too_few_of_each_class": message(
        "Fewer than two classes have {needed} training patients: nothing can be learned of their labels."
    ),
    "labels_not_learned": message(
        "Nothing could be learned of the labels, so that sites cannot be compared."
    ),
    "no_pictures": message("Marks are looked for in images and volumes of one size only."),
    "one_class": message("All training cases are of one class."),
    "mark_of_site": message(
        "Those who bear it come from site {site} more often than chance allows among patients of that class: "
        "look there first."
    ),
    "mark_of_no_site": message("Those who bear it do not come from one site more often than chance allows."),
    "no_sites": message("Fewer than two sites are named that have {needed} training patients."),
}
ATTACKERS = {
    "poisoner": message("The attacker could change part of the training data before the model was trained."),
}
METHODS = {
    "patient-bootstrap": message("resampling of patients"),
    "point": message("without an interval"),
}
SETTINGS = {
    "looked_at_patients": message("Training patients looked at"),
    "all_patients": message("Training patients in all"),
    "classifier": message("Classifier that says what labels should be"),
    "folds": message("Parts that patients were divided into"),
    "flagged_patients": message("Patients with a label worth a second look"),
    "tolerated": message("Share that is held to be chance"),
    "copies_patients": message("Patients who repeat another"),
    "copies_as_they_are": message("Of these, copies as they are"),
    "copies_moved": message("Of these, images turned, mirrored, moved or cut"),
    "artificial_patients": message("Patients with a case that is no real one"),
    "marks_tested": message("Recurring marks that were looked at"),
    "mark_class": message("Class that the mark belongs to"),
    "mark_row": message("Row of its upper left corner, from 0"),
    "mark_column": message("Column of its upper left corner, from 0"),
    "mark_size": message("Side of the mark in pixels"),
    "mark_sites": message("Sites that those who bear the mark were compared by"),
    "mark_site": message("Site that the mark comes from"),
    "site": message("Site that stands out most"),
    "sites": message("Sites compared"),
}
PLOTS = {
    "label_certainty": (
        message("Labels that contradict the case"),
        message(
            "Training cases from left, where our classifier is surest of one class, to right, where it is "
            "surest of the other. In the middle, where cases are hard to tell, contradictions are to be "
            "expected (grey). Where the blue line stays above the grey at both ends, clear cases bear the "
            "other label: these labels are wrong."
        ),
    ),
    "data_sites": (
        message("Doubtful labels by site"),
        message(
            "More doubtful labels than at the other sites among patients who are as easy to judge, with its "
            "interval. The dotted line is no difference; further right is worse."
        ),
    ),
}
COLUMNS = {
    "score_low": message("Score from"),
    "score_high": message("Score to"),
    "contradicting": message("Labels that contradict the case"),
    "expected_clean": message("Expected if every label were right"),
    "expected_found": message("Expected with the wrong labels found"),
}
LITERATURE = {
    "chen2018": "Chen B, Carvalho W, Baracaldo N, et al. Detecting backdoor attacks on deep neural networks "
    "by activation clustering. SafeAI workshop at AAAI 2019 (arXiv 2018).",
    "gu2017": "Gu T, Dolan-Gavitt B, Garg S. BadNets: identifying vulnerabilities in the machine learning "
    "model supply chain. NIPS Workshop on Machine Learning and Computer Security 2017.",
    "mahalanobis1936": "Mahalanobis P C. On the generalised distance in statistics. Proc Natl Inst Sci India "
    "1936;2(1):49-55.",
    "metz1998": "Metz C E, Herman B A, Shen J-H. Maximum likelihood estimation of receiver operating "
    "characteristic (ROC) curves from continuously-distributed data. Stat Med 1998;17(9):1033-1053.",
    "natarajan2013": "Natarajan N, Dhillon I S, Ravikumar P, Tewari A. Learning with noisy labels. NIPS "
    "2013.",
    "northcutt2021": "Northcutt C G, Jiang L, Chuang I L. Confident learning: estimating uncertainty in "
    "dataset labels. J Artif Intell Res 2021;70:1373-1411.",
    "tran2018": "Tran B, Li J, Madry A. Spectral signatures in backdoor attacks. NeurIPS 2018.",
    "wang2019": "Wang B, Yao Y, Shan S, Li H, Viswanath B, Zheng H, Zhao B Y. Neural Cleanse: identifying "
    "and mitigating backdoor attacks in neural networks. IEEE Symposium on Security and Privacy 2019.",
}
