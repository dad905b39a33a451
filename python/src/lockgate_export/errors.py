"""What can go wrong. Every error says what, where and what to do; warnings are for exports that are right but lack something."""

from __future__ import annotations


class ExportError(Exception):
    """The model cannot be exported, or not as asked."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        place = f" ({where})" if where else ""
        advice = f"\nhint: {hint}" if hint else ""
        super().__init__(f"{what}{place}{advice}")


class ExportWarning(UserWarning):
    """The export is right, but something that was hoped for is not in it."""


def missing_package(package: str, extra: str | None = None, purpose: str | None = None) -> ExportError:
    """The error for a package that an export needs and that is not installed."""
    wanted = f"lockgate-export[{extra}]" if extra else package
    reason = f", which is needed {purpose}," if purpose else ""
    return ExportError(f"the package `{package}`{reason} is not installed", hint=f"pip install '{wanted}'")
