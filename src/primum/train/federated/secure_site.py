"""A site's side of secure aggregation."""

import os
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import Array
from flwr.common.secure_aggregation.crypto.shamir import create_shares

from primum.errors import InputError
from primum.train.federated.messages import asked_of
from primum.train.federated.secure import (
    MASKED,
    SECURE,
    SecureSettings,
    agreed_key,
    flat,
    own_mask,
    packed,
    pair_mask,
    public_of,
    weighted_words,
)
from primum.train.federated.sites import Site


class SecureAnswer:
    """Answers the stages of secure rounds, each once and in their order; anything else ends the round here.

    Parameters
    ----------
    site : Site
    settings : SecureSettings
        As agreed; a coordinator that asks for others is refused.
    secret : bytes
        What all sites know and the coordinator does not. Without it a coordinator that breaks the protocol
        could give every site keys of its own making instead of its neighbours'.
    held : RecordDict or None
        Where the site keeps its keys from one stage to the next: ``context.state`` where every message finds
        a process of its own. They are gone after the last stage.
    """

    def __init__(
        self, site: Site, *, settings: SecureSettings, secret: bytes = b"", held: RecordDict | None = None
    ) -> None:
        self._site, self._settings, self._secret = site, settings, secret
        self._held = RecordDict() if held is None else held

    def __call__(self, message: Message) -> Message:
        """Answer a stage.

        Raises
        ------
        InputError
            The coordinator asks for what was not agreed, or says two things at a time.
        """
        if SECURE not in message.content.config_records:
            raise InputError(
                "The coordinator asks {site} for an update in the clear, and --secure was agreed on: nothing "
                "is sent. Start the coordinator with --secure.",
                site=self._site.name,
            )
        stages = {"keys": self._keys, "shares": self._shares, "update": self._update, "unmask": self._unmask}
        # Taken away: no stage of a session is answered twice.
        state: dict[str, Any] = dict(self._held.config_records.pop(SECURE, {}))
        said: dict[str, Any] = dict(message.content.config_records[SECURE])
        stage, session = str(said.get("stage")), said.get("session")
        if stage == "keys" and isinstance(session, bytes):
            state = {"session": session, "due": "keys"}
        if session is None or (state.get("due"), state.get("session")) != (stage, session):
            raise InputError(
                "The coordinator asks {site} for a stage of secure aggregation that is not due: it gets "
                "nothing more of this round.",
                site=self._site.name,
            )
        return Message(stages[stage](said, state, message), reply_to=message)

    def _keep(self, state: dict[str, Any]) -> None:
        self._held.config_records[SECURE] = ConfigRecord(state)

    def _keys(self, said: dict[str, Any], state: dict[str, Any], message: Message) -> RecordDict:
        if any(said.get(name) != value for name, value in vars(self._settings).items()):
            raise InputError(
                "The coordinator and {site} have agreed on different things for secure aggregation: give the "
                "same bound, neighbours, threshold, bits and records to both.",
                site=self._site.name,
            )
        lock, mask, seed = X25519PrivateKey.generate(), X25519PrivateKey.generate(), os.urandom(32)
        private = {"lock": lock.private_bytes_raw(), "mask": mask.private_bytes_raw(), "seed": seed}
        self._keep({**state, **private, "due": "shares"})
        told = {"site": self._site.name, "lock": public_of(lock), "mask": public_of(mask)}
        return packed({**told, "pledge": sha256(seed).digest()})

    def _shares(self, said: dict[str, Any], state: dict[str, Any], message: Message) -> RecordDict:
        masks, locks = self._listed(said, "masks"), self._listed(said, "locks")
        count, threshold, own = len(masks), self._settings.threshold, public_of(_key(state, "mask"))
        few = not threshold <= count <= self._settings.neighbours
        if few or len({own, *masks}) != count + 1 or len(locks) != count:
            raise self._refusal()
        dealt = zip(*(create_shares(state[one], threshold, count) for one in ("seed", "mask")), strict=True)
        key, sealed = _key(state, "lock"), list[bytes]()
        for mask, lock, shares in zip(masks, locks, dealt, strict=True):
            nonce = os.urandom(12)
            box = self._box(key, lock, state["session"])
            sealed.append(nonce + box.encrypt(nonce, b"".join(shares), own + mask))
        self._keep({**state, "due": "update", "masks": masks, "locks": locks})
        return packed({"sealed": sealed})

    def _update(self, said: dict[str, Any], state: dict[str, Any], message: Message) -> RecordDict:
        locks = dict(zip(state["masks"], state["locks"], strict=True))
        neighbours, sealed = self._listed(said, "masks"), self._listed(said, "sealed")
        known = set(neighbours) & locks.keys()
        if len(known) < self._settings.threshold or not len(known) == len(neighbours) == len(sealed):
            raise self._refusal()
        lock, key = _key(state, "lock"), _key(state, "mask")
        opened = [
            self._open(self._box(lock, locks[mask], state["session"]), one, mask + public_of(key))
            for mask, one in zip(neighbours, sealed, strict=True)
        ]
        weights, asked = asked_of(message)
        trained = dict(self._site.train(weights, asked))
        if sorted(trained) != sorted(self._listed(said, "names", str)) or trained.keys() - weights.keys():
            raise InputError(
                "The coordinator asks {site} for other tensors than it trains: it trains another model.",
                site=self._site.name,
            )
        words = weighted_words(
            flat(trained) - flat({name: weights[name] for name in trained}),
            self._site.records,
            settings=self._settings,
            number=asked.number,
            site=self._site.name,
        )
        words += own_mask(state["seed"], len(words))
        for mask in neighbours:
            words += pair_mask(key, mask, len(words), session=state["session"])
        self._keep({"session": state["session"], "due": "unmask", "masks": neighbours, "opened": opened})
        # As they are: what comes under masks is parsed by nothing.
        array = Array("uint64", words.shape, "raw", words.astype("<u8").tobytes())
        return RecordDict({MASKED: ArrayRecord({MASKED: array})})

    def _unmask(self, said: dict[str, Any], state: dict[str, Any], message: Message) -> RecordDict:
        there, silent = self._listed(said, "there"), self._listed(said, "silent")
        # Each neighbour once: both shares of one would take its masks off its update.
        if sorted(there + silent) != sorted(state["masks"]) or len(there) < self._settings.threshold:
            raise self._refusal()
        held = dict(zip(state["masks"], state["opened"], strict=True))
        half = len(state["opened"][0]) // 2
        return packed({"shares": [held[one][:half] for one in there] + [held[one][half:] for one in silent]})

    def _listed(self, said: dict[str, Any], name: str, kind: type = bytes) -> list[Any]:
        listed = said.get(name)
        if not isinstance(listed, list) or not all(isinstance(one, kind) for one in listed):
            raise self._refusal()
        return listed

    def _refusal(self) -> InputError:
        return InputError(
            "The coordinator names fewer sites than {site} agreed to hide among, or the same one twice: it "
            "gets nothing more of this round.",
            site=self._site.name,
        )

    def _changed(self) -> InputError:
        return InputError(
            "What a neighbour sealed for {site} does not open: somebody changed keys on the way, or not "
            "all sites have the same secret.",
            site=self._site.name,
        )

    def _box(self, key: X25519PrivateKey, lock: bytes, session: bytes) -> AESGCM:
        try:
            return AESGCM(agreed_key(key, lock, purpose=b"lock", salt=session + self._secret))
        except ValueError as error:
            raise self._changed() from error

    def _open(self, box: AESGCM, sealed: bytes, both: bytes) -> bytes:
        """Open a neighbour's shares: made for the key of this site, and with the key that is masked with."""
        try:
            return box.decrypt(sealed[:12], sealed[12:], both)
        except (InvalidTag, ValueError) as error:
            raise self._changed() from error


def _key(state: dict[str, Any], name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(state[name])
