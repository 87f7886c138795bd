"""Demos in the browser, made from what tasks and models declare. Gradio is imported by :mod:`stzoo.ui.web`, and only when used."""
