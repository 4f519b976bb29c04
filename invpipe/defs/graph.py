"""The asset graph as a Mermaid diagram."""

import dagster as dg

from invpipe.defs.provenance import ROOMS

#: Families of tables drawn as one box each.
FAMILIES = ("raw_", "core_")


def mermaid(definitions: dg.Definitions) -> str:
    """Return the diagram: rooms as frames in the order of the data, assets as boxes, arrows from input to output.

    The raw tables are drawn as one box, the core tables as another.
    """
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    lines = ["graph LR"]
    for room in sorted({str(spec.group_name) for spec in specs.values()}, key=lambda room: (room != "sources", ROOMS.index(room))):
        boxes = sorted({_box(name) for name, spec in specs.items() if spec.group_name == room})
        lines += [f"  subgraph {room}", *(f'    {_id(box)}["{box}"]' for box in boxes), "  end"]
    arrows = {(_box(dep.asset_key.to_user_string()), _box(name)) for name, spec in specs.items() for dep in spec.deps}
    lines += [f"  {_id(source)} --> {_id(target)}" for source, target in sorted(arrows) if source != target]
    return "\n".join(lines)


def _box(name: str) -> str:
    return next((f"{family}*" for family in FAMILIES if name.startswith(family)), name)


def _id(box: str) -> str:
    return box.replace("*", "tables")
