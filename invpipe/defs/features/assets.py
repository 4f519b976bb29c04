"""Features of the serving day."""

from datetime import date

import dagster as dg
import numpy as np
import polars as pl

from invpipe.defs.common import ONE_RUN, declared
from invpipe.defs.partitions import Partitions
from invpipe.features import FAMILIES, FEATURES, FeatureStore
from invpipe.history import ShopHistory


def feature_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the features room."""

    @dg.asset(partitions_def=partitions.day, backfill_policy=ONE_RUN, **declared("features", __file__))
    def features(context: dg.AssetExecutionContext, shop_history: ShopHistory) -> dict[str, pl.DataFrame]:
        """Show the features of every SKU as known at the end of the day, for the day after: what the forecasters see."""
        frames = {day: serving_features(shop_history.until(date.fromisoformat(day))) for day in context.partition_keys}
        for day, frame in frames.items():
            rows = [
                dg.TableRecord({"family": family, "feature": name, "nan_frac": round(int(frame[name].is_nan().sum()) / len(frame), 4)})
                for family, names in FAMILIES.items()
                for name in names
            ]
            context.add_asset_metadata({"features": dg.MetadataValue.table(rows)}, partition_key=day)
        return frames

    return [features]


def serving_features(known: ShopHistory) -> pl.DataFrame:
    """Return the features of every SKU for the day after the history, key sku."""
    n = len(known.skus)
    one = np.ones(n, dtype=np.int64)
    matrix = FeatureStore.of(known).matrix(np.arange(n), np.full(n, known.n_days - 1), one, one)
    return pl.DataFrame({"sku": list(known.skus), **{name: matrix[:, j] for j, name in enumerate(FEATURES)}})
