"""Who holds an API key, where it was made for one person; an index of events by when they were over."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.api_keys ADD COLUMN person TEXT")
    op.execute("CREATE INDEX anomalies_by_resolution ON water_infrastructure.anomalies (resolved_at)")


def downgrade() -> None:
    op.execute("DROP INDEX water_infrastructure.anomalies_by_resolution")
    op.execute("ALTER TABLE water_infrastructure.api_keys DROP COLUMN person")
