"""Cards of earlier versions brought to the form of today, one version at a time.

Version 1 is the first that was released. Whoever changes what a card says raises
``card.SCHEMA_VERSION``, adds the step from the version before to ``STEPS``, and adds a checkpoint
of the new version to tests/checkpoints/released, which stays there for good.
"""

from collections.abc import Callable, Mapping
from typing import Any

from multibox.card import SCHEMA_VERSION

Fields = dict[str, Any]
Step = Callable[[Fields], Fields]

STEPS: dict[int, Step] = {}
"""From the version that is the key to the next one: ``fields -> fields``."""


def migrate(fields: Fields, steps: Mapping[int, Step] = STEPS, to: int = SCHEMA_VERSION) -> Fields:
    """The fields of a card, as parsed from its JSON, in the form of version ``to``.

    Fields that say nothing of their version, or are of no version that a step leads on from, come
    back as they are: whether they make a card is for the card to say.
    """
    version = fields.get("schema_version")
    while isinstance(version, int) and version < to and version in steps:
        fields = steps[version](fields) | {"schema_version": version + 1}
        version += 1
    return fields
