"""Secure aggregation: sums that a coordinator learns without seeing what is added. What both sides share.

SecAgg+ over Flower's messages. Sites add masks to their updates that cancel in the sum: one with each of some
neighbours, known to both of them, and one of their own. Both are dealt to the neighbours as shares of a
secret, so that the sum can be found when sites fall silent. Four stages, each a message and its answer:

keys     every site makes fresh keys
shares   it seals shares of its two secrets for its neighbours
update   it trains and sends its weighted, clipped, rounded, masked update
unmask   neighbours open shares: of a site's own mask if its update came, of its key if not, never both

References
----------
Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS 2017. Bell et al.,
Secure single-server aggregation with (poly)logarithmic overhead, CCS 2020 (SecAgg+).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from primum.errors import InputError, MachineError
from primum.train.federated.aggregation import clipped, usable_rows
from primum.train.federated.settings import FederatedSettings

Words = NDArray[np.uint64]
SECURE, MASKED = "secure", "masked"
_FEWEST = 3


@dataclass(frozen=True)
class SecureSettings:
    """What the coordinator and every site agree on; a site answers no others.

    Attributes
    ----------
    bound : float
        Largest norm of an update: every site shortens its own before it is masked, where none can check.
    bound_before : float
        The same for what is agreed on in round 0.
    neighbours : int
        Sites that hold shares of a site's secrets; an even number. Where there are no more, all others.
    threshold : int
        Shares that open a secret: more than half of the neighbours, since each gives one of two and could be
        told another story than the next. Any `neighbours - threshold` sites may fall silent: five of 15.
    bits : int
        Of each number of an update, from minus to plus the bound: the mean is off by no more than half of
        one of 2^bits steps, `bound / 2**bits`, in each coordinate, the sum of rounded numbers by nothing.
    most_records : int
        A site counts as many times as it has records, up to so many; 1: all sites count alike.
    """

    bound: float
    bound_before: float = 1.0
    neighbours: int = 14
    threshold: int = 9
    bits: int = 32
    most_records: int = 1 << 24

    def __post_init__(self) -> None:
        if not 0 < self.bound < np.inf or not 0 < self.bound_before < np.inf:
            raise InputError("Secure aggregation needs a bound on the norm of updates, above zero.")
        if self.neighbours % 2 or not 2 <= self.threshold <= self.neighbours < 2 * self.threshold:
            raise InputError(
                "Secure aggregation needs an even number of neighbours and a threshold above half of it: not "
                "{neighbours} and {threshold}.",
                neighbours=self.neighbours,
                threshold=self.threshold,
            )
        if not 2 <= self.bits <= 52 or self.most_records < 1:
            raise InputError(
                "Secure aggregation rounds to 2 to 52 bits, and counts at least one record of each site."
            )

    def step(self, number: int) -> float:
        """Return what the last bit of a rounded number is worth in a round."""
        return self.limit(number) * 2.0 ** (1 - self.bits)

    def limit(self, number: int) -> float:
        """Return the largest norm of a site's update in a round."""
        return self.bound if number else self.bound_before

    def require_room(self, sites: int) -> None:
        """Refuse more sites than the sum has bits for.

        Raises
        ------
        InputError
        """
        if sites * self.most_records * 2 ** (self.bits - 1) >= 2**63:
            raise InputError(
                "Sums of {sites} sites with {records} records each do not fit {bits} bits a number: ask for "
                "fewer bits, or count fewer records of a site.",
                sites=sites,
                records=self.most_records,
                bits=self.bits,
            )


def masking(bound: float, *, sites: int, least: int = 2, before: bool = True) -> SecureSettings:
    """Choose how sites hide among each other: the same at both ends, from what was agreed.

    A neighbour opens at most `neighbours - threshold` keys, so that a coordinator that tells sites different
    stories of who fell silent opens at most ``sites * (neighbours - threshold) / threshold`` of them, and of
    the `threshold + 1` sites that hide together no more can be taken out of the sum.

    Parameters
    ----------
    bound : float
        Largest norm of an update.
    sites : int
        That have the secret; 15 of them hide among 14, and five may fall silent.
    least : int
        Fewest sites in a sum, whatever the coordinator says; more: fewer may fall silent.
    before : bool
        Whether a round 0 agrees on means of unit vectors, whatever the bound of updates.

    Raises
    ------
    InputError
        Too few sites, or no bound.
    """
    if sites < _FEWEST:
        raise InputError("Secure aggregation needs three sites or more, not {sites}.", sites=sites)
    neighbours = min(14, (sites - 1) // 2 * 2)
    for threshold in range(neighbours // 2 + 1, neighbours + 1):
        opened = sites * (neighbours - threshold) // threshold
        if threshold + 1 - opened >= least:
            return SecureSettings(bound, 1.0 if before else bound, neighbours, threshold)
    raise InputError(
        "Of {sites} sites at most {most} can be held together in every sum: ask for no more with "
        "--least-sites.",
        sites=sites,
        most=neighbours + 1,
    )


def require_summable(settings: FederatedSettings, *, detector: bool = False) -> None:
    """Refuse what cannot be done with nothing but the sum of updates.

    Parameters
    ----------
    settings : FederatedSettings
    detector : bool
        Whether sites that speak against themselves are to be found.

    Raises
    ------
    InputError
        A rule that looks at each update, the detector, noise for each site, or no bound.
    """
    if settings.rule != "mean":
        raise InputError(
            "The rule {rule} compares the updates of single sites, and secure aggregation shows the "
            "coordinator nothing but their sum: give up one of the two. With secure aggregation take the "
            "rule mean and --clip-updates, which each site does before it masks.",
            rule=settings.rule.replace("_", " "),
        )
    if detector:
        raise InputError(
            "Who is malicious is told from the updates of single sites, and secure aggregation shows the "
            "coordinator nothing but their sum: give up one of the two."
        )
    if settings.site_noise:
        raise InputError(
            "With secure aggregation nobody sees what one site sends: leave out {option}.",
            option="--site-noise",
        )
    if settings.bound is None:
        raise InputError("Secure aggregation needs a bound on the norm of updates: give --clip-updates.")


def weighted_words(
    update: NDArray[np.float64], records: int, *, settings: SecureSettings, number: int, site: str
) -> Words:
    """Round what a site adds to the sum, modulo 2^64: its update times its weight, and then the weight.

    Parameters
    ----------
    update : float array, shape (d,)
        What training changed.
    records : int
        Of the site.
    settings : SecureSettings
    number : int
        Of the round.
    site : str
        Named where its update cannot be used.

    Returns
    -------
    array of uint64, shape (d + 1,)
        Two's complement.

    Raises
    ------
    InputError
        The update holds NaN, infinite or absurdly large numbers.
    """
    for refusal in usable_rows(update[None], [site])[1]:
        raise refusal
    short = clipped(update[None], settings.limit(number))[0]
    weight = min(records, settings.most_records)
    whole = np.rint(short / settings.step(number)).astype(np.int64) * weight
    return np.append(whole, weight).view(np.uint64)


def mean_of(
    total: Words, sites: int, *, settings: SecureSettings, number: int
) -> tuple[NDArray[np.float64], int]:
    """Turn the sum of what sites added into their weighted mean.

    Parameters
    ----------
    total : array of uint64, shape (d + 1,)
    sites : int
        Whose words were summed.
    settings : SecureSettings
    number : int
        Of the round.

    Returns
    -------
    float array, shape (d,)
        Off the weighted mean of clipped updates by half a step in each coordinate at most.
    int
        Sum of the weights.

    Raises
    ------
    MachineError
        No honest sites make such a sum. What each of them sent cannot be told.
    """
    signed = total.view(np.int64)
    weight, step = int(signed[-1]), settings.step(number)
    mean = signed[:-1] / np.float64(weight) * step if 0 < weight <= sites * settings.most_records else None
    # Rounding may lengthen an update by half a step in each coordinate.
    longest = settings.limit(number) * (1 + 1e-9) + step / 2 * sqrt(len(total))
    if mean is None or not np.linalg.norm(mean) <= longest:
        raise MachineError(
            "The sum of updates in round {number} is none that sites make which keep to the bound: one of "
            "them does not, and secure aggregation hides which. Train without it to see.",
            number=number,
        )
    return mean, weight


def public_of(private: X25519PrivateKey) -> bytes:
    """Return the public half of a key, 32 bytes."""
    return private.public_key().public_bytes_raw()


def agreed_key(private: X25519PrivateKey, public: bytes, *, purpose: bytes, salt: bytes) -> bytes:
    """Return the 32 bytes that two sites have in common, and nobody else.

    Raises
    ------
    ValueError
        The public key is none.
    """
    common = private.exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(SHA256(), 32, salt=salt, info=b"primum " + purpose).derive(common)


def own_mask(seed: bytes, count: int) -> Words:
    """Stretch a secret of 32 bytes, never used again, into `count` words that look random."""
    # 16 bytes of counter and nonce.
    stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    return np.frombuffer(stream, "<u8").astype(np.uint64)


def pair_mask(private: X25519PrivateKey, public: bytes, count: int, *, session: bytes) -> Words:
    """Return what a site adds for a neighbour: the neighbour adds the same with the other sign."""
    mask = own_mask(agreed_key(private, public, purpose=b"mask", salt=session), count)
    # Modulo 2^64, minus is two's complement.
    return mask if public_of(private) < public else np.negative(mask)


def flat(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Put tensors one after the other, in the order of their names."""
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in sorted(arrays)])


def shaped(numbers: NDArray[np.float64], like: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Undo :func:`flat`."""
    names = sorted(like)
    parts = np.split(numbers, np.cumsum([like[name].size for name in names])[:-1])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}


def packed(told: Mapping[str, Any]) -> RecordDict:
    """Pack what a stage says, on either side."""
    return RecordDict({SECURE: ConfigRecord(dict(told))})
