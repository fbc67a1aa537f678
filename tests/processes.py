"""Fresh processes that need not import everything anew.

One server forks them all: it starts with what is listed when it is first used, and nothing is added later.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("pytest", "polars", "skops.io", "sklearn.ensemble"),
        *("transformers.models.llama.modeling_llama", "transformers.models.gpt2.modeling_gpt2"),
        *("primum.cli.verbs", "primum.report.html", "primum.report.show"),
        *("primum.fit.causal_recipe", "primum.fit.classifier_recipe", "primum.fit.networks"),
        *(f"primum.workflows.{name}" for name in ("audit", "classifier_audit", "training", "outputs")),
        "primum.workflows.federated_deployed",
    ]
)
