"""The words of a classifier's audit: its tests, and what each of its attackers has, needs and gets."""

from primum.report.language import message

TESTS = {
    "membership.entropy": (
        message("Modified entropy attack"),
        message("Sureness about the true class, weighed against sureness about the wrong ones."),
    ),
    "membership.label_only": (
        message("Attack on labels alone"),
        message("How much must a case be disturbed before the model calls it something else?"),
    ),
    "membership.quantile": (
        message("Attack with expected sureness"),
        message(
            "How sure would the model be of such a case if it had never seen it? That is learned from "
            "held-out cases; what lies above it is a sign of training."
        ),
    ),
    "membership.rmia": (
        message("RMIA, attack with few shadow models"),
        message("Is the model surer of this case than other models are, compared with cases at large?"),
    ),
    "membership.lira": (
        message("LiRA, attack with shadow models"),
        message(
            "Models trained in the same way with and without the case say how sure each kind is; which kind "
            "is the audited one?"
        ),
    ),
    "bias.future": (
        message("Training that shifts a patient's later predictions"),
        message(
            "Does having been among the training patients change what the model says of the same person's "
            "later cases?"
        ),
    ),
    "attribute.inferred": (
        message("Guessing a hidden attribute"),
        message(
            "Everything about a patient is known but one attribute; is it guessed better, with the model's "
            "answers, of training patients than of others?"
        ),
    ),
    "attribute.outputs": (
        message("Attributes in the model's answers"),
        message(
            "Do the model's answers or inner vectors tell a patient's sex, age or skin type, beyond what the "
            "diagnosis tells, for training patients more than for others?"
        ),
    ),
    "inversion.instance": (
        message("Completing a hidden half"),
        message(
            "Half of a case is hidden and drawn again from the model; is it nearest to the right patient, "
            "for training patients more than for others?"
        ),
    ),
    "inversion.class": (
        message("Drawing a typical case of a class"),
        message("A case is drawn from the model alone; does it come close to a training patient?"),
    ),
    "structure.stored": (
        message("Patients stored inside the model"),
        message("Are rows of training patients kept in the model's own files, as some kinds of model do?"),
    ),
    "structure.leaves": (
        message("Leaves that few patients share"),
        message("In how many of the model's trees does the patient's leaf hold fewer than five people?"),
    ),
    "structure.classes": (
        message("Leaves of one class"),
        message("In how many of the model's trees are all people of the patient's leaf of one class?"),
    ),
}
TITLES = {
    "bias": message("Later predictions shifted by training"),
    "attribute": message("Guessing a hidden attribute"),
    "inversion": message("Drawing cases out of the model"),
    "structure": message("Reading the model's files"),
}
MEANS = {
    "membership": message("The whole case, its true class, and the model's answer to it."),
    "bias": message("Later cases of the same patients, and models trained with and without them."),
    "attribute": message("The whole case but one attribute, its true class, and the model's answers."),
    "inversion": message("The model's weights; for completing, the other half of the case."),
    "structure": message("The model's files."),
}
ACCESS = {
    "membership": message("Black box with the probability of each class."),
    "bias": message("Black box with the probability of each class."),
    "attribute": message("Black box with the probability of each class."),
    "inversion": message("White box: the weights and their gradients."),
    "structure": message("White box: the files."),
}
COSTS = {
    "membership": message("One query a case."),
    "bias": message("One query a later case of each model."),
    "attribute": message("One query for each value that the attribute can take."),
    "inversion": message("{steps} gradient steps a case."),
    "structure": message("None."),
}
GAINS = {
    "inversion.instance": message(
        "In line-ups of {line_up} people of one class, the drawing is nearest to the right patient for "
        "{members} of the training patients and {held_out} of the patients never seen: a difference of "
        "{difference} ({interval}); pure chance is {chance:.0%}."
    ),
    "structure.stored": message(
        "A row of the patient is in the model's files for {members} of the training patients and {held_out} "
        "of the patients never seen: a difference of {difference} ({interval})."
    ),
}
LABEL_COST = message("{label_only_queries} queries a case for the attack on labels alone.")
SHADOW_COST = message(
    "Besides, {shadow_models} shadow models: comparable cases, and the time to train on them."
)
GROUP_PATTERNS = {
    "device": message("Device {value}"),
    "skin_type": message("Skin type {value}"),
    "ethnicity": message("Ethnicity: {value}"),
    "class": message("Class: {value}"),
}
CONTEXT = {
    "kind": message("What a case is"),
    "classes": message("Classes"),
    "unit": message("What is counted"),
    "training_balanced_accuracy": message("Right answers on training cases, mean over classes"),
    "held_out_balanced_accuracy": message("Right answers on held-out cases, mean over classes"),
}
REASONS = {
    "no_structure": message(
        "The model's files show no structure that can be read: this test needs a scikit-learn model."
    ),
    "no_trees": message("The model has no decision tree that can be read."),
    "no_sensitive_input": message(
        "No column of the table is marked as sensitive and varies, or the model is given no table."
    ),
    "no_attributes": message(
        "No attribute of the patients is known well enough to be guessed (sex, age, skin type, ethnicity)."
    ),
    "no_inputs": message("Only scores were given: nobody can tell whether cases are near-copies."),
    "no_later_cases": message("No patient has several cases, of which the last could be kept aside."),
}
ATTACKERS = {
    "probabilities": message(
        "The attacker holds a patient's case with its true class and sees the model's probabilities."
    ),
    "shadows": message(
        "The attacker holds a patient's case with its true class, sees the model's probabilities, and has "
        "trained models of the same kind."
    ),
    "all_but_one": message(
        "The attacker knows everything about a patient but one attribute and sees the model's probabilities."
    ),
    "outputs": message("The attacker sees what the model gives out about a patient's case."),
    "weights": message("The attacker holds the model itself."),
    "later": message("No attacker is needed: this is harm to the patient's own later care."),
}
