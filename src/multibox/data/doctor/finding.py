"""One finding: what the doctor has to say about one file, or one object in it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from multibox.data.policies import CHOICES, Kind

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of ``kind`` in ``file``; ``object`` counts from 0 within the file, None: the whole.

    An ``error`` costs training a picture, an object or its truth; a ``warning`` may be meant so.
    ``detail`` says what was found, what to do about it, and what training does by default.
    """

    kind: Kind
    severity: Severity
    file: str
    object: int | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """The finding as it stands in the JSON report."""
        return asdict(self)


def finding(
    kind: Kind,
    severity: Severity,
    file: str,
    what: str,
    remedy: str,
    *,
    object: int | None = None,
    train: str = "",
) -> Finding:
    """A finding whose detail reads "what; remedy (train: policy)".

    ``train`` is what training does where the kind's default policy does not say it all.
    """
    policy = f"train: {CHOICES[kind].default}{f', {train}' if train else ''}"
    return Finding(kind, severity, file, object, f"{what}; {remedy} ({policy})")
