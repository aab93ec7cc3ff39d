"""How often a chunk was begun without getting on."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.job_chunks ADD COLUMN attempts INTEGER DEFAULT 0 NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.job_chunks DROP COLUMN attempts")
