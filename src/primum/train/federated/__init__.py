"""Training between hospitals: each keeps its patients, and only weights travel."""

import os

# Flower looks at it once, when any of it is first imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
