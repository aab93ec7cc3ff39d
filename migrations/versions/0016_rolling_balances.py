"""What the network's losses of 30 and 365 days are compared by; days are in no class of losses any more.

Balances of the last 30 and 365 days stand in the tables of the others, under time windows of their own. They are put
together whenever a day's balance changes, so from the first cycle on.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_NO_LONGER = "'{m1a,m1b,m1_class,infrastructure_leakage_index}'::text[]"


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.network_efficiency ADD COLUMN indicators JSONB")
    op.execute(
        f"UPDATE water_infrastructure.district_balances SET balance = balance - {_NO_LONGER} "  # noqa: S608
        "WHERE time_window = '1day'"
    )
    op.execute(
        "UPDATE water_infrastructure.network_efficiency SET zone_metrics = ("  # noqa: S608
        f"SELECT coalesce(jsonb_object_agg(key, value - {_NO_LONGER}), '{{}}') FROM jsonb_each(zone_metrics)) "
        "WHERE time_window = '1day'"
    )


def downgrade() -> None:
    for table in ("district_balances", "network_efficiency"):
        op.execute(f"DELETE FROM water_infrastructure.{table} WHERE time_window IN ('30day', '365day')")  # noqa: S608
    op.execute("ALTER TABLE water_infrastructure.network_efficiency DROP COLUMN indicators")
