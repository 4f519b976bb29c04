"""Training grid: every orderable cell."""

import dagster as dg
import polars as pl

from invpipe.defs.common import declared, figures
from invpipe.grid import training_grid as orderable_cells
from invpipe.history import ShopHistory


@dg.asset(**declared("grid", __file__))
def training_grid(context: dg.AssetExecutionContext, shop_history: ShopHistory) -> pl.DataFrame:
    """Units sold per orderable (SKU, day); cells in which demand could not be seen are dropped, never filled in."""
    grid = orderable_cells(shop_history)
    cells = len(shop_history.skus) * shop_history.n_days
    context.add_output_metadata(
        figures(
            {
                "orderable_frac": len(grid) / cells,
                "censored_cells": cells - len(grid),
                "zero_cells_frac": int((grid["sales_units"] == 0).sum()) / len(grid),
            }
        )
    )
    return grid
