"""Sub-flows, reruns, endings, limits, pools and schedules."""

import sqlalchemy as sa
from alembic import op

from shared.models import JsonText, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[str]:
    return sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Go forward."""
    for column in (
        sa.Column("parent_flow_run_id", _id(), nullable=True),
        sa.Column("parent_task_run_id", _id(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("rerun_of", _id(), nullable=True),
        sa.Column("rerun", JsonText(), nullable=True),
        sa.Column("ending", JsonText(), nullable=True),
        sa.Column("concurrency_key", sa.String(), nullable=True),
        sa.Column("schedule_id", sa.String(), nullable=True),
    ):
        op.add_column("flow_run", column)
    op.add_column("branch", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        "flow_run_of_task_run",
        "flow_run",
        ["parent_task_run_id"],
        unique=True,
        sqlite_where=sa.text("parent_task_run_id IS NOT NULL"),
        postgresql_where=sa.text("parent_task_run_id IS NOT NULL"),
    )
    _create_limits()


def _create_limits() -> None:
    """The tables of limits."""
    op.create_table(
        "limiter",
        sa.Column("id", sa.String(length=64), primary_key=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("arrivals", sa.BigInteger(), nullable=False),
        sa.Column("starts", sa.BigInteger(), nullable=False),
        sa.Column("kept_starts", sa.Integer(), nullable=False),
        sa.Column("last_start", UtcDateTime(), nullable=True),
        sa.Column("next_at", UtcDateTime(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
    )
    op.create_index(
        "limiter_by_next_start",
        "limiter",
        ["next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index("limiter_by_expiry", "limiter", ["expires_at"])
    op.create_table(
        "limit_start",
        sa.Column("limiter_id", sa.String(length=64), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "limit_place",
        sa.Column("holder", _id(), primary_key=True),
        sa.Column("limiter_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("branch_id", _id(), nullable=False),
        sa.Column("flow_run_id", _id(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("rate_count", sa.Integer(), nullable=True),
        sa.Column("rate_seconds", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'called', 'running', 'asleep')", name="state_is_known"
        ),
        sa.CheckConstraint("concurrency IS NULL OR concurrency >= 1", name="concurrency_is_some"),
    )
    op.create_index(
        "limit_place_in_line", "limit_place", ["limiter_id", "state", "arrived_at", "number"]
    )
    op.create_index("limit_place_of_run", "limit_place", ["flow_run_id"])
