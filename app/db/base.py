"""What all tables have in common: their metadata, and the types of columns."""

from __future__ import annotations

from sqlalchemy import JSON, MetaData, String
from sqlalchemy.orm import DeclarativeBase

ID = String(40)
TENANT = String(64)
LABEL = String(200)
SLUG = String(63)
DIGEST = String(64)
VALUES = JSON(none_as_null=True)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
