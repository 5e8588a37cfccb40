"""Passwords to plant in tests."""

PLAIN = [
    "Zq7xYw9kL",
    "Zq7_xY-w9k",
    "correct horse",
    "Zq7/xYw+9k==",
    "Zq7'xYw9k",
    'Zq7"xYw9k',
    "Zq7@xYw:9k",
]
"""What programs and shells treat differently."""
