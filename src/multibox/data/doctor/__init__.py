"""The doctor: everything about a data set that would spoil a training, found before it starts."""

from multibox.data.doctor.examine import Report, examine
from multibox.data.doctor.finding import Finding

__all__ = ["Finding", "Report", "examine"]
