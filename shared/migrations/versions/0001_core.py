"""The core: definitions, runs, branches, joins, task runs, workers.

The first revision.
"""

import sqlalchemy as sa
from alembic import op

from shared.columns import JsonText, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def identifier() -> sa.types.TypeEngine[str]:
    return sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "branch",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("task_type", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("previous_id", identifier(), nullable=True),
        sa.Column("task_run_id", identifier(), nullable=True),
        sa.Column("joined_by", identifier(), nullable=True),
        sa.Column("tracked", sa.Boolean(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("worker_id", identifier(), nullable=True),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("ready_at", sa.Float(), nullable=False),
        sa.Column("wake_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("(state = 'running') = (worker_id IS NOT NULL)", name="running_is_held"),
        sa.CheckConstraint(
            "state IN ('ready', 'running', 'waiting', 'done')", name="state_is_known"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("branch_by_run", "branch", ["flow_run_id", "task"], unique=False)
    op.create_index(
        "branch_held",
        "branch",
        ["worker_id"],
        unique=False,
        sqlite_where=sa.text("worker_id IS NOT NULL"),
        postgresql_where=sa.text("worker_id IS NOT NULL"),
    )
    op.create_index(
        "branch_ready",
        "branch",
        ["queue", "ready_at"],
        unique=False,
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "branch_to_wake",
        "branch",
        ["wake_at"],
        unique=False,
        sqlite_where=sa.text("wake_at IS NOT NULL"),
        postgresql_where=sa.text("wake_at IS NOT NULL"),
    )

    op.create_table(
        "flow_definition",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("content", JsonText(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "flow_run",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("flow_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("definition_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("input", JsonText(), nullable=True),
        sa.Column("output", JsonText(), nullable=True),
        sa.Column("error", JsonText(), nullable=True),
        sa.Column("tags", JsonText(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("task_runs", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_hash", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "(status = 'running') = (finished_at IS NULL)", name="final_has_its_time"
        ),
        sa.CheckConstraint("status <> 'completed' OR active = 0", name="completed_has_no_branch"),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'failed', 'cancelled')", name="status_is_known"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "flow_run_by_finish",
        "flow_run",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index("flow_run_by_flow", "flow_run", ["flow_id", "id"], unique=False)
    op.create_index("flow_run_by_definition", "flow_run", ["definition_hash"])
    op.create_index("flow_run_by_key", "flow_run", ["idempotency_key"], unique=True)
    op.create_index("flow_run_by_status", "flow_run", ["status", "id"], unique=False)

    op.create_table(
        "join",
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("upstream", sa.Integer(), nullable=False),
        sa.Column("arrived", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.CheckConstraint("arrived >= 0 AND missed >= 0", name="counts_hold"),
        sa.PrimaryKeyConstraint("flow_run_id", "task"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", identifier(), nullable=True),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "log_line",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("task_run_id", identifier(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("log_line_of_run", "log_line", ["flow_run_id", "id"], unique=False)

    op.create_table(
        "task_run",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("branch_id", identifier(), nullable=False),
        sa.Column("branch", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("task_type", sa.String(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("data", JsonText(), nullable=True),
        sa.Column("error", JsonText(), nullable=True),
        sa.Column("worker_id", identifier(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('running', 'waiting')) = (finished_at IS NULL)", name="final_has_its_time"
        ),
        sa.CheckConstraint(
            "status IN ('running', 'waiting', 'success', 'failed', 'cancelled')",
            name="status_is_known",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "task_run_of_visit",
        "task_run",
        ["flow_run_id", "task", "iteration", "item_index", "attempt"],
        unique=True,
    )

    op.create_table(
        "task_type",
        sa.Column("worker_id", identifier(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("params_schema", JsonText(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "name"),
    )
    op.create_table(
        "worker",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("queues", JsonText(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("heartbeat", sa.Float(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("stopped_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('live', 'stopping', 'stopped', 'lost')", name="state_is_known"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("worker_by_state", "worker", ["state"], unique=False)
    op.execute("INSERT INTO lease (name, expires) VALUES ('leader', 0)")
