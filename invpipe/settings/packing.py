"""Section of the settings for packing under several capacities; the default is the food cart of Crews (2020)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from invpipe.settings.sections import Section

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Units = Annotated[int, Field(ge=0)]


class PackedItem(Section):
    """One item that may be loaded.

    Parameters
    ----------
    item
        Its name.
    unit_revenue
        Money per unit sold.
    mean_units
        Expected demand, units.
    size
        Negative binomial size of demand, > 0; without it demand is Poisson.
    max_units
        Most units; without it as many as fit.
    unit_use
        Use of each capacity by one unit, by the capacity's name; none where it is left out.
    """

    item: str
    unit_revenue: Amount
    mean_units: Amount
    size: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_units: Units | None = None
    unit_use: dict[str, Amount]


FOOD_CART = (
    PackedItem(
        item="burger",
        unit_revenue=1.30,
        mean_units=600,
        max_units=1000,
        unit_use={"storage_cm3": 700, "fridge_cm3": 900, "weight_g": 550},
    ),
    PackedItem(
        item="pizza",
        unit_revenue=1.60,
        mean_units=900,
        max_units=1000,
        unit_use={"storage_cm3": 950, "fridge_cm3": 940, "weight_g": 800},
    ),
    PackedItem(
        item="taco",
        unit_revenue=1.40,
        mean_units=700,
        max_units=1000,
        unit_use={"storage_cm3": 800, "fridge_cm3": 850, "weight_g": 600},
    ),
)


PUBLISHED_PLAN = {"burger": 572, "pizza": 355, "taco": 669}


class PackingSettings(Section):
    """What is packed.

    Parameters
    ----------
    capacities
        What there is of each capacity, by name.
    items
        The items, each name once.
    compare
        Plans shown beside the optimum and the rule of thumb: units by item, by name of the plan; an item left out has 0 units. Without it
        the published plan where the items are those of the food cart, none otherwise.
    runs
        Simulated runs per plan.
    """

    capacities: dict[str, Amount] = Field(
        default_factory=lambda: {"storage_cm3": 3_000_000.0, "fridge_cm3": 2_000_000.0, "weight_g": 1_000_000.0}
    )
    items: tuple[PackedItem, ...] = FOOD_CART
    compare: dict[str, dict[str, Units]] | None = None
    runs: int = Field(default=1_000_000, ge=2)

    @property
    def plans(self) -> dict[str, dict[str, int]]:
        """The plans to compare with."""
        if self.compare is not None:
            return self.compare
        return {"published": dict(PUBLISHED_PLAN)} if self.items == FOOD_CART else {}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = [packed.item for packed in self.items]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            msg = f"items name {twice[0]!r} more than once; give each item once"
            raise ValueError(msg)
        for packed in self.items:
            if unknown := sorted(set(packed.unit_use) - set(self.capacities)):
                msg = f"item {packed.item!r} uses {unknown[0]!r}, which is no capacity; capacities are {', '.join(sorted(self.capacities))}"
                raise ValueError(msg)
        for plan, units in self.plans.items():
            if unknown := sorted(set(units) - set(names)):
                msg = f"plan {plan!r} has units of {unknown[0]!r}, which is no item; items are {', '.join(sorted(names))}"
                raise ValueError(msg)
        return self
