"""All definitions of one home."""

import dagster as dg

from invpipe.defs.alerts import alert_sensors
from invpipe.defs.allocation.assets import allocation_assets, proposal_assets
from invpipe.defs.allocation.checks import allocation_checks
from invpipe.defs.arena.assets import arena_assets
from invpipe.defs.columns import with_lineage
from invpipe.defs.common import ShopSettings
from invpipe.defs.contracts.assets import core_tables, offer_deltas, shop_history
from invpipe.defs.contracts.checks import quarantine_within_threshold
from invpipe.defs.features.assets import feature_assets
from invpipe.defs.forecast.assets import forecast_assets
from invpipe.defs.forecast.checks import forecast_checks
from invpipe.defs.forecast.insight import insight_assets
from invpipe.defs.grid.assets import training_grid
from invpipe.defs.grid.checks import no_censored_cell
from invpipe.defs.io import FramesIOManager, ObjectsIOManager
from invpipe.defs.jobs import jobs, schedules
from invpipe.defs.operations import operation_sensors, with_freshness
from invpipe.defs.packing.assets import packing_assets
from invpipe.defs.packing.checks import packing_checks
from invpipe.defs.partitions import Partitions
from invpipe.defs.report.assets import report
from invpipe.defs.report.pages import page_assets
from invpipe.defs.sources.assets import source_assets
from invpipe.defs.sweep.assets import sweep_assets
from invpipe.settings import Settings


def build_definitions(home: str | None = None) -> dg.Definitions:
    """Return assets, checks, jobs, schedules and sensors for the settings of a home (INVPIPE_HOME, else .invpipe, where None)."""
    settings = Settings.load(home)
    partitions = Partitions.of(settings)
    checks = [
        quarantine_within_threshold,
        no_censored_cell,
        *forecast_checks(partitions),
        *allocation_checks(partitions),
        *packing_checks(),
    ]
    blocking: dict[str, list[str]] = {}
    for check in (spec.key for made in checks for spec in made.check_specs if spec.blocking):
        blocking.setdefault(check.asset_key.to_user_string(), []).append(check.name)
    return dg.Definitions(
        assets=with_lineage(
            [
                *source_assets(partitions, settings),
                core_tables,
                shop_history,
                offer_deltas,
                training_grid,
                *feature_assets(partitions),
                *forecast_assets(partitions),
                *insight_assets(partitions),
                *with_freshness(allocation_assets(partitions), settings),
                *(proposal_assets(partitions) if settings.proposals.write else ()),
                *arena_assets(partitions),
                *sweep_assets(partitions),
                *packing_assets(),
                *page_assets(partitions),
                report,
            ]
        ),
        asset_checks=checks,
        jobs=jobs(settings),
        schedules=schedules(partitions, settings),
        executor=dg.in_process_executor,  # what the UI materialises: a process per step would import everything each time
        sensors=[*operation_sensors(partitions, settings), *alert_sensors(partitions, settings)],
        resources={
            "io_manager": FramesIOManager(home=home, blocking_checks=blocking),
            "objects": ObjectsIOManager(home=home, blocking_checks=blocking),
            "settings": ShopSettings(home=home),
        },
    )
