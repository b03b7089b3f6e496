"""The flow language: attempts that are tried again, items of lists, signals, deadlines,
joins that go on early.

Rows that were written before read as if these fields had always been there: their defaults
are what the first revision meant.
"""

import sqlalchemy as sa
from alembic import op

from shared.columns import JsonText, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def identifier() -> sa.types.TypeEngine[str]:
    return sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Go forward."""
    op.add_column(
        "branch", sa.Column("failed_attempts", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("branch", sa.Column("parent_id", identifier(), nullable=True))
    op.add_column(
        "branch", sa.Column("item_index", sa.Integer(), nullable=False, server_default="-1")
    )
    op.add_column("branch", sa.Column("item", JsonText(), nullable=True))
    for name in ("item_count", "items_left", "items_failed"):
        op.add_column("branch", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        "branch_of_item",
        "branch",
        ["parent_id", "item_index"],
        sqlite_where=sa.text("parent_id IS NOT NULL"),
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.add_column("branch", sa.Column("signal", sa.String(), nullable=True))
    op.create_table(
        "signal",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("data", JsonText(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("task_run_id", identifier(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("signal_of_run", "signal", ["flow_run_id", "name"])
    op.create_index("signal_by_key", "signal", ["flow_run_id", "idempotency_key"], unique=True)
    op.create_index("signal_by_task_run", "signal", ["task_run_id"])
    op.add_column("flow_run", sa.Column("deadline", UtcDateTime(), nullable=True))
    op.create_index(
        "flow_run_by_deadline",
        "flow_run",
        ["deadline"],
        sqlite_where=sa.text("deadline IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("deadline IS NOT NULL AND finished_at IS NULL"),
    )
    op.add_column("join", sa.Column("fired", sa.Integer(), nullable=False, server_default="0"))
