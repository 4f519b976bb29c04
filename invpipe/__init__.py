"""From a shop's raw tables to a certified order plan and an honest backtest, as Dagster assets."""
