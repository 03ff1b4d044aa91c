"""Request bodies of the OpenAPI document, with an example of each."""

from __future__ import annotations

from typing import Any

from app.http.limits import LIMITS

Document = dict[str, Any]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAHUlEQVR4nGP8z8DAwMDIgAxMDAwMDEyMDAwMDIwAGUUCDTqE"
CREATE: Document = {}
PREDICT: Document = {}
PREDICT_ONCE: Document = {}
MODELS: list[Any] = []
SCHEMAS: Document = {}
