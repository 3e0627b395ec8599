"""What all entities have in common: one MetaData, types of columns, names of constraints."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, DateTime, Double, Identity, LargeBinary, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All entities share one MetaData; the result tables join it in `controller.store.results`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        dt.datetime: DateTime(timezone=True),
        str: Text(),
        int: BigInteger(),
        float: Double(),
        uuid.UUID: UUID(as_uuid=True),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }


def id_column() -> Mapped[int]:
    """A number of its own for each row."""
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def now_column() -> Mapped[dt.datetime]:
    """The instant at which a row is added."""
    return mapped_column(server_default=func.now())
