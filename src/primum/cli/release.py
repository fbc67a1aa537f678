"""``primum release``: keep models, and decide which one may answer."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from primum.cli import options, release_options
from primum.cli.release_read import add_reading
from primum.cli.release_run import add_running
from primum.cli.release_words import STATES, TO
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

release_app = typer.Typer(
    help=message("Keep models, and decide which one may answer."),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_HERE = Path("registry")


@release_app.command(
    "init",
    help=message(
        "Make a registry under a policy.\n\n"
        "Example: primum release init --policy release.toml --registry registry --trail trail.db"
    ),
)
def init(
    policy: Annotated[Path, typer.Option("--policy", help=message("The policy, release.toml."))],
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Check the policy and make the folder."""
    from primum.release.policy_checks import read_policy
    from primum.release.registry import Registry
    from primum.release.toml_tables import read_bytes

    content = read_bytes(policy)
    read_policy(content, file=policy.name)
    with release_options.recorder(trail) as heard:
        made = Registry.create(registry, content, heard, by=release_options.account(by))
    language = Language(lang or preferred_language())
    print(
        language.text(
            "The registry is there, under the policy {digest}: {path}",
            digest=made.standing.policy[:12],
            path=str(registry),
        )
    )
    return 0


@release_app.command(
    "register",
    help=message(
        "Take a model and its card in: safetensors or ONNX, copied and named by its bytes.\n\n"
        "Example: primum release register model/ --card card.toml"
    ),
)
def register(
    artefact: Annotated[Path, typer.Argument()],
    card: Annotated[Path, typer.Option("--card", help=message("Release card, TOML or JSON."))],
    key: release_options.OptionalKey = None,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Register a model."""
    from primum.release.intake import register as take

    with release_options.opened(registry, trail) as one:
        digest = take(one, artefact, card, by=by, key=release_options.private_key(key))
    print(Language(lang or preferred_language()).text("Registered: {digest}", digest=digest))
    return 0


@release_app.command(
    "findings",
    help=message(
        "Take the signed findings of an audit, a certification or a conversion in.\n\n"
        "Example: primum release findings report/ --public-key auditor.pem"
    ),
)
def findings(
    directory: Annotated[Path, typer.Argument()],
    public_key: options.PublicKey = None,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Take findings in."""
    from primum.evidence.signature import read_public_key
    from primum.release.intake import take_findings

    key = read_public_key(public_key) if public_key else None
    with release_options.opened(registry, trail) as one:
        model, _ = take_findings(one, directory, key, by=release_options.account(by))
    print(Language(lang or preferred_language()).text("Taken in, for model {digest}.", digest=model[:12]))
    return 0


@release_app.command(
    "decide",
    help=message(
        "Ask the policy about a model, and keep the answer for the committee to sign.\n\n"
        "Exit status: 0 every rule passes, 1 some fail, 2 unusable input, 4 the machine.\n\n"
        "Example: primum release decide chest:2"
    ),
)
def decide(
    registered: release_options.Registered,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Make a decision and show each rule."""
    from primum.cli.release_shown import decision_table
    from primum.release.acts import decide as ask

    language = Language(lang or preferred_language())
    with release_options.opened(registry, trail) as one:
        decision = ask(one, one.find(registered).digest, by=release_options.account(by))
    Console(highlight=False).print(decision_table(decision, language))
    sentence = message("The policy allows it, once the committee has signed: decision {digest}.")
    if not decision.passed:
        sentence = message("The policy does not allow it: decision {digest}.")
    print(language.text(sentence, digest=decision.digest[:12]))
    return 0 if decision.passed else 1


def _cast(
    word: Literal["approve", "reject", "revoke"],
    registered: str,
    key: Path,
    registry: Path,
    trail: str | None,
    lang: Literal["fr", "en"] | None,
    comment: str,
    phase: Literal["approved", "shadow", "canary", "live"] = "approved",
) -> int:
    from primum.evidence.signature import read_private_key
    from primum.release.acts import cast

    signing = read_private_key(key)
    with release_options.opened(registry, trail) as one:
        model = one.find(registered)
        signed = cast(one, model.digest, word, key=signing, comment=comment, phase=phase)
        print(
            Language(lang or preferred_language()).text(
                "Signed as {name}, {role}, about model {digest}.",
                name=signed.statement.name,
                role=signed.statement.role,
                digest=model.digest[:12],
            )
        )
    return 0


@release_app.command(
    "approve",
    help=message(
        "Approve a model as it stands now, with your key; the policy says how many must.\n\n"
        'Example: primum release approve chest:2 --key ada.pem --comment "read the audit"'
    ),
)
def approve(
    registered: release_options.Registered,
    key: release_options.PersonKey,
    comment: release_options.Comment = "",
    phase: release_options.ForPhase = "approved",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Sign an approval."""
    return _cast("approve", registered, key, registry, trail, lang, comment, phase)


@release_app.command(
    "reject",
    help=message(
        "Reject a model, with your key: your earlier approval counts no more.\n\n"
        'Example: primum release reject chest:2 --key ada.pem --comment "too few children"'
    ),
)
def reject(
    registered: release_options.Registered,
    key: release_options.PersonKey,
    comment: release_options.Comment = "",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Sign a rejection."""
    return _cast("reject", registered, key, registry, trail, lang, comment)


@release_app.command(
    "revoke",
    help=message(
        "Take your approval back, whatever the model's state; a canary that loses its quorum is rolled "
        "back.\n\nExample: primum release revoke chest:2 --key ada.pem"
    ),
)
def revoke(
    registered: release_options.Registered,
    key: release_options.PersonKey,
    comment: release_options.Comment = "",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Sign a revocation."""
    return _cast("revoke", registered, key, registry, trail, lang, comment)


@release_app.command(
    "adopt",
    help=message(
        "Sign for another policy, under the one in force; it holds once the quorum has signed.\n\n"
        "Example: primum release adopt release-2.toml --key ada.pem"
    ),
)
def adopt(
    policy_file: Annotated[Path, typer.Argument()],
    key: release_options.PersonKey,
    comment: release_options.Comment = "",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Sign for a policy."""
    from primum.evidence.signature import read_private_key
    from primum.release.acts import adopt as sign_for
    from primum.release.toml_tables import read_bytes

    signing, content = read_private_key(key), read_bytes(policy_file)
    with release_options.opened(registry, trail) as one:
        holds = sign_for(one, content, key=signing, comment=comment, file=policy_file.name)
    sentence = message("Signed: the policy is not in force yet, other signatures are needed.")
    if holds:
        sentence = message(
            "Signed: the policy is in force, and approvals under the earlier one count no more."
        )
    print(Language(lang or preferred_language()).text(sentence))
    return 0


@release_app.command(
    "advance",
    help=message(
        "Take a model to its next state, where the policy and the signatures allow it.\n\n"
        "Example: primum release advance chest:2 --to canary --share 0.05 --key operator.pem"
    ),
)
def advance(
    registered: release_options.Registered,
    to: Annotated[
        Literal["approved", "shadow", "canary", "live", "retired", "candidate"],
        typer.Option("--to", help=message("The state; candidate opens a stopped model again.")),
    ],
    key: release_options.PersonKey,
    share: Annotated[
        float | None,
        typer.Option("--share", help=message("Of the patients that the canary answers, between 0 and 1.")),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help=message("Why; kept in the registry."))] = "",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Take a step."""
    from primum.evidence.signature import read_private_key
    from primum.release.acts import step

    signing = read_private_key(key)
    with release_options.opened(registry, trail) as one:
        model = one.find(registered)
        after = step(one, model.digest, TO[to], key=signing, share=share, reason=reason)  # type: ignore[arg-type]
    _say_state(model.digest, after.models[model.digest].state, lang)
    return 0


@release_app.command(
    "roll-back",
    help=message(
        "Stop a model at once, from the next request on; nobody's signature is needed.\n\n"
        "Example: primum release roll-back chest:2 --reason error_rate"
    ),
)
def roll_back(
    registered: release_options.Registered,
    reason: Annotated[str, typer.Option("--reason", help=message("Why; kept in the registry."))],
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Roll a model back."""
    from primum.release.acts import step

    if not reason.strip():
        raise InputError("A rollback says why: give --reason.")
    with release_options.opened(registry, trail) as one:
        model = one.find(registered)
        after = step(one, model.digest, "roll_back", by=release_options.account(by), reason=reason)
    _say_state(model.digest, after.models[model.digest].state, lang)
    return 0


def _say_state(digest: str, state: str, lang: Literal["fr", "en"] | None) -> None:
    language = Language(lang or preferred_language())
    said = language.text(STATES[state])
    print(language.text("Model {digest} is now: {state}.", digest=digest[:12], state=said))


add_reading(release_app)
add_running(release_app)
