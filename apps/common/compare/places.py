"""Where a comparison reads and writes."""

from dataclasses import dataclass
from pathlib import Path

from apps.common.discovery import project_root


def results_folder() -> Path:
    """Return the folder of the committed result files."""
    return project_root() / "docs" / "results"


def results_file(app: str, profile: str) -> Path:
    """Return `docs/results/<app>.json` for the full profile, `<app>-<profile>.json` for another one."""
    return results_folder() / (f"{app}.json" if profile == "full" else f"{app}-{profile}.json")


def archive_file(app: str, profile: str) -> Path:
    """Return the file beside the result file that keeps its finished cells, such as `<app>.cells.jsonl`."""
    return results_file(app, profile).with_suffix(".cells.jsonl")


def archives(app: str) -> list[Path]:
    """Return the archives of all profiles of an app that there are."""
    found = [*results_folder().glob(f"{app}.cells.jsonl"), *results_folder().glob(f"{app}-*.cells.jsonl")]
    return sorted(found)


def config_file(app: str) -> Path:
    """Return the file that holds an app's profiles."""
    return project_root() / "configs" / app / "compare.yaml"


@dataclass(frozen=True)
class Places:
    """The working files of one app's comparison, in the folder `home`."""

    app: str
    home: Path

    @classmethod
    def of(cls, app: str) -> "Places":
        """Return the places of `app`, below the folder of all runs."""
        from apps.common.runs import runs_root  # late: it brings torch along, which a cell may not need

        return cls(app, runs_root() / "compare" / app)

    @property
    def cells(self) -> Path:
        """One JSON file for each finished cell."""
        return self.home / "cells"

    @property
    def logs(self) -> Path:
        """What each cell printed."""
        return self.home / "logs"

    @property
    def ledger(self) -> Path:
        """One line for each opening of a test split, never shortened."""
        return self.home / "ledger.jsonl"
