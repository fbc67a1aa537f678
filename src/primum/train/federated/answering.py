"""A site behind Flower's client: it answers what coordinators of Primum ask, and nothing else."""

from functools import partial

from flwr.app import Message

from primum.errors import InputError
from primum.train.federated.local_grid import Answer
from primum.train.federated.messages import asked_of, reply_content
from primum.train.federated.secure import SECURE
from primum.train.federated.sites import Site


def answer(site: Site) -> Answer:
    """Return what turns a message into the site's reply; it can be sent to another process."""
    return partial(_reply, site)


def _reply(site: Site, message: Message) -> Message:
    if SECURE in message.content.config_records:
        raise InputError(
            "The coordinator asks for masked updates: start this site with --secure, as agreed on with the "
            "others."
        )
    weights, asked = asked_of(message)
    arrays = site.train(weights, asked)
    counts = {"records": site.records, "patients": site.patients}
    content = reply_content(site.name, arrays, **counts, noise=site.noise)
    return Message(content, reply_to=message)
