"""The two web apps. They call ``utils`` and hold nothing of their own but pages."""
