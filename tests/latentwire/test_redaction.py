"""Passwords and tokens in addresses and texts."""

import pytest

from latentwire.redaction import clean_tags, holds_password, redact_uri, without_secrets

SECRET = "S3cr3t-value"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://me:{SECRET}@host:5000/a", "http://me:***@host:5000/a"),
        (f"https://{SECRET}@host/me/code.git", "https://***@host/me/code.git"),
        (f"https://{SECRET}:x-oauth-basic@host/code", "https://***@host/code"),
        (f"https://{SECRET}{'x' * 40}:{SECRET}@host/code", "https://***@host/code"),
        (f"postgresql+psycopg://me:p/{SECRET}@x@db:5432/r", "postgresql+psycopg://me:***@db:5432/r"),
        (f"postgresql://me:a?{SECRET}@db/runs", "postgresql://me:***@db/runs"),
        (f"mysql://me:12/{SECRET}@db/runs", "mysql://me:***@db/runs"),
        (f"postgresql://db/r?user=me&password={SECRET}&x=1", "postgresql://db/r?user=me&password=***&x=1"),
        (f"https://host/a?%70assword={SECRET}#b", "https://host/a?%70assword=***#b"),
        (f"https://host/a?X-Amz-Signature={SECRET}", "https://host/a?X-Amz-Signature=***"),
        (f"https://host/a#access_token={SECRET}", "https://host/a#access_token=***"),
        (f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{SECRET}%3B", "mssql+pyodbc:///?odbc_connect=***"),
        (f"odd-scheme://me:{SECRET}@host", "odd-scheme://me:***@host"),
        (f"odd-scheme://{SECRET}@host", "odd-scheme://***@host"),
        (f"http://:{SECRET}@host", "http://:***@host"),
    ],
)  # fmt: skip
def test_what_is_secret_is_taken_out(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown
    assert holds_password(uri) and not holds_password(shown.replace("***@", "").replace("***", ""))
    assert SECRET not in without_secrets(f"cannot use '{uri}': refused", {})


@pytest.mark.parametrize(
    "uri",
    [
        "http://server:5000",
        "https://host/@scope/code",
        "http://host:5000/?mail=me@home",
        "postgresql://me@db/runs",
        "ssh://git@host/code",
        "git@host:me/code.git",
        "sqlite:////a/b.db?timeout=60",
        "mlruns",
        "",
    ],
)
def test_what_is_not_secret_stays(uri: str) -> None:
    assert redact_uri(uri) == uri and not holds_password(uri)


def test_secrets_of_the_environment_are_in_no_text() -> None:
    environment = {
        "HF_TOKEN": "first-secret",
        "AWS_SECRET_ACCESS_KEY": "second-secret",
        "MLFLOW_TRACKING_URI": "postgresql://me:third%40secret@db/runs",
        "PGPASSWORD": "fourth-secret",
        "DB_PASS": "fifth-secret",
        "SERVER_CERT_PASSPHRASE": "sixth-secret",
        "OPENAI_KEY": "seventh-secret",
        "https_proxy": "http://me:eighth-secret@proxy:3128",
        "TOKENIZERS_PARALLELISM": "false",
        "PWD": "/home/me",
    }
    said = (
        "fifth-secret sixth-secret seventh-secret eighth-secret "
        "first-secret, second-secret, third%40secret and (decoded) third@secret or fourth-secret:"
        " false in /home/me"
    )
    shown = without_secrets(said, environment)
    assert "secret" not in shown
    assert shown.endswith("false in /home/me")


@pytest.mark.parametrize(
    "text",
    [
        f'password="{SECRET}"',
        f"connection to server failed: password={SECRET} host=db",
        f"Authorization: Bearer {SECRET}",
        f"authorization: token {SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"{{'hf_token': '{SECRET}', 'a': 1}}",
        f"HF_TOKEN={SECRET}",
        f"PGPASSWORD={SECRET}",
        f"x-api-key: {SECRET}",
        f"AccountKey={SECRET};",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        "hf_" + "a1B2" * 8,
        "AKIA" + "ABCD" * 4,
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    shown = without_secrets(text, {})
    assert SECRET not in shown and "***" in shown and "a1B2" not in shown and "ABCD" not in shown


def test_tags_that_mlflow_made_are_cleaned_and_no_others() -> None:
    tags = {
        "mlflow.source.git.repoURL": f"https://me:{SECRET}@host/code.git",
        "mlflow.source.name": f"https://{SECRET}@host/code.git#sub",
        "mine": "http://a:b@c",
    }
    assert clean_tags(tags) == {
        "mlflow.source.git.repoURL": "https://me:***@host/code.git",
        "mlflow.source.name": "https://***@host/code.git#sub",
        "mine": "http://a:b@c",
    }


def test_a_long_word_before_an_address_hides_no_secret() -> None:
    """Nor does it take hours, as looking through it from each of its letters would."""
    long = f"{'x' * 10**6} {'y' * 100}://me:{SECRET}@host"
    assert without_secrets(long, {}) == long.replace(SECRET, "***")
