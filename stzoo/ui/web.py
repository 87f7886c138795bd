"""Gradio as stzoo uses it: no telemetry, a theme with the system's own fonts, and how things look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from stzoo.errors import DependencyMissing

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read once, when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError:
    raise DependencyMissing("a demo needs gradio", "Run: pip install 'stzoo[demo]'") from None

__all__ = ["CSS", "gr", "in_browser", "theme"]

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Calm: slate and teal, little shadow, fonts that are there already."""
    return gr.themes.Base(
        primary_hue="teal", secondary_hue="slate", neutral_hue="slate", radius_size="md", font=_SANS, font_mono=_MONO
    ).set(
        block_shadow="none",
        button_primary_shadow="none",
        block_label_text_weight="500",
        block_label_text_color="*neutral_600",
        # Contrast of 4.5 and more (WCAG AA) on every background these are on, light and dark.
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        link_text_color="*secondary_700",
        link_text_color_dark="*secondary_300",
        link_text_color_visited="*secondary_700",
        link_text_color_visited_dark="*secondary_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def in_browser(outputs: Sequence[Any], value: str) -> dict[str, Any]:
    """Options of an event that gives all ``outputs`` the ``value`` (JavaScript) at once, without asking the server."""
    values = f"[{', '.join([value] * len(outputs))}]" if len(outputs) > 1 else value
    return {"fn": None, "outputs": list(outputs), "js": f"() => ({values})", "api_visibility": "private"}


CSS = """
.gradio-container { min-width: 0; max-width: min(72rem, 100%) !important; margin: 0 auto !important; }
.nav-holder { display: none !important; }
.stzoo-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); gap: 1rem;
  list-style: none; padding: 0; margin: 0; }
.stzoo-cards li { margin: 0; padding: 0; }
.stzoo-cards a { display: flex; flex-direction: column; height: 100%; overflow: hidden; text-decoration: none;
  color: var(--body-text-color); background: var(--block-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); }
.stzoo-cards a:hover { border-color: var(--primary-500); }
a:focus-visible, button:focus-visible { outline: 3px solid var(--primary-500); outline-offset: 2px; }
.stzoo-cards .picture { display: flex; align-items: center; justify-content: center; height: 6.5rem;
  background: var(--background-fill-secondary); color: var(--body-text-color-subdued); font-size: .85rem; }
.stzoo-cards img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; margin: 0; }
.stzoo-cards .text { padding: .75rem 1rem 1rem; overflow-wrap: anywhere; text-align: left; }
.stzoo-cards h3 { margin: 0 0 .25rem; font-size: 1rem; }
.stzoo-cards p { margin: 0; font-size: .9rem; color: var(--body-text-color-subdued); }
.stzoo-tags { display: flex; flex-wrap: wrap; gap: .4rem; margin: .5rem 0 !important; }
.stzoo-tags span { padding: .1rem .6rem; border-radius: 99rem; font-size: .8rem; color: var(--body-text-color);
  border: 1px solid var(--border-color-primary); }
.stzoo-tags .forbidden { color: #7c2d12; background: #ffedd5; border-color: #fb923c; font-weight: 600; }
.dark .stzoo-tags .forbidden { color: #ffedd5; background: #7c2d12; }
[data-testid="status-tracker"]:has(> .error) { display: none !important; } /* the toast says what went wrong */
.stzoo-numbers td, .stzoo-numbers th { word-break: normal; overflow-wrap: normal; padding: .35rem .6rem !important; }
.stzoo-numbers td:nth-child(-n+2) { white-space: nowrap; font-variant-numeric: tabular-nums; }
@media (max-width: 70rem) { .stzoo-numbers td:first-child { white-space: normal; overflow-wrap: anywhere; } }
.stzoo-pixels video, .stzoo-pixels img { image-rendering: pixelated; }
.stzoo-pixels .image-frame, .stzoo-pixels .image-frame img { width: 100% !important; height: 100% !important; object-fit: contain; }
.stzoo-files tr { padding: .15rem .25rem !important; }
.stzoo-files td:nth-child(3) { display: none; }
.stzoo-files .filename { flex: 1; flex-wrap: wrap; max-width: none !important; }
.stzoo-files .stem { white-space: normal !important; overflow-wrap: anywhere; }
body:not(.dark) .cm-line, body:not(.dark) code .token { filter: brightness(.55); } /* pale on white otherwise */
/* The viewer of Gaussians has black behind them; most learnt before white. */
.stzoo-scene canvas[style*="rgb(0, 0, 0)"] { background: white !important; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""
