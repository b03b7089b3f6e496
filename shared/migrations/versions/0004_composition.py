"""Sub-flows, reruns, endings, limits, pools and schedules."""

import sqlalchemy as sa
from alembic import op

from shared.models import JsonText

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
    # In the order in which a pool's workers claim.
    op.drop_index("branch_ready", "branch")
    op.create_index(
        "branch_ready",
        "branch",
        ["queue", sa.text("priority DESC"), "ready_at"],
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "flow_run_of_task_run",
        "flow_run",
        ["parent_task_run_id"],
        unique=True,
        sqlite_where=sa.text("parent_task_run_id IS NOT NULL"),
        postgresql_where=sa.text("parent_task_run_id IS NOT NULL"),
    )
    op.create_index(
        "flow_run_awaited",
        "flow_run",
        ["parent_task_run_id"],
        sqlite_where=sa.text("parent_task_run_id IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("parent_task_run_id IS NOT NULL AND finished_at IS NULL"),
    )
    _endings()


def _endings() -> None:
    """What the runs in their ending have still to undo, and in which order."""
    op.add_column("task_run", sa.Column("position", sa.Integer(), nullable=True))
    op.create_table(
        "compensation",
        sa.Column("flow_run_id", _id(), primary_key=True, nullable=False),
        sa.Column("position", sa.Integer(), primary_key=True, nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("undoes", _id(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
    )
