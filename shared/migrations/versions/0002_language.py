"""The flow language: attempts that are tried again.

Rows that were written before read as if these fields had always been there: their defaults
are what the first revision meant.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column(
        "branch", sa.Column("failed_attempts", sa.Integer(), nullable=False, server_default="0")
    )
