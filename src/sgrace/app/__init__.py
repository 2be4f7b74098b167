"""The app: pick a model and a concept, erase, attack, read the scores, take the result away.

What a page does is here without its layout (:mod:`.session`), so that it is tested without a browser. Only
:mod:`.layout` and :mod:`.server` import gradio.
"""
