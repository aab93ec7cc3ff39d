"""How many rows arrived shortly before a node's latest; which districts a chunk's rows are stored under."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ADD COLUMN recent_rows BIGINT")
    op.execute("ALTER TABLE water_infrastructure.job_chunks ADD COLUMN districts JSONB")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.job_chunks DROP COLUMN districts")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks DROP COLUMN recent_rows")
