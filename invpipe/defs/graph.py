"""The asset graph as a Mermaid diagram."""

import dagster as dg

from invpipe.defs.provenance import ROOMS


def mermaid(definitions: dg.Definitions) -> str:
    """Return the diagram: rooms as frames in the order of the imports, assets as boxes, arrows from input to output."""
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    lines = ["graph LR"]
    groups = [room for room in ROOMS if any(spec.group_name == room for spec in specs.values())]
    for room in groups:
        lines.append(f"  subgraph {room}")
        lines += [f"    {name}" for name, spec in specs.items() if spec.group_name == room]
        lines.append("  end")
    for name, spec in specs.items():
        lines += [f"  {dep.asset_key.to_user_string()} --> {name}" for dep in spec.deps]
    return "\n".join(lines)
