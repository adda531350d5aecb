"""What must not be shown or stored: passwords and tokens, taken out of addresses and texts."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"

# A lone name before the @ is a user's here; in any other address it may be a token.
_SHOWS_USER = re.compile(r"(postgres|mysql|mariadb|mssql|oracle|sqlite|ssh|sftp|git\+ssh)", re.I)
_MOST_USER = 32  # characters; a token in a user's place is longer
_HOST_AND_PORT = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
# At most so long a scheme: else a text of n letters would be looked through n times.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,39}://[^\s\"'<>|]+")
_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|token|secret|signature|credential|api_?key|access_?key|^sig$|^auth$",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(\b(?:\w*(?:password|passwd|passphrase|secret|(?:secret|private|account|access|api)[_-]?key)"
    r"|(?:\w*_)?(?:pwd|token))[\"']?\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|[^\s&;,'\")]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b(Bearer|Basic|authorization:\s*token)(\s+)[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE
)
_KNOWN_FORM = re.compile(
    r"\b(hf_|gh[pousr]_|github_pat_|glpat-|sk-)[A-Za-z0-9_-]{16,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b"
)
# Variables that hold a secret by their names. PWD and OLDPWD are folders.
_SECRET_VARIABLE = re.compile(
    r"(^|_)(TOKEN|PASSWORD|PASSWD|PASS|PASSPHRASE|SECRET|KEY|KEY_ID|PAT|SAS|CONNECTION_STRING"
    r"|CREDENTIALS)_?\d*$|^PGPASSWORD$|^MYSQL_PWD$",
    re.IGNORECASE,
)
# Variables that hold an address by their names: of stores, proxies, package indexes.
_ADDRESS_VARIABLE = re.compile(r"(^|_)(URI|URL|ENDPOINT|PROXY)$", re.IGNORECASE)
_LEAST_SECRET = 6  # characters: a shorter one stands in ordinary words too


def redact_uri(uri: str) -> str:
    """An address as it may be shown: without password, token and secret options.

    Users' passwords are often not encoded as an address wants them: everything up to the last @
    that can belong to the name and password is taken for them.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return _without_options(uri)
    cut = _end_of_user(rest)
    if cut < 0:
        return f"{scheme}://{_without_options(rest)}"
    user = _shown_user(scheme, rest[:cut])
    return f"{scheme}://{user}@{_without_options(rest[cut + 1 :])}"


def holds_password(uri: str) -> bool:
    """Whether an address must not be shown or written down."""
    return redact_uri(uri) != uri


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without the secrets that are in the environment, and without what looks like one."""
    secrets, named_addresses = _telling(tuple(environment))
    addresses = [value for name in named_addresses if (value := environment[name])]
    for value in addresses:
        text = text.replace(value, redact_uri(value))
    for secret in _secrets({environment[name] for name in secrets}, addresses):
        text = text.replace(secret, HIDDEN)
    text = _ADDRESS.sub(lambda found: redact_uri(found[0]), text)
    text = _ASSIGNED.sub(rf"\g<1>{HIDDEN}", text)
    text = _HEADER.sub(rf"\g<1>\g<2>{HIDDEN}", text)
    return _KNOWN_FORM.sub(HIDDEN, text)


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as they may be kept: MLflow notes where a project was run from, such as a git remote,
    with any password and token that the address holds."""
    return {
        name: _ADDRESS.sub(lambda found: redact_uri(found[0]), value)
        if name.startswith("mlflow.")
        else value
        for name, value in tags.items()
    }


def _secrets(values: set[str], addresses: Iterable[str]) -> list[str]:
    """Those values and what is secret of the addresses, longest first: one may hold another."""
    found = values
    for address in addresses:
        rest = address.partition("://")[2]
        user, _, password = rest[: max(0, _end_of_user(rest))].partition(":")
        secret = password or user
        if password or not _SHOWS_USER.match(address):
            # A driver's message has it decoded, or a piece, where the address was no good.
            found |= {secret, unquote(secret), *re.split(r"[/\[\]?#:]", secret)}
        found |= {value for value in _option_values(rest) if value}
    return sorted((s for s in found if len(s) >= _LEAST_SECRET), key=len, reverse=True)


@lru_cache(64)  # every error and log record asks about the same names
def _telling(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Of variables those that hold a secret, and those that hold an address."""
    patterns = _SECRET_VARIABLE, _ADDRESS_VARIABLE
    secrets, addresses = ([n for n in names if pattern.search(n)] for pattern in patterns)
    return secrets, addresses


def _option_values(rest: str) -> list[str]:
    """The values of an address's options whose names say that they are secret, decoded."""
    options = (part.partition("=") for part in re.split(r"[&;#]", rest.partition("?")[2]))
    return [unquote_plus(value) for name, _, value in options if _SECRET_NAME.search(name)]


def _end_of_user(rest: str) -> int:
    """Where, behind "://", the @ stands that ends name and password; -1 for none."""
    last = rest.rfind("@")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if last < 0 or not ("@" in authority or ":" in authority):
        return -1
    query = rest.find("?")
    if 0 <= query < last and "=" in rest[query:last]:  # this @ is an option's
        before = rest.rfind("@", 0, query)
        if before >= 0 or _HOST_AND_PORT.fullmatch(authority):
            return before
    return last


def _shown_user(scheme: str, user_and_password: str) -> str:
    user, colon, password = user_and_password.partition(":")
    is_user = password not in ("", "x-oauth-basic") or bool(_SHOWS_USER.match(scheme))
    shown = user if is_user and len(user) <= _MOST_USER else HIDDEN
    return f"{shown}:{HIDDEN}" if colon and shown != HIDDEN else shown


def _without_options(rest: str) -> str:
    """Without the values of options (behind a "?") whose names say that they are secret."""
    mark = next((character for character in rest if character in "?#"), "")
    if not mark:
        return rest
    place, _, query = rest.partition(mark)
    parts = re.split(r"([&;#])", query)
    return place + mark + "".join(_option(part) for part in parts)


def _option(part: str) -> str:
    name, equals, value = part.partition("=")
    # A driver's own address may be the value of one (odbc_connect).
    secret = _SECRET_NAME.search(unquote_plus(name)) or _ASSIGNED.search(unquote_plus(value))
    return f"{name}={HIDDEN}" if equals and value and secret else part
