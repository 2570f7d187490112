"""Turns results of trainings and evaluations into figures and files.

It never imports gradio and never starts a run.

    figures  Plotly figures of losses, row lengths and differences
    files    tables, JSON, a methods paragraph and preference pairs of an evaluation
"""
