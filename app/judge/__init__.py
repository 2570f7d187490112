"""The Judge tab: start an evaluation, and look at its results.

tab            the list of evaluations, and the sections below it
form           the form of a new evaluation
form_choices   the values of that form, and the request they make; no gradio
result_panel   one evaluation: verdict, tables, figures, answers, downloads
ratings_panel  blind ratings by people
view           progress and costs as text; no gradio
result_view    the verdict as text and rows; no gradio
answer_view    single answers as HTML; no gradio
"""
