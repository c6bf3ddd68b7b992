"""Settings from the environment and from files, and their error messages."""

from pathlib import Path

import pytest

from headrace.adapters.kafka.options import GroupProtocol
from headrace.runtime.loading import load, reject_unknown_variables
from headrace.runtime.settings import (
    BadSettings,
    KafkaSettings,
    LogLevel,
    LogSettings,
    ManagementSettings,
)
from tests.support.certificates import Authority


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def test_bootstrap_servers_come_from_the_name_people_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """`KAFKA_BOOTSTRAP_SERVERS` is sufficient. Headrace's own variable overrides it, and the
    command line overrides both.
    """
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1")
    assert "a:1" == load(KafkaSettings).bootstrap_servers
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "b:2")
    assert "b:2" == load(KafkaSettings).bootstrap_servers
    assert "c:3" == load(KafkaSettings, bootstrap_servers="c:3").bootstrap_servers
    assert "b:2" == load(KafkaSettings, bootstrap_servers=None).bootstrap_servers


def test_variables_without_our_prefix_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may use a variable with the plain name of a field."""
    monkeypatch.setenv("BOOTSTRAP_SERVERS", "a:1")
    monkeypatch.setenv("LEVEL", "debug")
    assert "127.0.0.1:9092" == load(KafkaSettings).bootstrap_servers
    assert LogLevel.INFO == load(LogSettings).level


def test_sasl_over_tls_reads_its_secrets_from_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The adapters get librdkafka's names. The password is not part of any text form of the
    options.
    """
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    authority = Authority(tmp_path).file
    monkeypatch.setenv("HEADRACE_KAFKA_SSL_CA_FILE", str(authority))
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_USERNAME", "app")
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_PASSWORD_FILE", str(password))
    monkeypatch.setenv("HEADRACE_KAFKA_GROUP_PROTOCOL", "consumer")
    options = load(KafkaSettings).options("headrace-test")
    expected = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.pem": authority.read_text(),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "app",
        "sasl.password": "s3cret",
    }
    assert expected == dict(options.credentials.settings)
    assert GroupProtocol.CONSUMER == options.group_protocol
    assert "s3cret" not in repr(options)


def test_oauthbearer_gets_its_tokens_from_an_endpoint(tmp_path: Path) -> None:
    """With the names of librdkafka; the secret is not part of any text form of the options."""
    secret, authority = tmp_path / "secret", tmp_path / "ca.pem"
    secret.write_text("s3cret\n")
    authority.write_text("")
    options = load(
        KafkaSettings,
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_username="app",
        sasl_password_file=secret,
        sasl_token_endpoint="https://login.example.com/token",
        sasl_token_scope="kafka",
        sasl_token_ca_file=authority,
    ).options("headrace-test")
    assert dict(options.credentials.settings) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "app",
        "sasl.oauthbearer.client.secret": "s3cret",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token",
        "sasl.oauthbearer.scope": "kafka",
        "https.ca.location": str(authority),
    }
    assert "s3cret" not in repr(options)


@pytest.mark.parametrize(
    "endpoint", [None, "login.example.com/token", "ftp://a/b", "https://u:p@a/token"]
)
def test_oauthbearer_needs_a_token_endpoint(tmp_path: Path, endpoint: str | None) -> None:
    """A URL without credentials; the error names the variable."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    with pytest.raises(BadSettings, match="HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT") as caught:
        load(
            KafkaSettings,
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            sasl_username="app",
            sasl_password_file=secret,
            sasl_token_endpoint=endpoint,
        )
    assert "u:p" not in str(caught.value)


def test_sasl_without_a_password_says_which_setting_is_missing() -> None:
    """The error names the variable to set."""
    with pytest.raises(BadSettings, match="HEADRACE_KAFKA_SASL_PASSWORD_FILE"):
        load(KafkaSettings, security_protocol="SASL_SSL", sasl_username="app")


def test_files_that_cannot_be_read_are_named_at_load(tmp_path: Path) -> None:
    """Every setting is named with its path and the reason, before any client is created."""
    files = {
        "ssl_ca_file": tmp_path / "none",
        "ssl_certificate_file": tmp_path,
        "ssl_key_file": tmp_path / "key",
    }
    files["ssl_key_file"].write_text("")
    with pytest.raises(BadSettings) as caught:
        load(
            KafkaSettings,
            security_protocol="SASL_SSL",
            sasl_username="app",
            sasl_password_file=tmp_path / "gone",
            **files,
        )
    assert (
        "HEADRACE_KAFKA_SSL_CA_FILE",
        "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE",
        "HEADRACE_KAFKA_SASL_PASSWORD_FILE",
    ) == caught.value.settings
    assert [
        f"HEADRACE_KAFKA_SSL_CA_FILE: cannot read {tmp_path}/none: No such file or directory",
        f"HEADRACE_KAFKA_SSL_CERTIFICATE_FILE: cannot read {tmp_path}: Is a directory",
        (
            f"HEADRACE_KAFKA_SASL_PASSWORD_FILE: cannot read {tmp_path}/gone: No such file or"
            " directory"
        ),
    ] == str(caught.value).split("; ")


def test_settings_that_exclude_each_other_are_named() -> None:
    """All variables of the message."""
    with pytest.raises(BadSettings) as caught:
        load(KafkaSettings, security_protocol="SASL_SSL")
    assert (
        "HEADRACE_KAFKA_SASL_USERNAME",
        "HEADRACE_KAFKA_SASL_USERNAME_FILE",
    ) == caught.value.settings


def test_files_that_are_not_made_use_of_need_not_be_there(tmp_path: Path) -> None:
    """The same variables may be set for several protocols."""
    none = tmp_path / "none"
    load(KafkaSettings, security_protocol="PLAINTEXT", ssl_ca_file=none, sasl_password_file=none)
    load(KafkaSettings, security_protocol="SSL", sasl_username_file=none)


def test_a_bad_value_is_named_with_what_is_allowed() -> None:
    """The error is one line, without a traceback."""
    with pytest.raises(
        BadSettings, match=r"level: Input should be 'debug', 'info', 'warning' or 'error'"
    ):
        load(LogSettings, level="loud")


def test_every_bad_value_is_named_with_the_variable_that_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several settings classes have a field `port`: its name alone does not say which to correct.
    The value of a variable is never repeated.
    """
    monkeypatch.setenv("HEADRACE_MANAGEMENT_PORT", "70000")
    with pytest.raises(BadSettings) as caught:
        load(ManagementSettings)
    assert "HEADRACE_MANAGEMENT_PORT: Input should be less than or equal to 65535" == str(
        caught.value
    )
    assert ("HEADRACE_MANAGEMENT_PORT",) == caught.value.settings
    monkeypatch.setenv("headrace_log_level", "s3cret")
    monkeypatch.setenv("HEADRACE_LOG_FORMAT", "verbose")
    with pytest.raises(BadSettings) as caught:
        load(LogSettings)
    assert ("HEADRACE_LOG_LEVEL", "HEADRACE_LOG_FORMAT") == caught.value.settings
    assert [
        "HEADRACE_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error'",
        "HEADRACE_LOG_FORMAT: Input should be 'auto', 'pretty' or 'json'",
    ] == str(caught.value).split("; ")


def test_a_value_of_the_command_line_is_not_reported_as_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variable was overridden, so correcting it would change nothing."""
    monkeypatch.setenv("HEADRACE_MANAGEMENT_PORT", "9000")
    with pytest.raises(BadSettings, match=r"^port: Input should be less than or equal to 65535$"):
        load(ManagementSettings, port=70_000)


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    """A typo must not silently mean the default."""
    with pytest.raises(BadSettings, match="did you mean HEADRACE_LOG_LEVEL") as caught:
        reject_unknown_variables([LogSettings], {"HEADRACE_LOG_LEVLE": "debug"})
    assert ("HEADRACE_LOG_LEVLE",) == caught.value.settings
    reject_unknown_variables(
        [LogSettings, KafkaSettings],
        {"HEADRACE_LOG_LEVEL": "debug", "KAFKA_BOOTSTRAP_SERVERS": "x", "PATH": ""},
    )


def test_an_empty_variable_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and charts pass empty strings for unset values."""
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "")
    assert LogLevel.INFO == load(LogSettings).level
