"""Every page and picture, made again from the result files."""

import os
from functools import partial
from pathlib import Path

from apps.common.compare.markers import fill, pages
from apps.common.compare.page import render
from apps.common.compare.places import config_file, results_file, results_folder
from apps.common.compare.profile import profile_names
from apps.common.compare.results import read_results
from apps.common.compare.summary import summary
from apps.common.discovery import apps_folder, project_root
from apps.common.errors import UserError
from apps.common.files import write_text

ALL = "all"
"""In a marker, instead of an app."""


def refresh_pages() -> None:
    """Write again all that is made from `docs/results/*.json`: pictures, and the parts between markers.

    Raises `UserError`, with no page changed, where a result file or a marker is not as it should be.
    """
    from apps.common.compare.picture import draw  # late: a cell needs no matplotlib

    pictures = {}
    for path in sorted(results_folder().glob("*.json")):
        if "intervals" in (results := read_results(path)):
            pictures[path.with_suffix(".svg")] = draw(results)
    for path, text in {**stale_pages(), **pictures}.items():
        write_text(path, text)


def stale_pages() -> dict[Path, str]:
    """Return the pages that differ from what the result files say, with the text that they should have."""
    stale = {}
    for page in pages(project_root(), apps_folder()):
        text = page.read_text(encoding="utf-8")
        if (fresh := fill(page, text, partial(section, page))) != text:
            stale[page] = fresh
    return stale


def section(page: Path, app: str, profile: str) -> str:
    """Return what stands between the markers of (app, profile) on a page; in brief at the top of the tree.

    For the app `all` that is one table of all apps.
    """
    if app == ALL:
        return summary(profile)
    known = profile_names(config_file(app))
    if profile not in known:
        raise UserError(f"{page} has a marker of the profile {profile}: use one of {', '.join(known)}.")
    path = results_file(app, profile)
    if not path.exists():
        return f"No results yet: `make compare APP={app} PROFILE={profile}` writes them."
    picture = _address(path.with_suffix(".svg"), page)
    return render(read_results(path), picture, slices=page.parent != project_root())


def _address(picture: Path, page: Path) -> str | None:
    """Return where a page finds a picture; None for an app's README, as the site shows it elsewhere."""
    if page.is_relative_to(apps_folder()):
        return None
    return Path(os.path.relpath(picture, page.parent)).as_posix()
