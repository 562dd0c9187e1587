"""Holds a dashboard against Grafana's own schema, as its foundation SDK has it.

    PYTHONPATH=grafana_foundation_sdk-....whl python3 check.py dashboards/mesh.json

Every panel is read into the SDK's types and written again. What is lost on the way is a field that Grafana does not
know, most often a misspelt one; what has another type than its field is wrong too. Whether an expression makes sense
is not in the schema: that is tested against a Prometheus.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# An annotation's query belongs to the data source's plugin; the schema of dashboards leaves these out.
OF_THE_PLUGIN = {"step", "titleFormat", "textFormat"}


def lost(written, read, place=""):
    """The places whose values the SDK did not keep."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            here = f"{place}.{key}"
            if key in read:
                yield from lost(value, read[key], here)
            elif key not in OF_THE_PLUGIN or ".annotations." not in place:
                yield f"{here}: no such field"
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for at, (one, other) in enumerate(zip(written, read)):
            yield from lost(one, other, f"{place}[{at}]")
    elif written != read:
        yield f"{place}: {written!r} became {read!r}"


def fits(value, hint):
    """Whether a value may stand where the SDK wants this type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, inner[1]) for one in value.values())
    if hint is typing.Any or hint is object:
        return True
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [one.value for one in hint]
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def wrong_types(thing, place=""):
    """The places whose values have another type than the SDK's."""
    if isinstance(thing, list):
        for at, one in enumerate(thing):
            yield from wrong_types(one, f"{place}[{at}]")
    elif isinstance(thing, dict):
        for key, one in thing.items():
            yield from wrong_types(one, f"{place}.{key}")
    elif type(thing).__module__.startswith("grafana_foundation_sdk") and not isinstance(thing, enum.Enum):
        hints = typing.get_type_hints(type(thing))
        for name, value in vars(thing).items():
            here = f"{place}.{name}"
            if name in hints and not fits(value, hints[name]):
                yield f"{here}: {value!r} is no {hints[name]}"
            yield from wrong_types(value, here)


def main():
    register_default_plugins()
    with open(sys.argv[1], encoding="utf-8") as file:
        written = json.load(file)
    dashboard = Dashboard.from_json(written)
    read = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    complaints = [*lost(written, read), *wrong_types(dashboard)]
    for complaint in complaints:
        print(complaint.lstrip("."))
    panels = dashboard.panels or []
    typed = [panel for panel in panels if type(getattr(panel, "options", None)).__name__ == "Options"]
    queries = [query for panel in panels for query in getattr(panel, "targets", None) or []]
    queries = [query for query in queries if type(query).__name__ == "Dataquery"]
    print(f"{len(complaints)} complaints; {len(typed)} panels and {len(queries)} queries were read into types of their own")
    sys.exit(bool(complaints))


main()
