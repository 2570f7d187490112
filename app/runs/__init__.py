"""The Runs tab: status, curves, log and card of every training; stop, resume, export.

tab   controls, handlers and events
view  runs as text and rows; no gradio
"""
