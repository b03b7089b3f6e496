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
    _reruns()
    op.create_index(
        "flow_run_of_task_run",
        "flow_run",
        ["parent_task_run_id"],
        unique=True,
        sqlite_where=sa.text("parent_task_run_id IS NOT NULL"),
        postgresql_where=sa.text("parent_task_run_id IS NOT NULL"),
    )


def _reruns() -> None:
    """Which task run a visit came from, and who keeps the results of which run."""
    op.add_column("task_run", sa.Column("previous_id", _id(), nullable=True))
    op.create_index(
        "flow_run_of_rerun",
        "flow_run",
        ["rerun_of"],
        sqlite_where=sa.text("rerun_of IS NOT NULL"),
        postgresql_where=sa.text("rerun_of IS NOT NULL"),
    )
