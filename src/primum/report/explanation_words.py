"""The words of the explanation family: whether what is shown beside a verdict can be believed."""

from primum.report.language import message

TESTS = {
    "explanations.faithful": (
        message("Does the explanation show what the model looks at?"),
        message(
            "The parts of a case that the explanation calls important are taken away, or shown alone. Does "
            "the model's answer follow, more than it would for parts that anyone could choose without the "
            "model?"
        ),
    ),
    "explanations.weights": (
        message("Does the explanation depend on the model?"),
        message(
            "The model's weights are replaced by random ones. An explanation that stays the same does not "
            "explain this model."
        ),
    ),
    "explanations.methods": (
        message("Other ways of explaining, compared"),
        message("The first question, asked of each method: which of them shows what this model looks at?"),
    ),
    "explanations.agreement": (
        message("Do different explanations agree?"),
        message("Each method ranks the parts of a case; how alike are their rankings, on average?"),
    ),
    "explanations.stability": (
        message("Does the explanation stay when nothing changes?"),
        message(
            "A little noise is added that does not turn the verdict. How alike is the new explanation to the "
            "old one?"
        ),
    ),
    "explanations.planted": (
        message("Is a known answer found?"),
        message(
            "A model made for this test looks at a few known parts of the same cases and at nothing else. "
            "Does each method name these parts?"
        ),
    ),
}
MEANS = {"explanations": message("Held-out cases, and the model's answers to changed copies of them.")}
ACCESS = {
    "explanations": message("Black box with the probability of each class; the weights for some methods.")
}
COSTS = {"explanations": message("Some hundreds of queries a case, thousands for some methods.")}
GAINS = {
    "explanations.faithful": message(
        "{explainer_name} misses {missed_share} ({missed_share_interval}) of what could be shown of this "
        "model beyond a drawing made without it."
    ),
    "explanations.weights": message(
        "With random weights in the model, {explainer_name} still ranks the parts of a case as before with a "
        "correlation of {weights_likeness} ({weights_likeness_interval})."
    ),
}
ADVICE = {
    "explanations.faithful": message(
        "Do not show these explanations to clinicians: they would trust or reject the model for a wrong "
        "reason. Look at the comparison of methods and show one that misses little, or show none."
    ),
    "explanations.weights": message(
        "Do not show these explanations: they would look the same for a model that has learned nothing. They "
        "draw the case, not the model."
    ),
}
_MISSED = message(
    "Higher is worse; 0 misses nothing, 100% is no better than a drawing made without the model."
)
_GAIN = message("Lower is worse; 0 is a random order.")
_LIKE = message("Higher is worse; 0 is another explanation, 1 the same.")
_ALIKE = message("Lower is worse; 1 is the same ranking, 0 none in common.")
_FOUND = message("Lower is worse; 1.00 is right, 0.50 pure chance.")
_COMPARED = message("For comparison.")
_CORRECTED = message("The same, interval corrected for all tests")
# By estimate: label, whether per cent, which way is worse, digits.
QUANTITIES = {
    "missed_share": (message("Missed of what the explanation could show"), True, _MISSED, 2),
    "missed_share_corrected": (_CORRECTED, True, _MISSED, 2),
    "gain_explained": (message("What follows from the order of the explanation"), False, _GAIN, 2),
    "gain_best": (message("The same for the best order found"), False, _COMPARED, 2),
    "gain_free": (message("The same for an order made without the model"), False, _COMPARED, 2),
    "gain_random": (message("The same for random orders"), False, _COMPARED, 2),
    "weights_likeness": (message("Likeness under random weights (rank correlation)"), False, _LIKE, 2),
    "weights_likeness_corrected": (_CORRECTED, False, _LIKE, 2),
    "weights_absolute": (message("Likeness of sizes alone, whatever their sign"), False, _COMPARED, 2),
    "input_alone": (message("Likeness to the case itself, without any model"), False, _COMPARED, 2),
    "missed_share:grad_cam": (message("Missed by Grad-CAM"), True, _MISSED, 2),
    "missed_share:integrated_gradients": (message("Missed by Integrated Gradients"), True, _MISSED, 2),
    "missed_share:kernel_shap": (message("Missed by KernelSHAP"), True, _MISSED, 2),
    "missed_share:lime": (message("Missed by LIME"), True, _MISSED, 2),
    "missed_share:occlusion": (message("Missed by Occlusion"), True, _MISSED, 2),
    "agreement:grad_cam": (message("Agreement of Grad-CAM with the others"), False, _ALIKE, 2),
    "agreement:integrated_gradients": (
        message("Agreement of Integrated Gradients with the others"),
        False,
        _ALIKE,
        2,
    ),
    "agreement:kernel_shap": (message("Agreement of KernelSHAP with the others"), False, _ALIKE, 2),
    "agreement:lime": (message("Agreement of LIME with the others"), False, _ALIKE, 2),
    "agreement:occlusion": (message("Agreement of Occlusion with the others"), False, _ALIKE, 2),
    "stability:grad_cam": (message("Likeness under a little noise, Grad-CAM"), False, _ALIKE, 2),
    "stability:integrated_gradients": (
        message("Likeness under a little noise, Integrated Gradients"),
        False,
        _ALIKE,
        2,
    ),
    "stability:kernel_shap": (message("Likeness under a little noise, KernelSHAP"), False, _ALIKE, 2),
    "stability:lime": (message("Likeness under a little noise, LIME"), False, _ALIKE, 2),
    "stability:occlusion": (message("Likeness under a little noise, Occlusion"), False, _ALIKE, 2),
    "planted:grad_cam": (message("Known parts found by Grad-CAM (AUC)"), False, _FOUND, 2),
    "planted:integrated_gradients": (
        message("Known parts found by Integrated Gradients (AUC)"),
        False,
        _FOUND,
        2,
    ),
    "planted:kernel_shap": (message("Known parts found by KernelSHAP (AUC)"), False, _FOUND, 2),
    "planted:lime": (message("Known parts found by LIME (AUC)"), False, _FOUND, 2),
    "planted:occlusion": (message("Known parts found by Occlusion (AUC)"), False, _FOUND, 2),
}
REASONS = {
    "explanations_needs_patients": message(
        "To tell, about {needed} held-out patients would be needed if the explanation missed half."
    ),
    "explanations_no_headroom": message(
        "The model's answer hardly depends on which parts of a case it sees: there is nothing to explain."
    ),
    "explanations_no_patients": message("There are no held-out patients whose cases could be explained."),
    "explanations_needs_answers": message(
        "Only recorded answers were given: nobody can ask what the model says of a changed case."
    ),
    "explanations_needs_captum": message(
        "The explainers are not installed: install Primum with its images extra."
    ),
    "explanations_needs_weights": message(
        "The model's weights cannot be changed through this door: give the model as a torch module."
    ),
    "explanations_needs_gradients": message(
        "{method} needs the model's gradients: give the model as a torch module."
    ),
    "explanations_no_convolution": message(
        "{method} needs a convolution whose picture goes straight to the answer; this model has none."
    ),
    "explanations_needs_numbers": message("{method} needs inputs that can change little by little."),
    "explanations_missing_values": message("{method} cannot deal with values that are missing."),
    "explanations_failed": message("{method} fails on this model: its layers let no gradient pass."),
    "explanations_letters": message("Letters cannot change a little."),
    "explanations_not_planted": message("The test model needs numbers of one shape, none of them missing."),
}
METHODS = {
    "fieller": message("ratio of means by patient (Fieller)"),
    "t-patients": message("mean by patient"),
    "t-patients-draws": message("mean by patient and by draw of the weights"),
}
SETTINGS = {
    "explainer_name": message("Explanation that is judged"),
    "explained_patients": message("Held-out patients whose case was explained"),
    "parts": message("Parts a case, at most"),
    "random_orders": message("Random orders a case"),
    "redrawn": message("Models with random weights"),
    "noise_of_spread": message("Noise, in deviations of the values"),
}
PLOTS = {
    "explanations_deletion": (
        message("What the model says when the important parts are taken away"),
        message(
            "From left to right more and more of a case is taken away, the most important part first. The "
            "faster the solid line falls below the grey band of a random order, the more the explanation "
            "shows of what the model looks at. If it is not below the orange line, which anyone can draw "
            "without the model, the explanation is worth nothing. The dotted line is the best order that was "
            "found by asking the model."
        ),
    ),
    "explanations_insertion": (
        message("What the model says when it is shown the important parts alone"),
        message(
            "From left to right more and more of a case is shown, the most important part first. The faster "
            "the solid line rises above the grey band of a random order and above the orange line, which "
            "anyone can draw without the model, the better. The dotted line is the best order that was found "
            "by asking the model."
        ),
    ),
    "explanations_weights": (
        message("How the explanation changes when the model forgets"),
        message(
            "From left to right more layers of the model have random weights, the last layer first. The "
            "explanation should become another one: the solid line should fall to about 0. If it stays above "
            "the thin line, the explanation hardly depends on the model. The dashed line compares sizes "
            "alone, whatever their sign; it stays higher where the case itself shapes the picture."
        ),
    ),
}
# What is written on the plots.
AXES = {
    "explanations_deletion": (message("parts taken away"), message("the model's verdict (probability)")),
    "explanations_insertion": (message("parts shown"), message("the model's verdict (probability)")),
    "explanations_weights": (message("layers with random weights"), message("likeness (rank correlation)")),
}
COLUMNS = {
    "parts_changed": message("Share of the parts"),
    "explained_order": message("Order of the explanation"),
    "explained_order_low": message("Lower bound"),
    "explained_order_high": message("Upper bound"),
    "model_free_order": message("Order made without the model"),
    "best_order": message("Best order found"),
    "random_order": message("Random order"),
    "random_order_low": message("Lower bound"),
    "random_order_high": message("Upper bound"),
    "layers_redrawn": message("Layers with random weights"),
    "likeness": message("Likeness"),
    "likeness_low": message("Lower bound"),
    "likeness_high": message("Upper bound"),
    "likeness_absolute": message("Likeness of sizes alone"),
}
LITERATURE = {
    "adebayo2018": "Adebayo J, Gilmer J, Muelly M, Goodfellow I, Hardt M, Kim B. Sanity checks for saliency "
    "maps. NeurIPS 2018.",
    "alvarezmelis2018": "Alvarez-Melis D, Jaakkola T S. On the robustness of interpretability methods. ICML "
    "Workshop on Human Interpretability in Machine Learning 2018.",
    "binder2023": "Binder A, Weber L, Lapuschkin S, Montavon G, Müller K-R, Samek W. Shortcomings of "
    "top-down randomization-based sanity checks for evaluations of deep neural network explanations. CVPR "
    "2023.",
    "blucher2024": "Blücher S, Vielhaben J, Strodthoff N. Decoupling pixel flipping and occlusion strategy "
    "for consistent XAI benchmarks. Transactions on Machine Learning Research 2024.",
    "castro2009": "Castro J, Gómez D, Tejada J. Polynomial calculation of the Shapley value based on "
    "sampling. Comput Oper Res 2009;36(5):1726-1730.",
    "fieller1954": "Fieller E C. Some problems in interval estimation. J R Stat Soc B 1954;16(2):175-185.",
    "krishna2024": "Krishna S, Han T, Gu A, et al. The disagreement problem in explainable machine "
    "learning: a practitioner's perspective. Transactions on Machine Learning Research 2024.",
    "petsiuk2018": "Petsiuk V, Das A, Saenko K. RISE: randomized input sampling for explanation of black-box "
    "models. BMVC 2018.",
    "waudbysmith2024": "Waudby-Smith I, Ramdas A. Estimating means of bounded random variables by betting. "
    "J R Stat Soc B 2024;86(1):1-27.",
    "yang2019": "Yang M, Kim B. Benchmarking attribution methods with relative feature importance. "
    "arXiv:1907.09701, 2019.",
}
