"""Every test runs on one torch thread, as a serving process does, and checks tensor shapes at run time."""

from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401 (looked up by name)

# Before any import of models: the annotations of its functions and dataclasses become checks.
install_import_hook("models", "tests.shapes.checked")

import torch  # noqa: E402

from tests.servers.fixtures import (  # noqa: E402, F401 (found by name)
    database_url,
    databases,
    own_postgres_server,
    own_redis_server,
    postgres_url,
    redis_url,
)

torch.set_num_threads(1)
