"""Tells what is wrong with the controller, and how to mend it; changes nothing."""

from controller.doctor.examination import examine

__all__ = ["examine"]
