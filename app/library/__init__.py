"""The Library tab: every variant, and everything that can be done with its files.

tab           the table of variants, and transfers
add_model     a model from the Hub, or from files
details       one variant: details, verify, remove, context, speed test
loaded_panel  models in memory, and speeds
snapshot      what the tab shows, read once per tick
view          variants, transfers and speeds as text and rows; no gradio
"""
