"""The Chat tab: a conversation with one variant.

tab   controls, handlers and events
view  conversations, statistics and lists of variants as text; no gradio
"""
