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
    "membership": message("One query a case; {label_only_queries} for the attack on labels alone."),
    "bias": message("One query a later case of each model."),
    "attribute": message("One query for each value that the attribute can take."),
    "inversion": message("{steps} gradient steps a case."),
    "structure": message("None."),
}
SHADOW_COST = message(
    "Besides, {shadow_models} shadow models: comparable cases, and the time to train on them."
)
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
    "weights": message("The attacker holds the model itself."),
    "later": message("No attacker is needed: this is harm to the patient's own later care."),
}
