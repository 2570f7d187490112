"""The Compare tab: one prompt to two, three or four variants, side by side, and a vote.

tab          controls, handlers and events
comparison   the state of a comparison: turns of each variant, blind or not, votes; no gradio
judge_panel  a judge for the answers of a comparison
view         columns, votes and win counts as text and rows; no gradio
"""
