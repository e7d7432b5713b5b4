"""The reserved form: how plain JSON carries values that are not plain.

Plain data stands for itself. Anything else is an object with the key ``"$"``, which names the type, and ``"v"``, what
the value is made of; for a type that a user wrote, ``"t"`` is the name of its class::

    (1, "a")                    {"$": "tuple", "v": [1, "a"]}
    {1: "a"}                    {"$": "dict", "v": [[1, "a"]]}
    {"$": "mine"}               {"$": "dict", "v": [["$", "mine"]]}
    Color.RED                   {"$": "enum", "t": "shop.models:Color", "v": "RED"}
    Point(x=1)                  {"$": "dataclass", "t": "shop.models:Point", "v": {"fields": {"x": 1}}}

No dict of a user can be taken for the form: one that has the key ``"$"`` is itself written in it, as above.
"""

from __future__ import annotations

from jobify.serializers.tagging.encoder import RESERVED, Tagging

__all__ = ("RESERVED", "Tagging")
