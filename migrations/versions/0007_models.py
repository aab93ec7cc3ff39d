"""Models: pools of nodes, one active and one shadow for each, and every decision about them."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE water_infrastructure.ml_models
            ADD COLUMN scope TEXT DEFAULT 'all' NOT NULL,
            ADD COLUMN library_versions JSONB DEFAULT '{}'::jsonb NOT NULL,
            ADD COLUMN shadow_since TIMESTAMP WITH TIME ZONE,
            ADD COLUMN fallback_id UUID
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX ml_models_one_active ON water_infrastructure.ml_models (model_type, scope) WHERE is_active"
    )
    op.execute(
        "CREATE UNIQUE INDEX ml_models_one_shadow ON water_infrastructure.ml_models (model_type, scope) "
        "WHERE status = 'shadow'"
    )
    op.execute(
        """
        CREATE TABLE water_infrastructure.model_decisions (
            decision_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
            model_id UUID NOT NULL,
            decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
            decision TEXT NOT NULL,
            decided_by TEXT NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (decision_id),
            FOREIGN KEY (model_id) REFERENCES water_infrastructure.ml_models (model_id) ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX model_decisions_by_model ON water_infrastructure.model_decisions (model_id, decided_at)")

    op.execute("ALTER TABLE water_infrastructure.job_chunks ADD COLUMN scope TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.job_chunks DROP COLUMN scope")
    op.execute("DROP TABLE water_infrastructure.model_decisions")
    op.execute("DROP INDEX water_infrastructure.ml_models_one_shadow")
    op.execute("DROP INDEX water_infrastructure.ml_models_one_active")
    op.execute(
        """
        ALTER TABLE water_infrastructure.ml_models
            DROP COLUMN scope, DROP COLUMN library_versions, DROP COLUMN shadow_since, DROP COLUMN fallback_id
        """
    )
