"""Demand as a distribution: walk-forward folds, daily quantiles, the window law, baselines and scores."""

from invpipe.forecast.folds import Fold, walk_forward_folds
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import CountLaw, WindowDemand
from invpipe.forecast.params import ForecastParams
from invpipe.forecast.schedule import ForecastSchedule
from invpipe.forecast.scores import score_fold

__all__ = ["CountLaw", "DemandForecaster", "Fold", "ForecastParams", "ForecastSchedule", "WindowDemand", "score_fold", "walk_forward_folds"]
