"""Every kind of thing that captions may name, by its name."""

from splatdream.corpus.kinds import animals, creatures, food, household, outdoors, solids, tools, vehicles
from splatdream.corpus.objects import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for module in (solids, household, tools, food, outdoors, creatures, animals, vehicles)
    for kind in module.KINDS
}
