"""The documentation site: the Markdown pages of this folder, built with `make docs`."""

from __future__ import annotations

project = "Gatehouse"
author = "The Gatehouse authors"
copyright = "The Gatehouse authors, Apache-2.0"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "openapi.yaml"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nitpicky = True
# `text` blocks and our own drawings are no language.
highlight_language = "none"

html_theme = "furo"
html_title = "Gatehouse"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6a63", "color-brand-content": "#0b6a63"},
    "dark_css_variables": {"color-brand-primary": "#54cfc2", "color-brand-content": "#54cfc2"},
    "footer_icons": [],
}
