"""Contract suites for methods and encoders of other packages; they need the server and pytest installed.

from hyperserve.testing import MethodContract

class TestMine(MethodContract):
    method = "mine"  # the name of its entry point in the group hyperserve.methods
"""

from __future__ import annotations

try:
    from models.protocol import Trial
    from models.testing.case import Case
    from models.testing.encoder_contract import EncoderContract
    from models.testing.failures import ContractError
    from models.testing.method_contract import MethodContract
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"hyperserve.testing needs the server and pytest, and the module {error.name} is missing: from a checkout "
        "of hyperserve, pip install -e '.[server]' pytest",
        name=error.name,
    ) from error

__all__ = ["Case", "ContractError", "EncoderContract", "MethodContract", "Trial"]
