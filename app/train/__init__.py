"""The Train tab: a preset, its form, a report on the dataset, and Start.

tab   controls, handlers and events
view  differences, estimates and dataset reports as text; no gradio
"""
