"""Which names of variables and options mark a secret."""

import re

_SECRET_WORDS = frozenset(
    {
        "pass",
        "pwd",
        "pw",
        "pat",
        "key",
        "keys",
        "cred",
        "creds",
        "auth",
        "dsn",
        "sas",
        "signature",
        "sig",
    }
    | {"bearer", "hmac", "jwt", "otp", "totp", "mfa", "pin", "salt", "psw", "pswd", "tkn", "netrc"}
    | {"authn", "authorization", "oauth", "oauth2", "csrf"}
)
"""Words in a name that mark a secret; ``_SECRET_PARTS`` mark one anywhere in a name."""

_SECRET_PARTS = re.compile(
    r"passw|passphrase|secret|credential|token|cookie|api_?key|access_?key|private_?key|account_?key"
    r"|(shared|master|pass|auth|ssh|sign(ing)?|deploy|encrypt(ion)?|hmac|crypt|licen[cs]e)_?key"
    r"|conn(ection)?_?str(ing)?|(pass|access|security|verification|pin)_?code|sess(ion)?_?id|webhook"
    r"|personal_?access|kennwort|contrase(n|ñ)a|mot_?de_?passe|(pass|pwd|pw)$",
    re.IGNORECASE,
)
_NO_SECRET_NAMES = frozenset({"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "GIT_ASKPASS", "SSH_ASKPASS"})


def is_secret_name(name: str) -> bool:
    """Return whether a variable or option of this name holds a secret."""
    words = re.split(r"[\W_]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return not _SECRET_WORDS.isdisjoint(words) or bool(_SECRET_PARTS.search(name))


def is_secret_variable(name: str) -> bool:
    """Return whether an environment variable of this name holds a secret, or the path of one."""
    return is_secret_name(name) and name not in _NO_SECRET_NAMES


def is_assigned_secret(name: str) -> bool:
    """Return whether ``name=value`` in a text is a secret; ``key=lambda`` and ``tokens=3`` are not."""
    words = {"key", "keys", "token", "tokens", "sig", "signature", "pin", "pat", "pw", "auth"}
    return name.lower() not in words - {"token"} and is_secret_name(name)
