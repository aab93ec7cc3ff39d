"""What people ask of models through the API; the processing service carries it out."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.model_requests (
            request_id UUID DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
            action TEXT NOT NULL,
            model_type TEXT NOT NULL,
            scope TEXT,
            model_id UUID,
            requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
            requested_by TEXT NOT NULL,
            note TEXT,
            status TEXT DEFAULT 'queued' NOT NULL,
            job_id UUID,
            decided_at TIMESTAMP WITH TIME ZONE,
            outcome TEXT,
            CONSTRAINT model_requests_action_is_known CHECK (action IN ('train', 'promote', 'roll_back')),
            CONSTRAINT model_requests_status_is_known
                CHECK (status IN ('queued', 'running', 'done', 'refused', 'failed')),
            CONSTRAINT model_requests_name_a_model CHECK (action = 'train' OR model_id IS NOT NULL)
        )
        """
    )
    op.execute("CREATE INDEX model_requests_by_time ON water_infrastructure.model_requests (requested_at, request_id)")
    op.execute(
        "CREATE INDEX model_requests_open ON water_infrastructure.model_requests (requested_at) "
        "WHERE status IN ('queued', 'running')"
    )


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.model_requests")
