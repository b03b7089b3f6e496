"""What Alembic runs: the migrations on the connection that ``run`` was given."""

from alembic import context
from sqlmodel import SQLModel

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    # All that is due in the caller's one transaction, so that one that breaks off leaves nothing
    # behind. By default Alembic does not believe SQLite that it can.
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
