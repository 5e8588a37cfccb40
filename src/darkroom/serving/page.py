"""The page on which an image can be dropped: one file without anything from elsewhere."""

import base64
import hashlib
from functools import cache
from pathlib import Path

from darkroom.reporting.templates import load_template
from darkroom.serving.models.interface import ServedModel

_TEMPLATE = Path(__file__).parent / "drop.html.j2"
_SCRIPT = Path(__file__).parent / "page.js"


@cache
def _script() -> str:
    return _SCRIPT.read_text(encoding="utf-8")


def render_page(model: ServedModel) -> str:
    """Return the page for a model, as HTML."""
    info = model.info
    classes = info.description.get("class_names", [])
    return load_template(_TEMPLATE, autoescape=True).render(
        title=f"{info.name}{f' version {info.version}' if info.version else ''}",
        subtitle=f"{len(classes):,} classes; model file {info.sha256[:12]}",
        headline=[],
        remarks=[],
        shown=model.shown,
        columns=list(info.description.get("columns", {})),
        script=_script(),
    )


def page_headers() -> dict[str, str]:
    """Return headers with which a browser loads nothing from elsewhere and runs no other script."""
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
            "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
