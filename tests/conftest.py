"""Every test runs on one torch thread, as a serving process does, and checks tensor shapes at run time."""

import gc
import os

# Imports make many objects and hardly any garbage: to look for it takes a quarter of their time.
gc.disable()
# Of threads that a test starts too: several that spin for one another on two cores take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests talk to servers of their own alone.
for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

import tests.property  # noqa: E402 (registers profiles)
import tests.shapes  # noqa: E402, F401 (looked up by name)

# Before any import of models: the annotations of its functions and dataclasses become checks.
install_import_hook("models", "tests.shapes.checked")

import torch  # noqa: E402

from tests.servers.fixtures import (  # noqa: E402, F401 (found by name)
    database_url,
    databases,
    empty_database,
    own_postgres_server,
    own_redis_server,
    postgres_url,
    redis_url,
)

torch.set_num_threads(1)
settings.load_profile("short")

LONGEST = (
    "test_schemathesis.py",
    "test_contract.py",
    "test_documents.py",
    "test_labels.py",
    "test_processes.py",
    "test_calibrate.py",
    "test_console.py",
    "test_demo.py",
    "test_train.py",
    "test_hypernetwork.py",
    "test_training.py",
    "test_revisions_contention.py",
    "test_service_lifecycle.py",
    "test_root.py",
    "test_families.py",
    "test_population.py",
    "test_supervisor.py",
    "test_kills.py",
    "test_process.py",
    "test_image_files.py",
    "test_end_to_end.py",
    "test_magnitudes.py",
    "test_evaluate_continual.py",
    "test_bayeshypershot.py",
    "test_family_table.py",
    "test_forget_task.py",
    "test_wheel.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: at the end no process is left alone with one."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Look for garbage again, among what tests make."""
    gc.enable()
    gc.freeze()


# Of xdist, without which one test can run too.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are processors, because tests wait for processes, leases and disks.

    With many more, tests of signals and leases miss their time now and then.
    """
    return (os.cpu_count() or 1) + 1
