"""Responses that outlive their request: kept, found again, continued, made in the background.

Engines know nothing of that: a conversation goes to whichever has room, with all of its earlier turns in the input.
"""
