"""Section of the settings for the gates a trained model passes before it serves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from invpipe.settings.sections import Section

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GateSettings(Section):
    """Limits of the gates; a value on its limit passes. The defaults suit a few hundred SKUs and up: a large shop can set them tighter.

    Parameters
    ----------
    pinball_worse_frac
        How much higher the pinball loss at .5 and .9 may be than that of the model that serves, as a share of the latter.
    baseline_worse_frac
        The same against the best baseline; blocks only where another model can go on serving.
    bracket_points
        Percentage points by which .9 may lie outside the bracket P(D < q90) <= .9 <= P(D <= q90).
    bias_frac
        Forecast units may lie so far from the units sold, as a share of the latter, on either side.
    drift_psi
        Population stability index of the features between the beginning and the end of the scored span, weighted by their gain.
    """

    pinball_worse_frac: Limit = 0.05
    baseline_worse_frac: Limit = 0.25
    bracket_points: Limit = 5.0
    bias_frac: Limit = 0.5
    drift_psi: Limit = 0.25
