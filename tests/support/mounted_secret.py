"""A Secret with a certificate, as the kubelet mounts it into a pod."""

from pathlib import Path

from tests.support.certificates import Certificate


class MountedSecret:
    """The files are links into a directory, and another directory takes its place at once when the
    Secret changes.
    """

    def __init__(self, directory: Path, made: Certificate, authorities: bytes = b"") -> None:
        """`authorities` is the content of `ca.crt`."""
        directory.mkdir()
        self._directory, self._versions = directory, 0
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.authorities = directory / "ca.crt"
        self._authorities = authorities
        self.renew(made)
        for each in (self.certificate, self.key, self.authorities):
            each.symlink_to(Path("..data", each.name))

    def renew(self, made: Certificate, authorities: bytes | None = None) -> None:
        """Mount another certificate, and other authorities if they are given."""
        if authorities is not None:
            self._authorities = authorities
        self.write(made.certificate.read_bytes(), made.key.read_bytes())

    def write(self, certificate: bytes, key: bytes) -> None:
        """Mount this content."""
        self._versions += 1
        version = self._directory / f"..version{self._versions}"
        version.mkdir()
        contents = {"tls.crt": certificate, "tls.key": key, "ca.crt": self._authorities}
        for name, content in contents.items():
            (version / name).write_bytes(content)
        link = self._directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._directory / "..data")
