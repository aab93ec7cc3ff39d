"""The calendar of works, and since when nodes are out of service."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.works (
            work_id UUID DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL,
            node_id TEXT,
            district_id TEXT,
            begin TIMESTAMP WITH TIME ZONE NOT NULL,
            "end" TIMESTAMP WITH TIME ZONE,
            note TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            created_by TEXT NOT NULL,
            deleted_at TIMESTAMP WITH TIME ZONE,
            deleted_by TEXT,
            changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            attached_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT works_kind_is_known CHECK (kind IN ('works', 'meter_exchange', 'closure', 'network_change')),
            CONSTRAINT works_are_somewhere CHECK (node_id IS NOT NULL OR district_id IS NOT NULL),
            CONSTRAINT works_end_after_they_begin CHECK ("end" > begin),
            CONSTRAINT works_have_an_end CHECK ("end" IS NOT NULL OR kind NOT IN ('works', 'closure'))
        )
        """
    )
    op.execute("CREATE INDEX works_by_begin ON water_infrastructure.works (begin, work_id)")
    op.execute("CREATE INDEX works_by_node ON water_infrastructure.works (node_id, begin)")
    op.execute("CREATE INDEX works_by_district ON water_infrastructure.works (district_id, begin)")
    op.execute(
        "CREATE INDEX works_to_attach ON water_infrastructure.works (work_id) "
        "WHERE attached_at IS DISTINCT FROM changed_at"
    )
    op.execute(
        """
        ALTER TABLE water_infrastructure.nodes
            ADD COLUMN out_of_service_since TIMESTAMP WITH TIME ZONE,
            ADD COLUMN out_of_service_reason TEXT,
            ADD CONSTRAINT nodes_out_of_service_for_a_reason CHECK (
                out_of_service_since IS NULL AND out_of_service_reason IS NULL
                OR out_of_service_since IS NOT NULL AND out_of_service_reason IN ('by hand', 'silent')
            )
        """
    )


def downgrade() -> None:
    op.execute(
        "ALTER TABLE water_infrastructure.nodes DROP CONSTRAINT nodes_out_of_service_for_a_reason, "
        "DROP COLUMN out_of_service_since, DROP COLUMN out_of_service_reason"
    )
    op.execute("DROP TABLE water_infrastructure.works")
