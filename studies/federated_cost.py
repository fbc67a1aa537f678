"""What a round between fifteen hospitals costs, beside the same work on all images in one place.

PneumoniaMNIST (4,708 training images of 28 × 28), dealt to 15 unequal sites. *Scattering*: five gradient
steps of a linear layer over 2,025 features, which each site computes once, before its first round.
*Convolutional*: one pass of AdamW over 60,706 parameters in batches of 32. Central: as many steps over as
many images by one process, without a message.

In process: every site in one process, Flower's messages between them. Ray: two workers, to which a site
travels with its images in every round. Deployed: a coordinator and 15 site processes over TLS on one machine,
by the command line; a site asks every third of a second whether there is something to do, more seldom
after long silence.

Every row is a run of its own, with one thread in each process; told are seconds of the processor a round, of
all processes of the run, and seconds of the clock, means over rounds from the second on: what starts only
once (imports, features, Ray itself) is in neither. Memory is what the processes of the run do not share with
others (USS), summed, the most that was seen at the end of a round; libraries are most of it.

    python -m studies.federated_cost
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from studies.tables import Table, write_page

SITES, ROUNDS, PARTITION = 15, 8, 2000
MODELS = {"scattering": (5, 80.0), "image": (1, 3e-3)}
NAMED = {"scattering": "scattering", "image": "convolutional"}
FORMS = {"central": "central", "process": "in process", "ray": "Ray, 2 workers", "deployed": "deployed"}
Mark = tuple[float, float, float]


def marked() -> Mark:
    """Seconds of the clock and of all processes of this run so far, and MiB that they alone hold."""
    seconds, held = 0.0, 0
    here = psutil.Process()
    for one in (here, *here.children(recursive=True)):
        with suppress(psutil.Error):
            spent = one.cpu_times()
            seconds += spent.user + spent.system
            held += one.memory_full_info().uss
    return time.perf_counter(), seconds, held / 2**20


def a_round(marks: Sequence[Mark]) -> list[float]:
    """Seconds of the processor, of the clock, and MiB."""
    clock, spent, held = np.array(marks).T
    rounds = len(marks) - 1
    return [(spent[-1] - spent[0]) / rounds, (clock[-1] - clock[0]) / rounds, float(held.max())]


def cases() -> tuple[Any, list[Any]]:
    """All training images, and those of each site."""
    from studies.attacks import DATA, cases_of
    from studies.fifteen_hospitals import dealt

    train = cases_of(np.load(DATA), "train")
    return train, dealt(train, PARTITION, 1.0)


def sites_of(network: str, parts: Sequence[Any]) -> tuple[list[Any], Any]:
    """Make the sites, and the model that they start from."""
    from dataclasses import replace

    from primum.train.federated.sites import LinearSite, NetworkSite
    from primum.train.learners import CaseLearner
    from primum.train.private_linear import LinearSettings
    from studies.fifteen_hospitals import IMAGE, LOOP

    recipe = replace(IMAGE, network=network, width=None)
    models = [recipe.build(one, seed=0) for one in parts]
    plain = LinearSettings(None)
    if network == "scattering":
        made: list[Any] = [
            LinearSite(f"{at}", model, one, settings=plain)
            for at, (model, one) in enumerate(zip(models, parts, strict=True))
        ]
    else:
        made = [
            NetworkSite(f"{at}", CaseLearner(recipe, one), model, loop=LOOP)
            for at, (model, one) in enumerate(zip(models, parts, strict=True))
        ]
    return made, recipe.build(parts[0], seed=0)


def alone(network: str) -> list[float]:
    """Do a round's work in one place."""
    from primum.train.federated.sites import Round, travelling

    whole, _ = cases()
    (site,), model = sites_of(network, [whole])
    weights, before = travelling(model.module)
    epochs, rate = MODELS[network]
    marks = []
    for number in range(0 if before else 1, ROUNDS + 1):
        weights = {**weights, **site.train(weights, Round(number, epochs, rate, seed=number))}
        if number:
            marks.append(marked())
    return a_round(marks)


def between(network: str, count: int) -> list[float]:
    """Train between sites of this process, or of Ray's workers."""
    from primum.train.federated.answering import answer
    from primum.train.federated.local_grid import LocalGrid
    from primum.train.federated.rounds import run_rounds
    from primum.train.federated.settings import FederatedSettings
    from primum.train.federated.sites import travelling
    from primum.workflows.workers import workers

    made, model = sites_of(network, cases()[1])
    weights, before = travelling(model.module)
    epochs, rate = MODELS[network]
    settings = FederatedSettings(ROUNDS, epochs, rate)
    marks: list[Mark] = []
    with workers(count, backend="ray") as apply:
        grid = LocalGrid({at + 1: answer(one) for at, one in enumerate(made)}, apply=apply)
        run_rounds(
            grid, weights, settings=settings, before=before, sites=SITES,
            told=lambda number, *_: marks.append(marked()) if number else None,
        )  # fmt: skip
    return a_round(marks)


def deployed(network: str) -> list[float]:
    """Start a coordinator and its sites as they are typed, and watch them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        epochs, rate = MODELS[network]
        coordinator = started(
            "coordinator", "--certificate", folder / "c.pem", "--key", folder / "c.key",
            "--registered", folder / "keys", "--sites", SITES, "--like", folder / "00",
            "--out", folder / "model", "--port", 0, "--network", network,
            "--rounds", ROUNDS, "--epochs", epochs, "--learning-rate", rate,
        )  # fmt: skip
        running, marks = [coordinator], list[Mark]()
        try:
            assert coordinator.stderr is not None
            for line in coordinator.stderr:
                if "127.0.0.1:" in line:
                    port = line.split("127.0.0.1:")[1].split(".")[0]
                    running += [site(folder, f"{at:02d}", network, port) for at in range(SITES)]
                elif line.startswith("Round") and not line.startswith("Round 0"):
                    marks.append(marked())
        finally:
            for one in running:
                one.terminate()
    assert len(marks) == ROUNDS, "the coordinator says each round"
    return a_round(marks)


def site(folder: Path, name: str, network: str, port: str) -> "subprocess.Popen[str]":
    """Start one site."""
    return started(
        "site", "--coordinator", f"127.0.0.1:{port}", "--ca", folder / "c.pem",
        "--key", folder / f"{name}.key", "--name", name,
        "--records", folder / name, "--network", network, "--rounds", ROUNDS,
    )  # fmt: skip


def started(*arguments: object) -> "subprocess.Popen[str]":
    said = [str(one) for one in arguments]
    words = [str(Path(sys.executable).with_name("primum")), "train", "federated", *said, "--lang", "en"]
    errors = subprocess.PIPE if said[0] == "coordinator" else subprocess.DEVNULL
    return subprocess.Popen(words, stderr=errors, text=True)


def prepare(folder: Path) -> None:
    """Write certificate, keys, and the images of each site."""
    from primum.records.case_writer import write_cases
    from studies.private_images import CLASSES

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    (folder / "keys").mkdir()
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=coordinator", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", folder / "c.key", "-out", folder / "c.pem",
    )  # fmt: skip
    for at, one in enumerate(cases()[1]):
        key = folder / f"{at:02d}.key"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", key)
        openssl("pkey", "-in", key, "-pubout", "-out", folder / "keys" / f"{at:02d}.pem")
        write_cases(folder / f"{at:02d}", {"train": one}, CLASSES)


def measured(network: str, form: str) -> list[float]:
    """Run one row in a process of its own."""
    words = [sys.executable, "-m", "studies.federated_cost", network, form]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure every row, and write the page."""
    table = Table("model", "form", "CPU-seconds a round", "of central", "seconds", "MiB")
    for network in MODELS:
        rows = {form: measured(network, form) for form in FORMS}
        for form, (spent, clock, held) in rows.items():
            ratio = spent / rows["central"][0]
            table.add(NAMED[network], FORMS[form], spent, f"{ratio:.2f}", clock, f"{held:.0f}")
    write_page("federated_cost", (__doc__ or "").rpartition("\n\n")[0], table)


if __name__ == "__main__":
    ROWS: dict[str, Callable[[str], list[float]]] = {
        "central": alone,
        "process": lambda network: between(network, 1),
        "ray": lambda network: between(network, 2),
        "deployed": deployed,
    }
    if len(sys.argv) == 3:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(ROWS[sys.argv[2]](sys.argv[1])))
    else:
        main()
