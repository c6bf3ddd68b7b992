"""The options for Kafka of a process that runs for long: their credentials are renewed with the
files.
"""

from headrace.adapters.kafka.credential_check import check_credentials
from headrace.adapters.kafka.options import KafkaOptions
from headrace.runtime.credential_files import CredentialFiles
from headrace.runtime.settings import KafkaSettings


def renewed_options(
    kafka: KafkaSettings, client_id: str
) -> tuple[KafkaOptions, CredentialFiles[dict[str, str]]]:
    """Return the options, and the component that renews their credentials. Raises `BadSettings`
    that names a file that cannot be used.
    """
    # The client library itself reads the CA of the token endpoint for each token.
    kept = "HEADRACE_KAFKA_SASL_TOKEN_CA_FILE"
    files = [each for each in kafka.files() if each.setting != kept]
    credentials = CredentialFiles(client_id, files, kafka.security)
    options = kafka.options(client_id, security=credentials.value)
    credentials.renewing(
        options.credentials.renew, verify=lambda settings: check_credentials(options, settings)
    )
    return options, credentials
