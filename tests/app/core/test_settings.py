"""Options are documented where they are defined and in the page of the documentation."""

from __future__ import annotations

import re

from app.core.settings import REPOSITORY, Settings


def test_every_option_is_documented() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `HYPERSERVE_(\w+)`", page, re.MULTILINE)
    assert sorted(documented) == sorted(name.upper() for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
