"""Sub-flows, reruns, endings, limits, pools and schedules."""

import sqlalchemy as sa
from alembic import op

from shared.columns import JsonText, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def identifier() -> sa.types.TypeEngine[str]:
    return sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Go forward."""
    for column in (
        sa.Column("parent_flow_run_id", identifier(), nullable=True),
        sa.Column("parent_task_run_id", identifier(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("rerun_of", identifier(), nullable=True),
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
    _create_outbox()
    _create_limits()
    _reruns()
    _schedules()
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
        sa.Column("flow_run_id", identifier(), primary_key=True, nullable=False),
        sa.Column("position", sa.Integer(), primary_key=True, nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("undoes", identifier(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
    )


def _create_outbox() -> None:
    """What is told to others about the ends of runs."""
    op.add_column(
        "flow_run", sa.Column("to_announce", sa.Integer(), nullable=False, server_default="0")
    )
    marked = sa.text("to_announce = 1 AND finished_at IS NOT NULL")
    op.create_index(
        "flow_run_to_announce",
        "flow_run",
        ["finished_at"],
        sqlite_where=marked,
        postgresql_where=marked,
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", identifier(), nullable=False),
        sa.Column("event_id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("body", JsonText(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state_is_known"),
        sa.CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="final_has_its_time"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "webhook_delivery_of_run", "webhook_delivery", ["flow_run_id", "endpoint"], unique=True
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "webhook_delivery_due",
        "webhook_delivery",
        ["endpoint", "next_at"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_index("webhook_delivery_by_state", "webhook_delivery", ["state", "id"])


def _schedules() -> None:
    """What starts runs by itself, and which of its runs go on."""
    op.create_table(
        "schedule",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("flow_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("input", JsonText(), nullable=False),
        sa.Column("cron", sa.String(), nullable=True),
        sa.Column("time_zone", sa.String(), nullable=True),
        sa.Column("every_seconds", sa.Float(), nullable=True),
        sa.Column("start", UtcDateTime(), nullable=True),
        sa.Column("overlap", sa.String(), nullable=False),
        sa.Column("catch_up", sa.Boolean(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("last_tick", UtcDateTime(), nullable=False),
        sa.Column("waiting", UtcDateTime(), nullable=True),
        sa.Column("next_tick", UtcDateTime(), nullable=True),
        sa.Column("look_at", UtcDateTime(), nullable=True),
        sa.Column("started_tick", UtcDateTime(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("run_id", identifier(), nullable=True),
        sa.Column("left_out_tick", UtcDateTime(), nullable=True),
        sa.Column("left_out_reason", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("error_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("(cron IS NULL) <> (every_seconds IS NULL)", name="cron_or_interval"),
        sa.CheckConstraint("overlap IN ('skip', 'queue', 'allow')", name="overlap_is_known"),
        sa.CheckConstraint("paused = false OR look_at IS NULL", name="paused_is_not_looked_at"),
    )
    op.create_index(
        "schedule_to_look_at",
        "schedule",
        ["look_at"],
        sqlite_where=sa.text("look_at IS NOT NULL"),
        postgresql_where=sa.text("look_at IS NOT NULL"),
    )
    op.create_index("schedule_by_flow", "schedule", ["flow_id", "id"])
    op.create_index(
        "flow_run_by_schedule",
        "flow_run",
        ["schedule_id", "id"],
        sqlite_where=sa.text("schedule_id IS NOT NULL"),
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.create_index(
        "flow_run_of_schedule",
        "flow_run",
        ["schedule_id"],
        sqlite_where=sa.text("schedule_id IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("schedule_id IS NOT NULL AND finished_at IS NULL"),
    )


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
        sa.Column("holder", identifier(), primary_key=True),
        sa.Column("limiter_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("branch_id", identifier(), nullable=False),
        sa.Column("flow_run_id", identifier(), nullable=False),
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


def _reruns() -> None:
    """Which task run a visit came from, and who keeps the results of which run."""
    op.add_column("task_run", sa.Column("previous_id", identifier(), nullable=True))
    op.create_index(
        "flow_run_of_rerun",
        "flow_run",
        ["rerun_of"],
        sqlite_where=sa.text("rerun_of IS NOT NULL"),
        postgresql_where=sa.text("rerun_of IS NOT NULL"),
    )
