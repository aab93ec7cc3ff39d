"""Who holds an API key, where it was made for one person."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.api_keys ADD COLUMN person TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.api_keys DROP COLUMN person")
