"""A study: what was found, its figures, its table, what it cost, and how to run it again."""

from vitrail.report.page import page
from vitrail.report.reading import Folder


def study_page(folder: Folder) -> str:
    """The page of a folder that `vitrail study` wrote."""
    content = folder.json("study.json") or {}
    lead = str(content.get("finding") or "This study has no results yet.")
    kind = f"Study {content.get('study', '')}, {content.get('source', '')}, scale {content.get('scale', '')}"
    title = str(content.get("question") or folder.path.name)
    return page(title, lead, [], kind=kind, problems=folder.problems)
