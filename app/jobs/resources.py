"""Process-wide state of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.invalidation_log import ChangeWatcher
from app.jobs.events import Followers


@dataclass(frozen=True)
class JobResources:
    followers: Followers
    watcher: ChangeWatcher
